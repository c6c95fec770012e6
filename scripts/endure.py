"""Does anything grow? Thousands of checkpoints committed, retained and swept on one store.

One job, owned again and again: its checkpoints share a file that rarely changes, some of its
uploads are left half done, and meanwhile a reader restores what head lists at random instants.
The last line is JSON; the exit status is 0 when nothing leaked and everything was restorable.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from spotwatchd.core.head import Listed
from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.words import Seal
from spotwatchd.errors import Damaged, LeaseLost, SpotwatchError
from spotwatchd.rehearsal.s3server import LocalS3
from spotwatchd.store.base import Backend
from spotwatchd.store.custody import Custody
from spotwatchd.store.heads import read_head
from spotwatchd.store.init import init_store
from spotwatchd.store.job_file import read_job_file
from spotwatchd.store.layout import checkpoints_prefix, file_key
from spotwatchd.store.listing import read_manifest, stored_ids
from spotwatchd.store.local_scan import mark_of
from spotwatchd.store.open import open_backend
from spotwatchd.store.patience import Patience
from spotwatchd.store.restore import restore
from spotwatchd.store.swap import boottime
from spotwatchd.store.sweep import Sweeper
from spotwatchd.wire.seal import sealed_name

JOB = "endure"
SHARED_SIZE = 1 << 20
# The shared file changes this often, an upload is left behind, another owner takes over.
CHANGE_EVERY, ABANDON_EVERY = 7, 5
# Owners that live for less than the grace period would never delete anything.
TAKE_EVERY, OWNERS = 25, 100
# Interpreter, allocator and libraries settle during the first tenth; what grows after it leaks.
WARM = 0.1
RSS_MAY_GROW = 16 << 20
FDS_MAY_GROW = 8


class Quiet:
    """Keeps the last alarm; everything else was expected."""

    def __init__(self) -> None:
        self.last = ""

    def alarm(self, error: SpotwatchError) -> None:
        """See resuming.Tell."""
        self.last = str(error)

    def said(self, line: str) -> None:
        """See resuming.Tell."""


def content(step: int) -> dict[str, bytes]:
    """What the checkpoint of ``step`` holds."""
    shared = random.Random(step // CHANGE_EVERY).randbytes(SHARED_SIZE)
    return {
        "shared.bin": shared,
        "model.pt": random.Random(step).randbytes(5000),
        "n": b"%d" % step,
    }


class Run:
    """The whole of it, in ``base``."""

    def __init__(self, base: Path, url: str, backend: Backend, count: int, seed: int) -> None:
        self.base = base
        self.url = url
        self.backend = backend
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.wrong: list[str] = []
        self.checks = 0
        self.lives = 0
        self.take_every = max(TAKE_EVERY, count // OWNERS)
        self.custody = self._next_life()
        self.sweeper = self._sweeper()
        self.samples: list[dict[str, int]] = []

    def _next_life(self) -> Custody:
        """Another machine, or another boot, with an empty disk."""
        self.lives += 1
        place = self.base / f"life-{self.lives}"
        for name in ("ckpt", "run"):
            (place / name).mkdir(parents=True)
        shutil.rmtree(self.base / f"life-{self.lives - 1}", ignore_errors=True)
        document = {
            "name": JOB,
            "checkpoint_dir": str(place / "ckpt"),
            "store": self.url,
            "socket": "none",
            "runtime_dir": str(place / "run"),
            "machine": f"i-{self.lives}",
            "boot_id": uuid.uuid4().hex,
            "spec": {"version": 1, "name": JOB, "run_id": "run", "argv": ["true"]},
            "lease_seconds": 600,
            "keep_last": 3,
            "grace_seconds": 1.0,
        }
        (place / "job.json").write_text(json.dumps(document))
        custody = Custody(read_job_file(place / "job.json"), self.backend, Quiet())
        custody.take(Patience(boottime() + 60), lambda _: None)
        return custody

    def _sweeper(self) -> Sweeper:
        custody = self.custody
        return Sweeper(self.backend, JOB, custody.job.grace, custody.tenure, custody.in_progress)

    # ------------------------------------------------------------------ the owner

    def save(self, step: int) -> Seal:
        """What the job does."""
        directory = self.custody.job.checkpoint_dir
        temporary = directory / f".saving-{step}"
        temporary.mkdir()
        for name, body in content(step).items():
            (temporary / name).write_bytes(body)
        sealed = directory / sealed_name(step)
        temporary.rename(sealed)
        return Seal(sealed.name, step, mark_of(sealed))

    def abandon(self, step: int) -> None:
        """An upload whose process died: begun, and never heard of again."""
        generation = self.custody.tenure().generation
        lost = CheckpointId(generation, 10**8 + step, step)
        self.backend.begin(file_key(JOB, lost, "model.pt"), Patience(boottime() + 60))

    def step(self, step: int) -> None:
        """One checkpoint, and now and then what else happens in a long life."""
        if step % self.take_every == 0:
            self.custody.release("preempted", 0, None, Patience(boottime() + 60))
            self.custody = self._next_life()
            self.sweeper = self._sweeper()
        if step % ABANDON_EVERY == 0:
            self.abandon(step)
        self.custody.leasing.renew()
        self.custody.commit(self.save(step), "periodic", None, Patience(boottime() + 60))

    def sweep_forever(self) -> None:
        """As the replicator's sweeper does."""
        while not self.over.wait(0.2):
            try:
                self.sweeper.run()
            except LeaseLost:
                continue
            except SpotwatchError as error:
                self.wrong.append(f"sweep: {error}")

    # ------------------------------------------------------------------ the reader

    def read_forever(self) -> None:
        """Restores something at random instants, as another machine would."""
        while not self.over.wait(self.random.uniform(0.05, 1.0)):
            head = read_head(self.backend, JOB)
            if head is not None and head.checkpoints:
                self.read(self.random.choice(head.checkpoints))

    def read(self, entry: Listed) -> None:
        """One checkpoint that was listed a moment ago."""
        scratch = self.base / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            found = restore(self.backend, JOB, entry.id, scratch).path
        except Damaged as error:
            head = read_head(self.backend, JOB)
            if head is None or head.lists(entry.id):
                self.wrong.append(f"{entry.id} is listed and does not restore: {error}")
            return
        self.checks += 1
        if {path.name: path.read_bytes() for path in found.iterdir()} != content(entry.id.step):
            self.wrong.append(f"{entry.id} restores other bytes")

    # ------------------------------------------------------------------ the end

    def sample(self, step: int) -> None:
        """What a leak would show in."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.samples.append(
            {
                "step": step,
                "rss": pages * os.sysconf("SC_PAGE_SIZE"),
                "fds": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - a count is all
                "stored": len(stored_ids(self.backend, JOB)),
            }
        )

    def settle(self) -> None:
        """Sweep until there is nothing left to do, at most a minute."""
        self.sweeper = self._sweeper()
        end = time.monotonic() + 60
        while time.monotonic() < end and (self.strays() or self.open_uploads()):
            self.sweeper.run()
            time.sleep(0.2)

    def strays(self) -> list[str]:
        """Objects that nothing needs."""
        head = read_head(self.backend, JOB)
        needed = set()
        for entry in head.checkpoints if head is not None else ():
            manifest = read_manifest(self.backend, JOB, entry.id)
            needed |= {file_key(JOB, manifest.holder(f), f.path) for f in manifest.files}
            needed.add(file_key(JOB, entry.id, "MANIFEST.json"))
        there = {info.key for info in self.backend.objects(checkpoints_prefix(JOB))}
        return sorted(there - needed)

    def open_uploads(self) -> int:
        """Uploads that were begun and are neither finished nor aborted."""
        return sum(1 for _ in self.backend.open_uploads(checkpoints_prefix(JOB)))

    def report(self, count: int, seconds: float) -> dict[str, Any]:
        """The verdict."""
        warm = next(s for s in self.samples if s["step"] >= count * WARM)
        last = self.samples[-1]
        strays, uploads = self.strays(), self.open_uploads()
        rss, fds = last["rss"] - warm["rss"], last["fds"] - warm["fds"]
        good = not (self.wrong or strays or uploads) and self.checks > 0
        return {
            "name": "endure",
            "store": self.url.partition(":")[0],
            "checkpoints": count,
            "owners": self.lives,
            "seconds": round(seconds, 1),
            "per_second": round(count / seconds, 1),
            "restored": self.checks,
            "wrong": self.wrong[:10],
            "stray_objects": len(strays),
            "open_uploads": uploads,
            "stored_most": max(sample["stored"] for sample in self.samples),
            "rss_mib": round(last["rss"] / 2**20, 1),
            "rss_growth_mib": round(rss / 2**20, 1),
            "fd_growth": fds,
            "met": good and rss <= RSS_MAY_GROW and fds <= FDS_MAY_GROW,
        }


def endure(base: Path, url: str, count: int, seed: int) -> dict[str, Any]:
    """Run it. Returns the report."""
    backend = open_backend(url)
    backend.probe()  # as a replicator does first; it also makes the bucket
    run = Run(base, url, backend, count, seed)
    began = time.monotonic()
    threads = [threading.Thread(target=body) for body in (run.sweep_forever, run.read_forever)]
    for thread in threads:
        thread.start()
    try:
        for step in range(1, count + 1):
            run.step(step)
            if step % max(1, count // 50) == 0:
                run.sample(step)
                print(json.dumps(run.samples[-1]), flush=True)
    finally:
        run.over.set()
        for thread in threads:
            thread.join()
    run.settle()
    run.sample(count)
    return run.report(count, time.monotonic() - began)


def on_s3(base: Path, count: int, seed: int) -> dict[str, Any]:
    """On a SeaweedFS of its own."""
    server = LocalS3(base / "store")
    os.environ.update(server.environment)
    server.start()
    try:
        return endure(base, f"s3://endure/x?endpoint={server.endpoint}", count, seed)
    finally:
        server.kill()


def main() -> int:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=int, default=2000, metavar="N")
    parser.add_argument("--store", choices=("directory", "s3"), default="directory")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scratch", type=Path, help="where to work (default: a temporary folder)")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="endure-", dir=wanted.scratch) as folder:
        base = Path(folder)
        (base / "store").mkdir()
        if wanted.store == "directory":
            init_store(f"file://{base}/store", any_disk=True)
            found = endure(base, f"file://{base}/store", wanted.checkpoints, wanted.seed)
        else:
            found = on_s3(base, wanted.checkpoints, wanted.seed)
    print(json.dumps(found))
    return 0 if found["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
