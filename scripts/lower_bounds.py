"""Print the lowest versions that the extra ``daemon`` allows, as pip requirements.

Every requirement there must have the form ``name>=version``: a bound that nobody can
read is one that nobody tests.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import tomllib


def lowest(pyproject: Path) -> list[str]:
    """``name==version`` for each requirement of the extra. Raises ValueError."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    pins = []
    for requirement in project["optional-dependencies"]["daemon"]:
        found = re.fullmatch(r"([A-Za-z0-9_.-]+)>=([0-9][0-9.]*)(\s*;.*)?", requirement)
        if found is None:
            raise ValueError(f"{requirement!r} is not of the form name>=version")
        pins.append(f"{found.group(1)}=={found.group(2)}")
    return pins


if __name__ == "__main__":
    print("\n".join(lowest(Path(sys.argv[1]))))
