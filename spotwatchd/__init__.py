"""spotwatchd: a spot interruption becomes a non-event.

Importing this package loads only the standard library, so that a training
environment can depend on it without inheriting the daemon's libraries.
"""

__version__ = "0.1.0"
