"""The example training as a subject: what it computed, seen from outside the product."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from spotwatchd.errors import SpotwatchError


def example() -> Path:
    """The example script: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    for place in (package.parent / "examples", package / "examples"):
        if (place / "train_digits.py").exists():
            return place / "train_digits.py"
    raise SpotwatchError(
        "the example training is not installed", where=str(package), remedy="use a checkout"
    )


@dataclass
class Training:
    """A run of examples/train_digits.py.

    Attributes:
        directory: gets the step log and the report.
        steps: of the whole run.
        state_mb: ballast in its state.
        step_seconds: least time of a step.
        script: the program; a copy of it somewhere else does the same.
    """

    directory: Path
    steps: int
    state_mb: int = 0
    step_seconds: float = 0.0
    extra: list[str] = field(default_factory=list)
    script: Path = field(default_factory=example)

    @property
    def _log(self) -> Path:
        return self.directory / "steps.jsonl"

    @property
    def _report(self) -> Path:
        return self.directory / "weights.json"

    def argv(self) -> list[str]:
        """The command line."""
        return [
            *(sys.executable, str(self.script)),
            *("--steps", str(self.steps), "--log", str(self._log), "--weights", str(self._report)),
            *("--state-mb", str(self.state_mb), "--step-seconds", str(self.step_seconds)),
            *self.extra,
        ]

    def alone(self) -> subprocess.Popen[bytes]:
        """Start it without any daemon: the uninterrupted control run."""
        self.directory.mkdir(parents=True, exist_ok=True)
        nowhere = {"SPOTWATCH_SOCKET": str(self.directory / "none.sock")}
        package = Path(__file__).resolve().parent.parent.parent
        with (self.directory / "output.log").open("wb") as output:
            return subprocess.Popen(
                self.argv(),
                cwd=self.directory,
                env={**os.environ, **nowhere, "PYTHONPATH": str(package)},
                stdout=output,
                stderr=output,
            )

    def computed(self) -> list[tuple[int, int, float]]:
        """(step, pid, wall time) of every step computed so far, in order of completion."""
        if not self._log.exists():
            return []
        lines = self._log.read_text().splitlines()
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        return [(int(row["step"]), int(row["pid"]), float(row["t"])) for row in rows]

    def step(self) -> int:
        """The newest step computed, 0 before the first."""
        rows = self.computed()
        return rows[-1][0] if rows else 0

    def computed_twice(self) -> int:
        """Steps that were computed more than once: work that an interruption cost."""
        steps = [step for step, _, _ in self.computed()]
        return len(steps) - len(set(steps))

    def sha256(self) -> str | None:
        """Fingerprint of the final weights, once it is there."""
        if not self._report.exists():
            return None
        try:
            return str(json.loads(self._report.read_text())["weights_sha256"])
        except ValueError:  # being written
            return None
