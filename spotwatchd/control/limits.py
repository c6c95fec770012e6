"""How much one caller may take, each limit with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of the socket. Sizes in bytes, times in seconds.

    Attributes:
        body_bytes: a job with its whole environment: execve itself stops at a few MiB, real
            environments stay below 100 KiB.
        small_body_bytes: every other body, which has no list and no map.
        replicator_body_bytes: an event of a replicator, whose state may list checkpoints.
        header_bytes: one header line, and the request line.
        headers: header lines of one request.
        connections: at once. Also capped by the process's own limit of open files.
        connections_per_uid: at once for one user other than root, so that no user can lock
            the others out; 1,000 ranks of one user fit.
        reserved: connections of the total that only root and the daemon's user may take.
        reserved_files: open files kept for everything else in the daemon.
        idle_seconds: without a complete request head before a connection is closed.
        body_seconds: for the body to arrive after the head.
        linger_seconds: for a refused sender to read why.
        heartbeat_seconds: between two empty lines of a quiet event stream (wire/http.py).
        stream_bytes: unread bytes of an event stream before it ends with an overflow line.
        close_seconds: for requests in progress when the server closes.
        backlog: connections that wait to be accepted. connect() on a Unix socket fails at once
            (EAGAIN) for a client with a time-out when it is full, so 1,000 ranks that start
            together must fit; Linux caps it at net.core.somaxconn (4096).
    """

    body_bytes: int = 1 << 20
    small_body_bytes: int = 16 << 10
    replicator_body_bytes: int = 256 << 10
    header_bytes: int = 8 << 10
    headers: int = 64
    connections: int = 4096
    connections_per_uid: int = 1024
    reserved: int = 64
    reserved_files: int = 256
    idle_seconds: float = 30.0
    body_seconds: float = 10.0
    linger_seconds: float = 2.0
    heartbeat_seconds: float = 5.0
    stream_bytes: int = 256 << 10
    close_seconds: float = 2.0
    backlog: int = 4096
