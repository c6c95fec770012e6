"""A training whose code, secrets, data and interpreter lie on machine A."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from spotwatchd.rehearsal.machine import Machine
from tests.e2e.conftest import STUB, World

ROOT = Path(__file__).resolve().parents[2]
CANARY = "hf_n4iVe-cAnArY-51"
HELPER = "import os, hashlib\nSUM = hashlib.sha256(os.environ['TOKEN'].encode()).hexdigest()\n"


class Project:
    """A directory with code on machine A, and what it needs besides."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.root = world.root / "home" / "project"
        (self.root / "sub").mkdir(parents=True)
        (self.root / "helper.py").write_text(HELPER)
        # It imports its own module, so that it can run only where the whole project is.
        text = STUB.read_text().replace("import json\n", "import json\nimport helper\n", 1)
        text = text.replace(
            "note(resumed=step,", "note(cwd=os.getcwd(), sum=helper.SUM, resumed=step,"
        )
        (self.root / "train.py").write_text(text)
        self.git("init", "--quiet")
        self.secret = world.root / "secret.env"
        self.secret.write_text(f"# for the hub\nexport TOKEN='{CANARY}'\n")
        self.secret.chmod(0o600)
        self.data = world.root / "data"
        self.data.mkdir()
        self.python = world.root / "env" / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        self.python.symlink_to(sys.executable)

    def git(self, *words: str) -> None:
        """Run git in it, as nobody in particular."""
        identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        command = ["git", "-c", "init.defaultBranch=main", *identity, *words]
        subprocess.run(command, cwd=self.root, check=True, capture_output=True)

    def run(self, machine: Machine, *options: str, steps: int = 100_000) -> str:
        """``spotwatch run`` on ``machine``, in the project. Returns what it said."""
        program = [str(self.python), str(self.root / "train.py")]
        words = self.world.argv(steps=steps)[2:]
        command = [sys.executable, "-m", "spotwatchd.cli.main", "run", "--name", "job"]
        command += ["--checkpoint-dir", str(machine.disk / "job"), "--detach", *options]
        done = subprocess.run(
            [*command, "--", *program, *words],
            cwd=self.root / "sub",
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SPOTWATCH_SOCKET": machine.socket,
                "XDG_CACHE_HOME": str(self.world.root / "cache"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def needs(self) -> list[str]:
        """Options that name all that it needs."""
        return ["--env-file", str(self.secret), "--data", str(self.data)]
