"""The tables: what the docs draw is what the core runs from."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from spotwatchd.core import machine, table
from spotwatchd.core.table import DRAIN, LIFE, SAVING, IllegalMove, follow
from spotwatchd.core.words import Life, Saving

CORE = Path(machine.__file__).parent
ROOT = CORE.parent.parent
FORBIDDEN = {
    "asyncio",
    "logging",
    "os",
    "pathlib",
    "random",
    "socket",
    "subprocess",
    "threading",
    "time",
}


def test_the_page_about_transitions_is_fresh() -> None:
    """Or run scripts/draw_transitions.py."""
    command = [sys.executable, str(ROOT / "scripts" / "draw_transitions.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_move_that_is_not_in_the_table_is_refused() -> None:
    """A defect is loud."""
    with pytest.raises(IllegalMove, match="Life done has no arrow 'take'"):
        follow(LIFE, Life.DONE, "take")


@pytest.mark.parametrize("states", [LIFE, SAVING, DRAIN], ids=["life", "saving", "drain"])
def test_every_state_can_be_left_and_reached(states: dict[tuple[object, str], object]) -> None:
    """No dead ends, no islands."""
    kinds = {type(state) for state, _ in states}
    (kind,) = kinds
    assert {state for state, _ in states} == set(kind)  # type: ignore[call-overload]
    assert set(states.values()) == set(kind)  # type: ignore[call-overload]


def _assigned(node: ast.AST) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return {target.attr for target in targets if isinstance(target, ast.Attribute)}


def test_states_change_only_through_the_tables() -> None:
    """Nobody else assigns ``life``, ``saving`` or ``phase``."""
    found = []
    for path in sorted(CORE.glob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        changes = [node for node in nodes if _assigned(node) & {"life", "saving", "phase"}]
        found += [(path.name, ast.unparse(node)) for node in changes]
    assert found == [
        ("drain.py", "self.phase = follow(DRAIN, self.phase, cause)"),
        ("job.py", "self.life = follow(LIFE, self.life, cause)"),
        ("job.py", "self.saving = follow(SAVING, self.saving, cause)"),
    ]


def test_the_core_imports_nothing_that_acts() -> None:
    """No clock, no I/O, no chance, no logging."""
    for path in sorted(CORE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & FORBIDDEN, path.name


def test_saving_ends_in_three_ways_from_both_stages() -> None:
    """Committed, failed or dropped; then idle, asked again, or the newer one."""
    ends = {cause for (state, cause) in table.SAVING if state is Saving.COMMITTING}
    assert {"committed", "failed, still asked", "committed, newer waits"} <= ends
