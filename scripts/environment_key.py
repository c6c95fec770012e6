"""Print a short key of everything that decides what belongs into the virtual environment.

The settings of linters in pyproject.toml are left out, so that changing one does not
install everything again. The place of the tree is in: the environment points back to it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import tomllib


def key(root: Path) -> str:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    constraints = (root / "constraints.txt").read_text(encoding="utf-8")
    parts = [project["project"], project["build-system"], constraints, str(root), sys.version]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


if __name__ == "__main__":
    print(key(Path(sys.argv[1]).resolve()))
