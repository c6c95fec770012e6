"""The daemon's configuration: one frozen tree, from a TOML file and the environment.

tree.py    every setting once: default, meaning, unit, what is accepted
kinds.py   what a value may look like, in a file and in the environment
load.py    file + environment -> Config, all problems at once
pages.py   docs/configuration.md and ``spotwatchd --check-config``
"""

from spotwatchd.config.load import Loaded, load
from spotwatchd.config.tree import Checkpoint, Config, Imds, Jobs, Lease, Log, Resources

__all__ = [
    "Checkpoint",
    "Config",
    "Imds",
    "Jobs",
    "Lease",
    "Loaded",
    "Log",
    "Resources",
    "load",
]
