"""What importing the client costs a training process, beside importing requests.

Each import happens in a fresh interpreter that has just started; medians of 15.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

ROUNDS = 15
_MEASURE = (
    "import sys, time; before = set(sys.modules); begin = time.perf_counter(); import {module}; "
    "print(time.perf_counter() - begin, len(set(sys.modules) - before))"
)


def measure(module: str) -> tuple[float, int]:
    """(seconds, modules loaded) of one import in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE.format(module=module)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, modules = done.stdout.split()
    return float(seconds), int(modules)


def main() -> None:
    names = ("spotwatchd.client", "requests")
    rounds: dict[str, list[tuple[float, int]]] = {name: [] for name in names}
    for _ in range(ROUNDS):  # interleaved: what disturbs one disturbs the other
        for name in names:
            rounds[name].append(measure(name))
    rows = [
        {
            "module": name,
            "import_ms": round(statistics.median(s for s, _ in results) * 1000, 2),
            "modules": results[0][1],
        }
        for name, results in rounds.items()
    ]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
