"""Draw the core's transition tables into docs/transitions.md.

Usage: draw_transitions.py [--check]

--check writes nothing and exits 1 when the page is stale.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "transitions.md"
sys.path.insert(0, str(ROOT))

from spotwatchd.core import table  # noqa: E402  # the tree it lies in, not an installed one

HEAD = """# The core's transitions

Drawn by `scripts/draw_transitions.py` from `spotwatchd/core/table.py`, the tables that the
core runs from; a test fails when this page is stale. When a cause arises is decided by the handlers
and rules beside it (`core/life.py`, `core/saving.py`, `core/settle.py`, `core/rules.py`).
"""

Table = Mapping[tuple[Any, str], Enum]


def machines() -> list[tuple[str, str, Table, list[str]]]:
    """Title, explanation, table and initial states of each machine."""
    return [
        (
            "Life of a job on this machine",
            "After a restart a job may be `running` or `done`. *Fenced* means: the lease is lost.",
            table.LIFE,
            ["waiting", "running", "done"],
        ),
        (
            "Way of a checkpoint",
            "The same for a notice, a background save, a hint, a request and a stop.",
            table.SAVING,
            ["idle"],
        ),
        (
            "Drain",
            "`open` until every job is settled, `closed` until the machine ends or outlives it.",
            table.DRAIN,
            ["calm"],
        ),
    ]


def arrows(machine: Table) -> dict[tuple[str, str], list[str]]:
    """The causes of each pair of states."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (state, cause), after in machine.items():
        found[str(state.value), str(after.value)].append(cause)
    return found


def diagram(machine: Table, initial: list[str]) -> str:
    """A Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    [*] --> {state}" for state in initial]
    for (before, after), causes in arrows(machine).items():
        lines.append(f"    {before} --> {after}: {' / '.join(causes)}")
    return "\n".join([*lines, "```"])


def rows(machine: Table) -> str:
    """The same as a Markdown table."""
    lines = ["| state | cause | next |", "|---|---|---|"]
    for (state, cause), after in machine.items():
        lines.append(f"| {state.value} | {cause} | {after.value} |")
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, text, machine, initial in machines():
        parts += [f"## {title}", text, diagram(machine, initial), rows(machine)]
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(parts)) + "\n"


def main() -> int:
    """Write or check the page."""
    wanted = page()
    if "--check" in sys.argv[1:]:
        fresh = PAGE.exists() and PAGE.read_text(encoding="utf-8") == wanted
        if not fresh:
            print(f"{PAGE.relative_to(ROOT)} is stale: run scripts/draw_transitions.py")
        return 0 if fresh else 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
