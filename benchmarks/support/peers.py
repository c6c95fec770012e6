"""The clients we are measured against, in an environment of their own (.cache/peers).

./scripts/bench installs them from PyPI; the project does not depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support.measure import Took, command
from spotwatchd.errors import SpotwatchError

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".cache" / "peers" / "bin"
CLIENTS = ROOT / "benchmarks" / "support" / "clients.py"


@dataclass(frozen=True)
class Server:
    """Where to, and with what environment."""

    endpoint: str
    environment: dict[str, str]
    bucket: str = "bench"


def program(name: str) -> str:
    """The path of a peer's program. Raises SpotwatchError."""
    path = PEERS / name
    if not path.exists():
        raise SpotwatchError(f"{name} is not here", where=str(path), remedy="run ./scripts/bench")
    return str(path)


@dataclass(frozen=True)
class S5cmd:
    """s5cmd with its number of workers, of parts at once for each file, and part size in MiB."""

    workers: int = 256
    concurrency: int = 5
    part: int = 50

    @property
    def name(self) -> str:
        """As it is told on its command line."""
        return f"s5cmd --numworkers {self.workers} cp -c {self.concurrency} -p {self.part}"

    def _run(self, server: Server, source: str, target: str) -> Took:
        words = self.name.split()[1:]
        options = ["--endpoint-url", server.endpoint, "--log", "error"]
        argv = [program("s5cmd"), *options, *words, source, target]
        return command(argv, server.environment)

    def upload(self, server: Server, folder: Path) -> Took:
        """Everything in ``folder``, start of the program included."""
        return self._run(server, f"{folder}/", f"s3://{server.bucket}/s5cmd/")

    def download(self, server: Server, prefix: str, folder: Path) -> Took:
        """Everything below ``prefix`` into ``folder``."""
        return self._run(server, f"s3://{server.bucket}/{prefix}/*", f"{folder}/")


# What can make a difference on few cores; the best is found by trying.
LARGE = (S5cmd(), S5cmd(256, 8, 16), S5cmd(256, 8, 64), S5cmd(8, 4, 64), S5cmd(4, 2, 64))
MANY = (S5cmd(), S5cmd(64), S5cmd(32), S5cmd(16), S5cmd(8))


@dataclass(frozen=True)
class Rclone:
    """rclone with settings for large files."""

    name: str = "rclone copy"

    def upload(self, server: Server, folder: Path) -> Took:
        """Everything in ``folder``."""
        return self._run(server, str(folder), f":s3:{server.bucket}/rclone")

    def _run(self, server: Server, source: str, target: str) -> Took:
        options = ["--s3-provider=Other", "--s3-env-auth", f"--s3-endpoint={server.endpoint}"]
        options += ["--s3-no-check-bucket", "--s3-list-version=2", "--config=", "--transfers=16"]
        options += ["--s3-chunk-size=64M", "--s3-upload-concurrency=4", "--ignore-times"]
        if certificate := server.environment.get("AWS_CA_BUNDLE"):
            options.append(f"--ca-cert={certificate}")
        return command([program("rclone"), "copy", *options, source, target], server.environment)


@dataclass(frozen=True)
class Library:
    """boto3 or obstore, in a process of its own: start and import included."""

    name: str

    def upload(self, server: Server, folder: Path) -> Took:
        """Everything in ``folder``."""
        argv = [program("python"), str(CLIENTS), self.name, server.endpoint, server.bucket]
        return command([*argv, str(folder)], server.environment)


def best(candidates: Sequence[S5cmd], server: Server, folder: Path) -> S5cmd:
    """The fastest of one upload each."""
    times = {each: each.upload(server, folder).seconds for each in candidates}
    return min(times, key=lambda each: times[each])
