"""A checkpoint that is larger than this machine's memory: committed, restored, memory measured.

The checkpoint is sparse, with a few MiB of real bytes sprinkled over it, on a directory store
that keeps its holes: so it needs hardly any disk, and every byte of it is still read, summed and
compared. Commit and restore are each a process of its own, whose peak of resident memory counts.

Prints a list of rows. Commits nothing if the store would fill its holes.

    python -m benchmarks.larger_than_memory [--gib 30]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.words import Seal
from spotwatchd.errors import SpotwatchError
from spotwatchd.store.custody import Custody
from spotwatchd.store.init import init_store
from spotwatchd.store.job_file import read_job_file
from spotwatchd.store.local_scan import mark_of
from spotwatchd.store.open import open_backend
from spotwatchd.store.patience import Patience
from spotwatchd.store.restore import restore
from spotwatchd.wire.seal import sealed_name

ROOT = Path(__file__).resolve().parents[1]
MIB, GIB = 1 << 20, 1 << 30
LIMIT = 200.0  # MiB
JOB, STEP = "sparse", 1
# More blocks than this, and somebody filled the holes.
_MOST_ON_DISK = GIB


class Aloud:
    """Alarms go to stderr: with one, something else was measured."""

    def alarm(self, error: SpotwatchError) -> None:
        """See resuming.Tell."""
        print(f"larger_than_memory: {error}", file=sys.stderr)

    def said(self, line: str) -> None:
        """See resuming.Tell."""


def peak() -> float:
    """The most memory of this process so far, MiB (proc(5): VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SpotwatchError("this kernel does not say VmHWM", where="/proc/self/status")


def make_sparse(path: Path, size: int) -> dict[int, bytes]:
    """A file of ``size`` bytes, nearly all of them holes; returns what is in it, by offset."""
    chance = random.Random(size)
    places = [0, size - MIB, *(chance.randrange(0, size - MIB) for _ in range(6))]
    content: dict[int, bytes] = {}
    with path.open("wb") as file:
        file.truncate(size)
        for at in places:
            body = chance.randbytes(MIB)
            file.seek(at)
            file.write(body)
            content[at] = body
    return content


def job_file(home: Path) -> Path:
    """The job's document, as a daemon writes it."""
    for name in ("run", "ckpt"):
        (home / name).mkdir(exist_ok=True)
    document = {
        "name": JOB,
        "uid": os.getuid(),
        "gid": os.getgid(),
        "checkpoint_dir": str(home / "ckpt"),
        "checkpoint_glob": None,
        "store": f"file://{home}/store",
        "socket": str(home / "s"),
        "runtime_dir": str(home / "run"),
        "machine": "i-benchmark",
        "boot_id": "boot",
        "spec": {"version": 1, "name": JOB, "run_id": "run", "argv": ["true"]},
        "lease_seconds": 3000.0,
        "keep_last": 3,
        "keep_every": 0,
        "grace_seconds": 60.0,
    }
    path = home / "job.json"
    path.write_text(json.dumps(document))
    return path


def commit(home: Path) -> dict[str, Any]:
    """In a process of its own: take the job, commit what is sealed."""
    job = read_job_file(home / "job.json")
    custody = Custody(job, open_backend(job.store), Aloud())
    custody.take(Patience(), lambda _: None)
    began = time.monotonic()
    seal = Seal(sealed_name(STEP), STEP, mark_of(job.checkpoint_dir / sealed_name(STEP)))
    checkpoint = custody.commit(seal, "periodic", None, Patience())
    return {"id": checkpoint, "seconds": time.monotonic() - began, "peak": peak()}


def bring(home: Path, checkpoint: str) -> dict[str, Any]:
    """In a process of its own: restore into an empty directory."""
    job = read_job_file(home / "job.json")
    found = CheckpointId.find(checkpoint)
    assert found is not None  # noqa: S101 - ``commit`` answered it
    done = restore(open_backend(job.store), JOB, found, home / "to")
    return {"fetched": done.fetched, "seconds": done.seconds, "peak": peak()}


def in_child(*words: str) -> dict[str, Any]:
    """This program again. Raises SpotwatchError when it fails."""
    argv = [sys.executable, "-m", "benchmarks.larger_than_memory", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SpotwatchError(f"{words[0]} ended with {done.returncode}", where=" ".join(argv))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def on_disk(folder: Path) -> int:
    """Bytes that the files below ``folder`` really take."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def start(home: Path, size: int) -> dict[int, bytes]:
    """A store, a job, a sealed checkpoint; returns what is in it."""
    (home / "store").mkdir(parents=True)
    init_store(f"file://{home}/store")
    job_file(home)
    saving = home / "saving"
    saving.mkdir()
    content = make_sparse(saving / "state.bin", size)
    saving.rename(home / "ckpt" / sealed_name(STEP))
    return content


def keeps_holes(home: Path) -> bool:
    """Whether a checkpoint's holes are still holes in the store: tried with a small one."""
    start(home, 256 * MIB)
    in_child("commit", str(home))
    return on_disk(home / "store") < 64 * MIB


def differs(path: Path, size: int, content: dict[int, bytes]) -> bool:
    """Whether a restored file is not what was committed, where it is not a hole."""
    with path.open("rb") as file:
        for at, body in content.items():
            file.seek(at)
            if file.read(len(body)) != body:
                return True
    return path.stat().st_size != size or on_disk(path.parent) > _MOST_ON_DISK


def row(name: str, mib: float, size: int, seconds: float) -> dict[str, Any]:
    """A figure beside the limit."""
    return {
        "name": f"larger than memory, {name}",
        "ours": round(mib, 1),
        "peer": LIMIT,
        "peer_name": "limit, MiB of resident memory",
        "ratio": round(mib / LIMIT, 3),
        "goal": f"< {LIMIT:.0f} MiB",
        "met": mib < LIMIT,
        "unit": "MiB",
        "gib": size / GIB,
        "seconds": round(seconds, 1),
    }


def measure(size: int, home: Path) -> list[dict[str, Any]]:
    """Both rows. Raises SpotwatchError."""
    if not keeps_holes(home / "small"):
        raise SpotwatchError(
            "the directory store fills a checkpoint's holes",
            where=str(home),
            remedy="use a file system that can keep holes; the disk would be filled",
        )
    content = start(home / "large", size)
    committed = in_child("commit", str(home / "large"))
    restored = in_child("restore", str(home / "large"), committed["id"])
    found = home / "large" / "to" / sealed_name(STEP) / "state.bin"
    if restored["fetched"] != size or differs(found, size, content):
        raise SpotwatchError("what was restored is not what was committed", where=str(found))
    return [
        row("commit", committed["peak"], size, committed["seconds"]),
        row("restore", restored["peak"], size, restored["seconds"]),
    ]


def memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def main() -> int:
    """Run and print."""
    if sys.argv[1:2] == ["commit"]:
        print(json.dumps(commit(Path(sys.argv[2]))))
        return 0
    if sys.argv[1:2] == ["restore"]:
        print(json.dumps(bring(Path(sys.argv[2]), sys.argv[3])))
        return 0
    parser = argparse.ArgumentParser(description="a checkpoint larger than memory")
    parser.add_argument("--gib", type=float, default=max(30.0, 1.25 * memory() / GIB))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spotwatch-bench-") as folder:
        rows = measure(int(options.gib * GIB), Path(folder))
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
