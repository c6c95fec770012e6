"""Which Python a command runs in. Standard library only, Python 3.10 too."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

_PYTHON = re.compile(r"python[0-9.]*")
_ASK = (
    "import json, sys; print(json.dumps({'version': '%d.%d.%d' % sys.version_info[:3], "
    "'prefix': sys.prefix, 'base': sys.base_prefix}))"
)
# A cold start from a slow network disk; without an answer nothing is recorded.
_SECONDS = 20.0


def recognise(program: str) -> dict[str, str] | None:
    """Executable, version, prefix and kind of the Python behind ``program``, or None.

    Args:
        program: absolute path: an interpreter, or a script whose first line names one.
    """
    interpreter = _interpreter(program)
    if interpreter is None:
        return None
    try:
        done = subprocess.run(
            [interpreter, "-I", "-c", _ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        told = json.loads(done.stdout)
        version, prefix, base = str(told["version"]), str(told["prefix"]), str(told["base"])
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return None
    kind = "conda" if Path(prefix, "conda-meta").is_dir() else "system"
    kind = "venv" if prefix != base else kind
    return {"executable": interpreter, "version": version, "prefix": prefix, "kind": kind}


def _interpreter(program: str) -> str | None:
    if _PYTHON.fullmatch(Path(program).name):
        return program
    try:
        with open(program, "rb") as file:  # noqa: PTH123 - one line of it
            first = file.readline(512)
    except OSError:
        return None
    words = first[2:].decode("utf-8", "replace").split() if first.startswith(b"#!") else []
    # "#!/usr/bin/env python" is whatever PATH says: PATH travels with the job and decides.
    return words[0] if words and _PYTHON.fullmatch(Path(words[0]).name) else None
