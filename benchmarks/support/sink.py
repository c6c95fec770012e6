"""The speed-test server (benchmarks/s3sink/): built when its sources changed, and run.

The binary lies in .cache/. TLS needs OpenSSL's headers (Debian: libssl-dev); the rest needs a C
compiler only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from spotwatchd.errors import SpotwatchError

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "benchmarks" / "s3sink"
CACHE = ROOT / ".cache"
BUCKET = "bench"
_FLAGS = ("-O2", "-Wall", "-Wextra", "-pthread")
_TLS = ("-DWITH_TLS", "-lssl", "-lcrypto")


class NoSink(SpotwatchError):
    """The server cannot be built or run here."""


@dataclass(frozen=True)
class Built:
    """A server's binary, and whether it speaks TLS."""

    path: Path
    tls: bool


def build() -> Built:
    """Compile the server, or find it compiled. Raises NoSink."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoSink(
            "the speed-test server needs a C compiler",
            where=str(SOURCES),
            remedy="apt-get install gcc libc6-dev libssl-dev",
        )
    CACHE.mkdir(exist_ok=True)
    said = ""
    for tls in (True, False):
        target = CACHE / f"s3sink-{_digest()}{'' if tls else '-plain'}"
        said = "" if target.exists() else _compile(compiler, target, tls=tls)
        if not said:
            return Built(target, tls)
    raise NoSink(
        f"the speed-test server does not compile: {said}",
        where=str(SOURCES),
        remedy="apt-get install gcc libc6-dev libssl-dev",
    )


def _digest() -> str:
    summed = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        summed.update(path.read_bytes())
    return summed.hexdigest()[:12]


def _compile(compiler: str, target: Path, *, tls: bool) -> str:
    """What the compiler complains of, or "". Atomic: several may begin at once."""
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    sources = sorted(map(str, SOURCES.glob("*.c")))
    command = [compiler, *_FLAGS, "-o", str(partial), *sources, *(_TLS if tls else ())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip() or f"{compiler} ended with {done.returncode}"
    partial.rename(target)
    for old in CACHE.glob("s3sink-" + "?" * 12):
        if not target.name.startswith(old.name):
            old.unlink(missing_ok=True)
    return ""


class Sink:
    """One server; a context manager.

    Attributes:
        endpoint: http://127.0.0.1:PORT, or https.
        store: the URL of an empty store of ours on it.
        environment: what clients need besides: credentials that nobody checks, and what to
            trust.
    """

    def __init__(
        self,
        *,
        keep: bool = False,
        verify: bool = False,
        rate: float = 0.0,
        small: int | None = None,
        tls: bool = False,
    ) -> None:
        """Choose how it runs; nothing runs yet.

        Args:
            keep: large bodies stay, in memory.
            verify: checksums of large bodies are computed, not believed.
            rate: bytes per second over all bodies; 0: as fast as it goes.
            small: the largest body that is kept in any case, bytes.
            tls: https, with a certificate made for this run.
        """
        self._arguments = ["--until-eof", f"--rate={rate}"]
        self._arguments += ["--keep"] * keep + ["--verify"] * verify
        self._arguments += [] if small is None else [f"--small={small}"]
        self._tls = tls
        self._folder = tempfile.TemporaryDirectory(prefix="s3sink-")
        self.endpoint = ""
        self.environment = {
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self._process: subprocess.Popen[str] | None = None

    @property
    def store(self) -> str:
        """See the class."""
        return f"s3://{BUCKET}/store?endpoint={self.endpoint}"

    @property
    def pid(self) -> int:
        """Of the server's process."""
        assert self._process is not None  # noqa: S101 - it was started
        return self._process.pid

    def __enter__(self) -> Self:
        """Start. Raises NoSink."""
        built = build()
        if self._tls:
            self._prepare_tls(built)
        self._process = subprocess.Popen(
            [str(built.path), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        port = self._process.stdout.readline().strip()
        if not port:
            raise NoSink("the speed-test server did not start", where=str(built.path))
        self.endpoint = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        return self

    def _prepare_tls(self, built: Built) -> None:
        if not built.tls:
            raise NoSink(
                "the speed-test server was built without TLS",
                where=str(built.path),
                remedy="apt-get install libssl-dev, then remove that file",
            )
        certificate, key = certificate_in(Path(self._folder.name))
        self._arguments += ["--tls", str(certificate), str(key)]
        self.environment["AWS_CA_BUNDLE"] = str(certificate)
        self.environment["SSL_CERT_FILE"] = str(certificate)

    def __exit__(self, *_: object) -> None:
        """Stop."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._folder.cleanup()


def certificate_in(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key. Raises NoSink."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoSink("no certificate", where="openssl", remedy="apt-get install openssl") from error
    return certificate, key
