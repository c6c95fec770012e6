"""A container engine in a hundred lines less: its containers are nobody's children but its own.

python engine_stub.py serve SOCKET       the engine
python engine_stub.py run SOCKET JSON    its client, as `docker run` is: passes SIGTERM on, and
                                         its death ends nothing

JSON: argv, env, mounts [[source, target]], hidden (a directory that is empty inside), user (true:
a user namespace with root inside, false: real root).
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any


def _inside(order: dict[str, Any]) -> str:
    """What the first process of the container does."""
    lines = [
        f"mount --bind {shlex.quote(source)} {shlex.quote(target)}"
        for source, target in order["mounts"]
    ]
    lines += [f"mount -t tmpfs none {shlex.quote(order['hidden'])}"]
    return " && ".join([*lines, f"exec {shlex.join(order['argv'])}"])


def _contain(order: dict[str, Any]) -> subprocess.Popen[bytes]:
    words = ["unshare", "--mount", "--pid", "--fork", "--mount-proc"]
    words += ["--user", "--map-root-user"] if order["user"] else []
    return subprocess.Popen([*words, "sh", "-c", _inside(order)], env=order["env"], cwd="/")


def _first(engine: int) -> int:
    return int(Path(f"/proc/{engine}/task/{engine}/children").read_text().split()[0])


def _serve_one(connection: socket.socket) -> None:
    with connection, connection.makefile("r") as lines:
        process = _contain(json.loads(lines.readline()))
        threading.Thread(target=_tell_end, args=(connection, process), daemon=True).start()
        for _ in lines:  # each line: a SIGTERM from the client
            os.kill(_first(process.pid), signal.SIGTERM)
        process.wait()


def _tell_end(connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
    status = process.wait()
    try:
        connection.sendall(f"{status}\n".encode())
    except OSError:
        return  # the client has gone, and nobody else wants to know


def serve(path: str) -> None:
    """Start containers until killed."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(path)
    listening.listen()
    while True:
        connection, _ = listening.accept()
        threading.Thread(target=_serve_one, args=(connection,), daemon=True).start()


def run(path: str, order: str) -> int:
    """Have a container started, and end as it ends."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    connection.sendall(order.encode() + b"\n")
    signal.signal(signal.SIGTERM, lambda *_: connection.sendall(b"TERM\n"))
    status = connection.makefile("r").readline()
    return int(status) if status.strip() else 125


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    sys.exit(run(sys.argv[2], sys.argv[3]))
