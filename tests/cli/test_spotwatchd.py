"""The ``spotwatchd`` command: configuration first, and a private daemon for who has none."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spotwatchd.cli.private import own_directory
from spotwatchd.config import load
from spotwatchd.errors import ConfigError, SpotwatchError
from spotwatchd.wire.paths import private_runtime
from tests.cli.conftest import Spotwatch

Daemon = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def spotwatchd(short_dir: Path, environment: dict[str, str]) -> Daemon:
    """Run ``spotwatchd`` to its end."""

    def call(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "spotwatchd.cli.daemon", *words],
            cwd=short_dir,
            env={**environment, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
            stdin=subprocess.DEVNULL,
        )

    return call


def test_check_config_shows_origins(spotwatchd: Daemon, short_dir: Path) -> None:
    """Each setting is printed with its value and where it came from; nothing is started."""
    (short_dir / "c.toml").write_text("[lease]\nseconds = 7\n")
    done = spotwatchd(
        "--config", "c.toml", "--check-config", env={"SPOTWATCH_STORE": "file:///mnt/efs"}
    )
    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert rows[0] == "SETTING VALUE FROM"
    assert 'store "file:///mnt/efs" environment SPOTWATCH_STORE' in rows
    assert "lease.seconds 7 c.toml line 2" in rows
    assert "imds.poll_seconds 2 default" in rows


def test_check_config_for_machines(spotwatchd: Daemon) -> None:
    """--json gives the same as name, value and origin."""
    rows = json.loads(spotwatchd("--check-config", "--json").stdout)
    assert {"name": "imds.endpoint", "value": '"ipv4"', "origin": "default"} in rows


def test_a_wrong_configuration_is_78(spotwatchd: Daemon, short_dir: Path) -> None:
    """EX_CONFIG, with the line and the remedy on stderr, with or without --check-config."""
    (short_dir / "c.toml").write_text("[imds]\npol_seconds = 7\n")
    for options in (("--check-config",), ()):
        done = spotwatchd("--config", "c.toml", *options)
        assert done.returncode == 78
        assert done.stdout == ""
        assert done.stderr == (
            "spotwatchd: there is no setting imds.pol_seconds\n"
            "  where   c.toml line 2\n"
            "  fix     did you mean imds.poll_seconds?\n"
        )


def test_a_missing_library_is_named() -> None:
    """In an environment without the daemon's libraries, the refusal says what to install."""
    script = "from spotwatchd.cli.daemon import main; raise SystemExit(main([]))"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(root)!r}); {script}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert "needs the library" in done.stderr
    assert "pip install 'spotwatchd[daemon]'" in done.stderr


def test_a_private_daemon_keeps_to_itself(short_dir: Path) -> None:
    """Directories beside a socket that was named, mode 0600, for root as for anybody."""
    socket = short_dir / "s.sock"
    config = load(None, {}, given={"socket": str(socket)}, private=True).config
    assert (config.socket, config.runtime_dir, config.state_dir) == (
        socket,
        short_dir,
        short_dir / "state",
    )
    assert config.socket_mode == 0o600
    assert config.private


def test_a_private_daemon_of_the_usual_socket_remembers(short_dir: Path) -> None:
    """At the usual place the state is the user's own state directory, and outlives a reboot."""
    config = load(None, {}, private=True).config
    assert config.runtime_dir == private_runtime()
    assert "spotwatchd" in config.state_dir.parts
    assert config.state_dir != private_runtime()
    chosen = {"SPOTWATCH_STATE_DIR": str(short_dir)}
    assert load(None, chosen, private=True).config.state_dir == short_dir


def test_options_beat_everything(short_dir: Path) -> None:
    """--socket wins over the environment, and a bad one is refused like any setting."""
    environ = {"SPOTWATCH_SOCKET": "/run/other.sock"}
    loaded = load(None, environ, given={"socket": str(short_dir / "s.sock")})
    assert loaded.config.socket == short_dir / "s.sock"
    assert loaded.origins["socket"] == "option --socket"
    with pytest.raises(ConfigError, match="too long"):
        load(None, {}, given={"socket": "/" + "x" * 120})


def test_a_directory_of_somebody_else_is_refused(short_dir: Path) -> None:
    """A directory that others may write to, or a link, could hold a false daemon's socket."""
    mine, open_to_all, link = short_dir / "mine", short_dir / "open", short_dir / "link"
    own_directory(mine)
    assert stat.S_IMODE(mine.stat().st_mode) == 0o700
    own_directory(mine)
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    link.symlink_to(mine)
    for path in (open_to_all, link):
        with pytest.raises(SpotwatchError, match="not yours alone") as caught:
            own_directory(path)
        assert str(path) in caught.value.where
    with pytest.raises(SpotwatchError, match="cannot be made"):
        own_directory(short_dir / "no" / "parent")


def test_run_refuses_a_false_private_directory(
    spotwatch: Spotwatch, environment: dict[str, str]
) -> None:
    """`run` does not even connect to a socket in a private directory that is open to others."""
    directory = Path(environment["XDG_RUNTIME_DIR"]) / "spotwatchd"
    directory.mkdir()
    directory.chmod(0o777)
    socket = {"SPOTWATCH_SOCKET": str(directory / "spotwatchd.sock")}
    run = ("run", "--name", "a", "--checkpoint-dir", "c", "true")
    done = spotwatch(*run, env=socket)
    assert done.returncode == 1
    assert "not yours alone" in done.stderr


def test_a_private_daemon_that_cannot_start_says_why(spotwatch: Spotwatch, short_dir: Path) -> None:
    """Its own words, the path of its log, and a remedy reach the person who ran the command."""
    wrong = {"SPOTWATCH_LEASE_SECONDS": "none"}
    done = spotwatch("run", "--name", "a", "--checkpoint-dir", "c", "true", env=wrong)
    assert done.returncode == 1
    assert 'lease.seconds = "none"' in done.stderr
    assert str(short_dir / "spotwatchd.log") in done.stderr
    assert "  fix     " in done.stderr
    assert list((short_dir / "c").iterdir()) == []
