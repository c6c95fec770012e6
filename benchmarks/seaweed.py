"""Sealed -> committed on SeaweedFS, where the server limits, beside every client we know.

Each round has a new server with an empty disk, each client the same files in turn, all with their
checksums as they send them. s5cmd sends none; boto3 CRC32; obstore SHA-256; rclone MD5; ours
CRC64NVME of each part and of the whole, enforced by the server. The start of the clients is
included; ours is a warm process.

    python -m benchmarks.seaweed [--rounds 5] [--mib 256]
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.support.measure import Took, command, seconds
from benchmarks.support.ours import Committer
from benchmarks.support.peers import Library, Rclone, S5cmd, Server, program
from benchmarks.support.rows import Pair, Row, faster, parser_of, say
from benchmarks.support.shapes import MIB, Shape, make
from spotwatchd.rehearsal.s3server import LocalS3

GOAL = 0.95
BUCKET = "bench"
SMALL = Shape("1,000 x 64 KiB", 1000, 64 << 10)


def clients(shape: Shape) -> dict[str, S5cmd | Rclone | Library]:
    """Everybody, with settings that suit a slow server and the shape."""
    few = S5cmd(256, 4, 64) if shape.files == 1 else S5cmd(32)
    return {
        "s5cmd": few,
        "rclone": Rclone(),
        "boto3": Library("boto3"),
        "obstore": Library("obstore"),
    }


def one_round(shape: Shape, number: int, found: dict[str, list[Took]]) -> None:
    """A server of its own; who begins changes with the round."""
    with tempfile.TemporaryDirectory(prefix="spotwatch-bench-") as folder:
        home = Path(folder)
        server = LocalS3(home / "weed")
        (home / "weed").mkdir()
        server.start()
        try:
            files = home / "files"
            make(shape, files)
            _everybody(server, files, number, found, shape)
        finally:
            server.kill()


def _everybody(
    server: LocalS3, files: Path, number: int, found: dict[str, list[Took]], shape: Shape
) -> None:
    target = Server(server.endpoint, server.environment, BUCKET)
    ways = clients(shape)
    store = f"s3://{BUCKET}/store?endpoint={server.endpoint}"
    make_bucket = ["--endpoint-url", target.endpoint, "mb", f"s3://{BUCKET}"]
    command([program("s5cmd"), *make_bucket], target.environment)
    order = ["ours", *ways]
    order = order[number % len(order) :] + order[: number % len(order)]
    with Committer(files.parent / "machine", store, server.environment) as committer:
        for name in order:
            way = ways.get(name)
            took = way.upload(target, files) if way else committer.commit(files)
            found.setdefault(name, []).append(took)


def rows_of(shape: Shape, found: dict[str, list[Took]]) -> list[Row]:
    """Beside the fastest, which has the goal, and beside the others."""
    ours = seconds(found.pop("ours"))
    order = sorted(found, key=lambda name: statistics.median(seconds(found[name])))
    return [
        faster(
            f"SeaweedFS {shape.name}{', fastest client' if place == 0 else f', {name}'}",
            Pair(ours, seconds(found[name]), name),
            GOAL if place == 0 else None,
        )
        for place, name in enumerate(order)
    ]


def main() -> int:
    """Run and print."""
    parser = parser_of("sealed -> committed on SeaweedFS, beside every client")
    parser.add_argument("--mib", type=int, default=256, help="size of the large file")
    options = parser.parse_args()
    rows: list[Row] = []
    for shape in (Shape(f"1 x {options.mib} MiB", 1, options.mib * MIB), SMALL):
        print(f"seaweed: {shape.name}", file=sys.stderr)
        found: dict[str, list[Took]] = {}
        for number in range(options.rounds):
            one_round(shape, number, found)
        rows += say(rows_of(shape, found))
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
