"""What a benchmark's figures mean, and that our side of them is the real one."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.support.child import Child
from benchmarks.support.measure import Took, command
from benchmarks.support.ours import Committer, moving, seal_links
from benchmarks.support.rows import Pair, below, cheaper, faster
from benchmarks.support.shapes import Shape, change, make
from benchmarks.support.sink import Sink
from spotwatchd.errors import SpotwatchError
from spotwatchd.store.checksum import crc64nvme_of_file

ROOT = Path(__file__).parents[2]
SHAPE = Shape("3 x 100 KiB", 3, 100 << 10)
FIELDS = {"name", "ours", "peer", "peer_name", "ratio", "goal", "met"}


def runner() -> ModuleType:
    """scripts/run_benchmarks.py."""
    path = ROOT / "scripts" / "run_benchmarks.py"
    spec = importlib.util.spec_from_file_location("run_benchmarks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_ratio_of_times_is_a_speed() -> None:
    """Half the seconds are twice the speed; the medians count."""
    pair = Pair([1.0, 9.0, 1.0], [2.0, 2.0, 0.1], "other")
    row = faster("x", pair, 2.0)
    assert row.keys() >= FIELDS
    assert (row["ours"], row["peer"], row["ratio"], row["met"]) == (1.0, 2.0, 2.0, True)
    assert faster("x", pair, 2.1)["met"] is False
    assert faster("x", pair)["met"] is None


def test_a_ratio_of_costs_is_a_cost() -> None:
    """Ours by the peer's, and not more than the goal."""
    pair = Pair([3.0], [5.0], "other", "CPU s")
    assert cheaper("x", pair, 0.6)["met"] is True
    assert cheaper("x", pair, 0.59)["met"] is False
    assert cheaper("x", pair, 0.6)["ratio"] == 0.6


def test_of_memory_the_worst_round_counts() -> None:
    """One round above the limit is enough to miss it."""
    row = below("x", Pair([10.0, 10.0, 200.0], [5.0], "other", "MiB"), 200.0)
    assert (row["ours"], row["met"]) == (200.0, False)


def test_the_readme_shows_what_has_a_goal() -> None:
    """A goal that was missed is as visible as one that was met."""
    pair = Pair([1.0], [2.0], "other")
    lines = runner().markdown([faster("a", pair, 2.0), faster("b", pair, 3.0), faster("c", pair)])
    assert [line.split(" | ")[0] for line in lines.splitlines()[2:]] == ["| a", "| b"]
    assert lines.splitlines()[2].endswith("| yes |")
    assert lines.splitlines()[3].endswith("| **no** |")


def test_the_readme_has_a_place_for_the_table() -> None:
    """Both markers, in order."""
    text = (ROOT / "README.md").read_text()
    assert text.index(runner().BEGIN) < text.index(runner().END)


def test_a_program_that_fails_is_no_figure() -> None:
    """Its time would be the best of all."""
    assert command(["true"], {}).seconds > 0
    with pytest.raises(SpotwatchError, match="ended with 1"):
        command(["false"], {})


def test_our_side_commits_and_restores_what_was_sealed(tmp_path: Path) -> None:
    """The same bytes come back, twice, from a warm process; each time is of new bytes."""
    files = tmp_path / "files"
    make(SHAPE, files)
    with Sink(keep=True, verify=True) as sink:
        with Committer(tmp_path / "machine", sink.store, sink.environment) as committer:
            took = [committer.commit(files) for _ in range(2)]
            job, checkpoint = committer.place.job_path(), committer.checkpoint
        original = {path.name: crc64nvme_of_file(path) for path in files.iterdir()}
        with Child(
            "benchmarks.support.restorer", job, checkpoint, environment=sink.environment
        ) as restorer:
            restorer.read()
            (tmp_path / "to").mkdir()
            took.append(Took(**json.loads(restorer.ask(str(tmp_path / "to")))))
    (restored,) = (tmp_path / "to").glob("step-*")
    assert {path.name: crc64nvme_of_file(path) for path in restored.iterdir()} == original
    assert all(each.seconds > 0 and each.cpu > 0 and each.rss > 10 for each in took)


def test_a_change_reaches_every_file(tmp_path: Path) -> None:
    """Or a client that recognises files would be measured doing nothing."""
    make(SHAPE, tmp_path / "files")
    before = [crc64nvme_of_file(path) for path in sorted((tmp_path / "files").iterdir())]
    change(tmp_path / "files")
    after = [crc64nvme_of_file(path) for path in sorted((tmp_path / "files").iterdir())]
    assert len(set(before) | set(after)) == 2 * SHAPE.files


def test_a_replicator_process_commits_too(tmp_path: Path) -> None:
    """Asked by its daemon's socket, at either weight."""
    make(SHAPE, tmp_path / "files")
    with Sink() as sink, moving(tmp_path, sink.store, sink.environment) as mover:
        mover.weigh("urgent")
        seal = seal_links(tmp_path / "files", mover.checkpoints, 1)
        assert mover.commit(seal) > 0
