"""What is shown of the settings: the reference page and the effective configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spotwatchd.config.load import Loaded
from spotwatchd.config.tree import SECTIONS, Config, Setting, environment_name, settings

_HEAD = """\
# Configuration

<!-- Made by `python -m spotwatchd.config.pages`; a test fails when it is stale. -->

`spotwatchd --config FILE` reads a TOML file. Every setting can also be given by an environment
variable, which wins over the file. An unknown or impossible setting is refused with its line, its
value and the remedy, all of them at once. `spotwatchd --config FILE --check-config` prints what
is in effect and where each value came from, and starts nothing.

```toml
store = "s3://acme-checkpoints/team"

[checkpoint]
keep_last = 5
```

"""


def toml_value(value: Any) -> str:
    """A value as it would stand in the file ("none" for what the file cannot say)."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, Path)):
        return json.dumps(str(value))
    if isinstance(value, tuple):
        return "[" + ", ".join(json.dumps(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mode_or_value(name: str, value: Any) -> str:
    return f'"{value:04o}"' if name == "socket_mode" else toml_value(value)


def _value_of(config: Config, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def effective(loaded: Loaded) -> Iterator[tuple[str, str, str]]:
    """Every setting as (name, value, where it came from)."""
    for name, _, _ in settings():
        value = _value_of(loaded.config, name)
        yield name, _mode_or_value(name, value), loaded.origins[name]


def _entry(name: str, setting: Setting, default: Any) -> str:
    shown = setting.example or toml_value(default)
    unit = f" {setting.unit}" if setting.unit and not isinstance(default, str) else ""
    quoted = shown if setting.example else f"`{shown}`"
    return (
        f"### `{name}`\n\n{setting.doc}\n\n"
        f"Must be {setting.kind.wanted}. Default: {quoted}{unit}. "
        f"Environment: `{environment_name(name)}`.\n\n"
    )


def reference() -> str:
    """The text of docs/configuration.md."""
    parts = [_HEAD, "## Top level\n\n"]
    section = ""
    for name, setting, default in settings():
        at, dot, _ = name.rpartition(".")
        if dot and at != section:
            section = at
            parts.append(f"## `[{at}]`\n\n{SECTIONS[at].__doc__}\n\n")
        parts.append(_entry(name, setting, None if setting.example else default()))
    return "".join(parts).rstrip("\n") + "\n"


if __name__ == "__main__":
    print(reference(), end="")
