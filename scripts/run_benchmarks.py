"""Run benchmarks/*.py and print their rows as one table.

Each benchmark is a program of its own that prints one JSON object, or a list of them, on
its last line. Fields are free; ``name`` comes first. Called by ./scripts/bench.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
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
    done = subprocess.run(
        [sys.executable, str(program)], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    )
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    args = parser.parse_args()
    results = [outcome(program) for program in find(args.names)]
    rows = [row for result in results for row in result or []]
    print(table(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 1 if None in results else 0


if __name__ == "__main__":
    sys.exit(main())
