"""Free TCP ports, and waiting for somebody to listen."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable


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
    raise AssertionError("no free ports")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until it holds. Raises AssertionError naming ``what`` when the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} within {seconds} s"
        time.sleep(0.02)
