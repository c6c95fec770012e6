"""Jobs that somebody forged in the store: none of them runs, each is shown with its reason."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from spotwatchd.errors import Conflict
from spotwatchd.rehearsal.machine import Machine
from spotwatchd.store.open import open_backend
from tests.e2e.conftest import World

PAYLOAD = b"EVIL-PAYLOAD-4711"


def _tar(*members: tuple[str, bytes, str]) -> bytes:
    """A gzipped tar of (name, kind, target of a link), files with the payload."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, kind, target in members:
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, target
            header.size = len(PAYLOAD) if kind == tarfile.REGTYPE else 0
            tar.addfile(header, io.BytesIO(PAYLOAD))
    return gzip.compress(raw.getvalue(), mtime=0)


def _bomb() -> bytes:
    """Ten gigabytes in ten megabytes: gzip members may be strung together."""
    header = tarfile.TarInfo("zeros")
    header.size = 160 << 26
    zeros = gzip.compress(bytes(1 << 26), mtime=0)
    return gzip.compress(header.tobuf(), mtime=0) + zeros * 160


FILE, LINK = tarfile.REGTYPE, tarfile.SYMTYPE
UP = "../" * 12


class Forger:
    """Somebody who may write to the store, and nothing else."""

    def __init__(self, world: World, user: str) -> None:
        self.world, self.user = world, user
        self.ran = world.root / "ran"
        self.ran.mkdir()
        self.backend = open_backend(world.store)

    def spec(self, name: str, **changes: Any) -> dict[str, Any]:
        """Of a job that leaves a trace when it runs."""
        return {
            "version": 1,
            "name": name,
            "run_id": f"run-{name}",
            "argv": ["/bin/sh", "-c", f"touch {self.ran}/{name}"],
            "cwd": "/usr",
            "user": self.user,
            "env": {"PATH": "/usr/bin:/bin"},
            "checkpoint_dir": "/nowhere",
            **changes,
        }

    def put(self, name: str, **changes: Any) -> None:
        """The spec of such a job into the store."""
        self.write(self.spec(name, **changes))

    def write(self, spec: dict[str, Any]) -> None:
        """A spec into the store, over the one that is there."""
        key, body = f"{spec['name']}/spec.json", json.dumps(spec).encode()
        while True:
            there = self.backend.read_document(key)
            try:
                self.backend.write_document(key, body, there.version if there else None)
            except Conflict:
                continue
            return

    def pack(self, name: str, body: bytes, **declared: str) -> None:
        """A job whose code is ``body``."""
        digest = hashlib.sha256(body).hexdigest()
        facts = {"sha256": digest, "size": str(len(body)), "unpacked": "1000", "entries": "10"}
        code = {"kind": "bundle", "root": "/home/a", **facts, **declared}
        self.backend.put_bytes(f"{name}/code/{code['sha256']}.tar.gz", body)
        self.put(name, code=code, cwd="/home/a")


def _jobs(machine: Machine) -> dict[str, Any]:
    return {job["name"]: job for job in machine.get("/v1/status")["jobs"]}


def test_forged_jobs_are_reported_and_leave_no_trace(world: World) -> None:
    """Another user, root, another form of command, paths and links that lead away, a bomb."""
    machine = Machine("m1", world.root / "m1", world.store, settings={"lease": {"seconds": 3.0}})
    world.machines.append(machine)
    forger = Forger(world, machine.user.pw_name)
    forger.put("honest")
    forger.put("other-user", user="mallory")
    forger.put("root", user="root")
    forger.put("argv", argv="touch /tmp/x")
    forger.put("path", env_file="../../etc/shadow")
    forger.pack("traversal", _tar((f"{UP}{world.root}/evil", FILE, "")))
    forger.pack("absolute", _tar((f"{world.root}/evil", FILE, "")))
    forger.pack("links", _tar(("out", LINK, f"{UP}{world.root}"), ("out/evil", FILE, "")))
    forger.pack("digest", _tar(("train.py", FILE, "")), sha256="0" * 64)
    forger.pack("bomb", _bomb(), unpacked=str(4 << 30))
    forger.pack("larger-bomb", b"x", unpacked=str(10 << 30))
    says = {
        "other-user": "as user mallory",
        "root": "run as root",
        "argv": "argv: expected a list",
        "path": "env_file",
        "traversal": "code is refused",
        "absolute": "code is refused",
        "links": "code is refused",
        "digest": "not the bundle that the spec names",
        "bomb": "more than its spec declares",
        "larger-bomb": "code.unpacked",
    }
    before = _tree(world.root, machine)
    machine.boot()
    world.until(
        lambda: all(says[name] in str(_jobs(machine).get(name, {}).get("reason")) for name in says),
        "each is refused in its own words",
    )
    world.until(lambda: _jobs(machine)["honest"]["state"] == "finished", "the honest one runs")
    shown, log = _jobs(machine), machine.log()
    machine.power_off()  # what is on its disk stands still now
    assert {shown[name]["state"] for name in says} == {"blocked"}
    assert all(shown[name]["remedy"] for name in says)
    assert [name for name in says if says[name] not in log] == []
    assert [path.name for path in forger.ran.iterdir()] == ["honest"]
    assert _tree(world.root, machine) == before | {forger.ran / "honest"}
    assert [path for path in machine.root.rglob("*") if _has(path, PAYLOAD)] == []
    assert sum(path.lstat().st_size for path in machine.root.rglob("*")) < 50 << 20


def _tree(root: Path, machine: Machine) -> set[Path]:
    """All but the store and the machine's own disk."""
    apart = (root / "store", machine.root)
    return {path for path in root.rglob("*") if not any(path.is_relative_to(a) for a in apart)}


def _has(path: Path, wanted: bytes) -> bool:
    return path.is_file() and not path.is_symlink() and wanted in path.read_bytes()


def test_a_changed_spec_that_may_not_run_gives_the_lease_back(world: World) -> None:
    """It is found when the job is taken: said, not run, free for others; mended, it runs."""
    first = world.machine()
    forger = Forger(world, first.user.pw_name)
    first.submit("job", world.argv())
    world.reach(5)
    second = world.machine()
    second.submit("job", world.argv())
    world.until(lambda: "lease" in str(second.job("job")["reason"]), "the second waits")
    document = forger.backend.read_document("job/spec.json")
    assert document is not None
    honest = json.loads(document.body)
    trace = ["/bin/sh", "-c", f"touch {forger.ran}/job"]
    forger.write({**honest, "revision": 2, "argv": trace, "env_file": "../../etc/shadow"})
    first.power_off()
    world.until(lambda: "env_file" in str(second.job("job")["reason"]), "it is refused")
    world.until(lambda: world.document("job/lease.json")["held"] is False, "the lease is free")
    assert second.job("job")["attempt"] == 0
    assert second.processes("touch") == []
    forger.write({**honest, "revision": 3})
    world.until(lambda: second.job("job")["state"] == "running", "mended, it runs")
    world.until(lambda: [line for line in world.lines() if "resumed" in line][1:], "it goes on")
    assert list(forger.ran.iterdir()) == []
    assert world.head()["crashes"] == 0
