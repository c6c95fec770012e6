"""What a field may hold, said once: for the parser, for the OpenAPI document, for people.

A ``Rule`` sits in the annotation of a field (``Annotated[str, JOB_NAME]``) and carries
JSON Schema keywords. ``schema.py`` joins them into a schema; the parser obeys that schema
and the document publishes it, so the two cannot differ.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Rule:
    """A constraint on one value.

    Attributes:
        says: what is allowed, as the end of the sentence "must be ...".
        keywords: JSON Schema 2020-12 keywords. A ``pattern`` matches the whole value.
        secret: never repeat the value in a problem or a log.
    """

    says: str
    keywords: Mapping[str, Any] = field(default_factory=dict, hash=False)
    secret: bool = False


# Largest whole number that JSON readers, SQLite and C programs agree on.
LARGEST = 2**53 - 1
# A manifest's key has 12 digits for the step (docs/architecture.md).
LARGEST_STEP = 10**12 - 1
# The largest machine counts that are in use are around 10^5 ranks.
LARGEST_WORLD = 1_000_000
# PATH_MAX of Linux, without the final NUL.
LONGEST_PATH = 4095
# MAX_ARG_STRLEN of Linux: execve refuses a longer argument or NAME=value.
LONGEST_ARGUMENT = 131_071

# `..` as a whole component, wherever it stands; control characters break logs and terminals.
_NO_PARENT = r"(?!(?:[^\x00]*/)?\.\.(?:/|$))"
_CHARACTERS = r"[^\x00-\x1f\x7f]"
_NAME_CHARACTERS = r"[A-Za-z0-9][A-Za-z0-9._-]"

JOB_NAME = Rule(
    "1 to 64 of a-z A-Z 0-9 . _ -, starting with a letter or digit",
    {"pattern": rf"^{_NAME_CHARACTERS}{{0,63}}$"},
)
RUN_ID = Rule(
    "1 to 128 of a-z A-Z 0-9 . _ -, starting with a letter or digit",
    {"pattern": rf"^{_NAME_CHARACTERS}{{0,127}}$"},
)
ABSOLUTE = Rule(
    "an absolute path below / without '..' or control characters",
    {"pattern": rf"^/{_NO_PARENT}{_CHARACTERS}+$", "maxLength": LONGEST_PATH},
)
RELATIVE = Rule(
    "a path relative to the checkpoint directory, without '..' or control characters",
    {"pattern": rf"^(?!/){_NO_PARENT}{_CHARACTERS}*$", "maxLength": LONGEST_PATH},
)
GLOB = Rule(
    "a pattern relative to the checkpoint directory, such as 'ckpt-*.pt', without '..'",
    {"pattern": rf"^(?!/){_NO_PARENT}{_CHARACTERS}+$", "maxLength": LONGEST_PATH},
)
STORE = Rule(
    "s3://BUCKET[/PREFIX] or file:///DIRECTORY, without user names, queries or '..'",
    {
        "pattern": (
            r"^(?:s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/|$)|file:///(?=[^/]))"
            rf"{_NO_PARENT}[^\x00-\x20\x7f?#@\\]*$"
        ),
        "maxLength": 1024,
    },
)
SIGNAL = Rule(
    "the name of a signal that a program can catch, such as SIGTERM or SIGUSR1",
    {
        "enum": sorted(
            name.name for name in signal.Signals if name not in (signal.SIGKILL, signal.SIGSTOP)
        )
    },
)
INTERVAL = Rule("seconds, 0 (never) to 2592000 (30 days)", {"minimum": 0, "maximum": 2_592_000})
COMMAND = Rule("a command: the program, then its arguments", {"minItems": 1, "maxItems": 4096})
ARGUMENT = Rule(
    "a string without NUL, at most 128 KiB",
    {"pattern": r"^[^\x00]*$", "maxLength": LONGEST_ARGUMENT},
)
ENVIRONMENT = Rule("an object of NAME: value", {"maxProperties": 8192}, secret=True)
# Wider than a shell identifier: exported bash functions are called BASH_FUNC_name%%.
VARIABLE = Rule(
    "a non-empty variable name without '=' or control characters",
    {"pattern": r"^[^\x00-\x1f\x7f=]+$", "maxLength": 1024},
    secret=True,
)
VARIABLE_VALUE = Rule(ARGUMENT.says, ARGUMENT.keywords, secret=True)
SHELL = Rule(
    "a command for /bin/sh, at most 16 KiB", {"pattern": r"^[^\x00]+$", "maxLength": 16_384}
)
PATHS = Rule("a list of paths", {"maxItems": 1024})
FACTS = Rule("an object of NAME: text", {"maxProperties": 32})
FACT_NAME = Rule("a name in a-z and _", {"pattern": r"^[a-z][a-z0-9_]{0,31}$"})
FACT = Rule("text in one line", {"pattern": rf"^{_CHARACTERS}*$", "maxLength": LONGEST_PATH})
# The largest machines have 16 or 32 accelerators.
GPUS = Rule("a number of GPUs, 0 to 1024", {"minimum": 0, "maximum": 1024})
PRIORITY = Rule("a priority, -1000 to 1000", {"minimum": -1000, "maximum": 1000})
STEP = Rule(f"a step, 0 to {LARGEST_STEP}", {"minimum": 0, "maximum": LARGEST_STEP})
RANK = Rule("a rank, 0 or more and below world_size", {"minimum": 0, "maximum": LARGEST_WORLD - 1})
WORLD = Rule(f"the number of ranks, 1 to {LARGEST_WORLD}", {"minimum": 1, "maximum": LARGEST_WORLD})
PHASE = Rule("'saving' or 'sealed'", {"enum": ["saving", "sealed"]})
MARK = Rule("INODE-MTIME in decimal, or empty", {"pattern": r"^(?:[0-9]{1,20}-[0-9]{1,20})?$"})
ASK = Rule("the number of an ask, 0 for none", {"minimum": 0, "maximum": LARGEST})
DURATION = Rule("seconds, 0 or more", {"minimum": 0, "maximum": 31_536_000})
WINDOW = Rule("seconds until the deadline, 0 to 86400", {"minimum": 0, "maximum": 86_400})
ACTION = Rule(
    "terminate, stop, hibernate or reboot",
    {"enum": ["terminate", "stop", "hibernate", "reboot"]},
)
RESUME = Rule("external", {"enum": ["external"]})
ONE_LINE = Rule("text in one line", {"pattern": rf"^{_CHARACTERS}+$", "maxLength": LONGEST_PATH})
KEEPER = Rule("true: it starts the program and saves nothing itself", {})
CHANGE = Rule("continue or new", {"enum": ["continue", "new"]})
SAVE = Rule("true: the job saves before it ends; false: it ends at once", {})
WISH = Rule("stop, start or remove", {"enum": ["stop", "start", "remove"]})
EVENT_WORD = Rule(
    "a word of docs/architecture.md, such as 'committed'", {"pattern": r"^[a-z][a-z_]{0,31}$"}
)
EVENT_NUMBER = Rule("the number of the command it answers", {"minimum": 0, "maximum": LARGEST})
