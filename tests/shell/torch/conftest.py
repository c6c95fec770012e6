from __future__ import annotations

from tests.shell.client.conftest import clean_environment, daemon, short_dir

__all__ = ["clean_environment", "daemon", "short_dir"]
