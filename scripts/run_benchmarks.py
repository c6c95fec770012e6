"""Run benchmarks/*.py and print their rows as one table.

Each benchmark is a program of its own that prints one JSON object, or a list of them, on
its last line. Fields are free; ``name`` comes first. Those that compare with a peer have
``name, ours, peer, peer_name, ratio, goal, met``. Called by ./scripts/bench.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
Row = dict[str, Any]


def find(names: list[str]) -> list[Path]:
    """The programs to run. Exits when a name is unknown."""
    every = {path.stem: path for path in sorted((ROOT / "benchmarks").glob("*.py"))}
    unknown = [name for name in names if name not in every]
    if unknown:
        sys.exit(f"bench: no benchmark {', '.join(unknown)}\n  fix     one of: {', '.join(every)}")
    return [every[name] for name in names] if names else list(every.values())


def rows_of(program: Path) -> list[Row]:
    """Run one benchmark. Raises CalledProcessError when it fails."""
    print(f"bench: {program.stem}", file=sys.stderr)
    command = [sys.executable, "-m", f"benchmarks.{program.stem}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    said = json.loads(done.stdout.strip().splitlines()[-1])
    rows = said if isinstance(said, list) else [said]
    return [{"name": program.stem, **row} for row in rows]


def outcome(program: Path) -> list[Row] | None:
    """The rows of a benchmark, or None when it failed, which is said."""
    try:
        return rows_of(program)
    except (subprocess.CalledProcessError, ValueError, IndexError) as error:
        print(f"bench: {program.stem} failed: {error}", file=sys.stderr)
        return None


def shown(value: Any) -> str:
    """A cell."""
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def table(rows: list[Row]) -> str:
    """Columns in the order in which the fields first appear, one table per set of fields."""
    parts: list[str] = []
    header: list[str] = []
    for row in rows:
        if list(row) != header:
            header = list(row)
            same = [each for each in rows if list(each) == header]
            parts.append(_one_table(header, same))
    return "\n\n".join(dict.fromkeys(parts))


def _one_table(header: list[str], rows: list[Row]) -> str:
    cells = [header, *([shown(row[name]) for name in header] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(header))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def markdown(rows: list[Row]) -> str:
    """The rows that have a goal, as a table for the README."""
    lines = ["| | ours | peer | ratio | goal | met |", "|---|---|---|---|---|---|"]
    for row in rows:
        if row.get("goal") is None:
            continue
        unit = row.get("unit", "")
        ours, peer = (f"{shown(row.get(side, ''))} {unit}".strip() for side in ("ours", "peer"))
        peer = f"{peer} ({row['peer_name']})" if row.get("peer_name") else peer
        met = "yes" if row["met"] else "**no**"
        cells = [row["name"], ours, peer, shown(row.get("ratio", "")), shown(row["goal"]), met]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def write_readme(rows: list[Row]) -> None:
    """Put the table between its markers. Exits when they are not there."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"bench: README.md lacks its markers\n  fix     add {BEGIN} and {END}")
    today = dt.datetime.now(dt.timezone.utc).date()
    said = f"On {today}, with {os.cpu_count()} cores that client and server share:"
    path.write_text(f"{before}{begin}\n{said}\n\n{markdown(rows)}\n{end}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    parser.add_argument("--rounds", type=int, metavar="N", help="interleaved rounds of each")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    args = parser.parse_args()
    if args.rounds:
        os.environ["BENCH_ROUNDS"] = str(args.rounds)
    results = [outcome(program) for program in find(args.names)]
    rows = [row for result in results for row in result or []]
    print(table(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if args.readme:
        write_readme(rows)
    return 1 if None in results else 0


if __name__ == "__main__":
    sys.exit(main())
