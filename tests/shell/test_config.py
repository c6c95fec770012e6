"""Configuration: every setting from one definition, every problem with what, where and remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotwatchd.config import Config, Loaded, load
from spotwatchd.config.load import line_of
from spotwatchd.config.pages import effective, reference
from spotwatchd.config.tree import environment_name, settings
from spotwatchd.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]

# Every setting: a TOML text that sets it, and what the tree then holds.
FULL = """\
store = "s3://acme-ckpt/team"
socket = "/run/x/s.sock"
socket_mode = "0660"
runtime_dir = "/run/x"
state_dir = "/var/lib/x"
machine = "i-0abc"
allowed_users = ["ubuntu", "ml"]
resume_from_store = false
checkpoint_root = "/data/ckpt"

[imds]
endpoint = "http://127.0.0.1:1338"
poll_seconds = 0.5
timeout = 2
imds_v1 = true
asg_seconds = 60
event_lead_seconds = 30

[checkpoint]
interval = 90
mtbf_hours = 1.5
min_interval = 5
max_interval = 600
keep_last = 5
keep_every = 1000
grace_seconds = 5
upload_limit = "50MB"

[lease]
seconds = 10

[jobs]
max_crashes = 5
stop_grace = 3
undrain_after = 10
max_jobs = 3
max_processes = 9

[resources]
gpus = 4
cpu_jobs = 2

[log]
format = "json"
level = "debug"
"""
EXPECTED: dict[str, Any] = {
    "store": "s3://acme-ckpt/team",
    "socket": Path("/run/x/s.sock"),
    "socket_mode": 0o660,
    "runtime_dir": Path("/run/x"),
    "state_dir": Path("/var/lib/x"),
    "machine": "i-0abc",
    "allowed_users": ("ubuntu", "ml"),
    "resume_from_store": False,
    "checkpoint_root": Path("/data/ckpt"),
    "imds.endpoint": "http://127.0.0.1:1338",
    "imds.poll_seconds": 0.5,
    "imds.timeout": 2.0,
    "imds.imds_v1": True,
    "imds.asg_seconds": 60.0,
    "imds.event_lead_seconds": 30.0,
    "checkpoint.interval": 90.0,
    "checkpoint.mtbf_hours": 1.5,
    "checkpoint.min_interval": 5.0,
    "checkpoint.max_interval": 600.0,
    "checkpoint.keep_last": 5,
    "checkpoint.keep_every": 1000,
    "checkpoint.grace_seconds": 5.0,
    "checkpoint.upload_limit": 50_000_000,
    "lease.seconds": 10.0,
    "jobs.max_crashes": 5,
    "jobs.stop_grace": 3.0,
    "jobs.undrain_after": 10.0,
    "jobs.max_jobs": 3,
    "jobs.max_processes": 9,
    "resources.gpus": 4,
    "resources.cpu_jobs": 2,
    "log.format": "json",
    "log.level": "debug",
}
TEXTS = {
    "socket_mode": "0660",
    "allowed_users": "ubuntu, ml",
    "resume_from_store": "no",
    "imds.imds_v1": "1",
}


def values(config: Config) -> dict[str, Any]:
    def pick(name: str) -> Any:
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        return value

    return {name: pick(name) for name, _, _ in settings()}


def written(directory: Path, text: str) -> Path:
    path = directory / "spotwatchd.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(directory: Path, text: str, environ: dict[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(written(directory, text), environ or {})
    return caught.value


def test_the_example_names_every_setting() -> None:
    """The table of this file is complete, so that a new setting cannot go untested."""
    assert list(EXPECTED) == [name for name, _, _ in settings()]


def test_every_setting_can_come_from_the_file(tmp_path: Path) -> None:
    """A file that sets everything is taken over exactly, with the line of each setting."""
    loaded = load(written(tmp_path, FULL), {})
    assert values(loaded.config) == EXPECTED
    lines = FULL.splitlines()
    for name, origin in loaded.origins.items():
        number = int(origin.rpartition(" ")[2])
        assert lines[number - 1].startswith(name.rpartition(".")[2] + " =")


def test_every_setting_can_come_from_the_environment() -> None:
    """The same by environment variables alone."""
    environ = {
        environment_name(name): TEXTS.get(name, str(value)) for name, value in EXPECTED.items()
    }
    loaded = load(None, environ)
    assert values(loaded.config) == EXPECTED
    assert loaded.origins["imds.poll_seconds"] == "environment SPOTWATCH_IMDS_POLL_SECONDS"


def test_the_environment_wins(tmp_path: Path) -> None:
    """A variable beats the file, and only where it is set."""
    loaded = load(written(tmp_path, FULL), {"SPOTWATCH_LEASE_SECONDS": "7"})
    assert loaded.config.lease.seconds == 7.0
    assert loaded.config.jobs.max_jobs == 3
    assert loaded.origins["lease.seconds"].startswith("environment")


def test_nothing_given_gives_the_defaults() -> None:
    """Without file and variables the tree is Config() and each origin says default."""
    loaded = load(None, {"PATH": "/bin", "SPOTWATCH_JOB": "set by the daemon for its jobs"})
    assert loaded.config == Config()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.config.socket == loaded.config.runtime_dir / "spotwatchd.sock"


WRONG = {
    'stroe = "file:///x"': ("there is no setting stroe", "line 1", "store"),
    "[imds]\npol_seconds = 2": ("there is no setting imds.pol_seconds", "line 2", "poll_seconds"),
    "[imds]\npoll_seconds = 0": ("imds.poll_seconds = 0", "line 2", "seconds from 0.05 to 60"),
    "[imds]\npoll_seconds = nan": ("imds.poll_seconds = nan", "line 2", "from 0.05 to 60"),
    '[imds]\npoll_seconds = "2"': ('imds.poll_seconds = "2"', "line 2", "a number of seconds"),
    "[imds]\nimds_v1 = 1": ("imds.imds_v1 = 1", "line 2", "true or false"),
    '[imds]\nendpoint = "169.254.169.254"': ('endpoint = "169', "line 2", "URL of a metadata"),
    '[imds]\nendpoint = "http://h:99999"': ("endpoint", "line 2", "URL of a metadata"),
    "[jobs]\nmax_jobs = true": ("jobs.max_jobs = True", "line 2", "a whole number"),
    "[jobs]\nmax_jobs = 1.5": ("jobs.max_jobs = 1.5", "line 2", "a whole number from 1"),
    "[jobs]\nmax_jobs = 0": ("jobs.max_jobs = 0", "line 2", "from 1 to 10000"),
    '[log]\nlevel = "loud"': ('log.level = "loud"', "line 2", '"debug" or "info"'),
    '[checkpoint]\nupload_limit = "50Mb/s"': ("upload_limit", "line 2", '"50MB" or "50MiB"'),
    '[resources]\ngpus = "all"': ('gpus = "all"', "line 2", '"auto" or a whole number'),
    "[resources]\ncpu_jobs = 0": ("cpu_jobs = 0", "line 2", "from 1"),
    "[checkpoint]\nupload_limit = 999": ("upload_limit = 999", "line 2", "from 1000"),
    '[checkpoint]\nupload_limit = "0.9KB"': ("upload_limit", "line 2", "from 1000"),
    '[checkpoint]\ninterval = "often"': ("checkpoint.interval", "line 2", '"auto" or a number'),
    'store = "/mnt/efs"': ('store = "/mnt/efs"', "line 1", "file:///"),
    'store = "s3:/bucket"': ("s3:/bucket", "line 1", "s3://BUCKET"),
    'store = "s3://Bad_Bucket/x"': ("Bad_Bucket", "line 1", "s3://BUCKET"),
    'store = "gs://bucket/x"': ("gs://bucket", "line 1", "s3://BUCKET"),
    'store = "file://efs/x"': ("file://efs/x", "line 1", "three slashes"),
    'socket = "run/s.sock"': ('socket = "run/s.sock"', "line 1", "an absolute path"),
    f'socket = "/{"x" * 108}"': ("is too long", "line 1", "107 bytes"),
    'socket_mode = "0999"': ('socket_mode = "0999"', "line 1", '"0660"'),
    "socket_mode = 0": ("socket_mode = 0", "line 1", '"0660"'),
    'allowed_users = "ml"': ("allowed_users", "line 1", "a list of user names"),
    'allowed_users = ["a b"]': ("allowed_users", "line 1", "a list of user names"),
    "imds = 3": ("imds is not a setting", "line 1", "[imds]"),
    "[imdss]\npoll_seconds = 2": ("there is no setting imdss", "line 1", "imds"),
    "[checkpoint]\nmin_interval = 60\nmax_interval = 50": ("is above", "line 2", "swap"),
}


@pytest.mark.parametrize("text", sorted(WRONG))
def test_a_wrong_setting_is_refused_with_a_remedy(tmp_path: Path, text: str) -> None:
    """The error names the setting with its value, the line of the file, and what would do."""
    what, where, remedy = WRONG[text]
    error = refusal(tmp_path, text)
    assert what in error.what
    assert str(tmp_path / "spotwatchd.toml") in error.where
    assert where in error.where
    assert remedy in error.remedy


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    """Three mistakes, one of them in the environment, are one error that lists three."""
    text = '[imds]\npoll_seconds = -1\n[log]\nlevle = "info"\n'
    error = str(refusal(tmp_path, text, {"SPOTWATCH_LEASE_SECOND": "3"}))
    assert "3 settings are wrong" in error
    for part in ("poll_seconds = -1", "did you mean log.level?", "line 2", "line 4"):
        assert part in error
    assert "did you mean SPOTWATCH_LEASE_SECONDS?" in error


@pytest.mark.parametrize("variable", ["LEASE_SECONDS=abc", "IMDS_IMDS_V1=maybe", "SOCKET_MODE=7"])
def test_a_wrong_variable_is_named(variable: str) -> None:
    """The error says which variable holds what."""
    name, _, value = variable.partition("=")
    with pytest.raises(ConfigError) as caught:
        load(None, {f"SPOTWATCH_{name}": value})
    assert f'"{value}"' in caught.value.what
    assert caught.value.where == f"environment SPOTWATCH_{name}"


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"store = ", "not TOML"), (b"a = 1\na = 2", "not TOML"), (b"\xff\xfe", "not UTF-8")],
)
def test_a_file_that_is_not_toml_is_said(tmp_path: Path, content: bytes, says: str) -> None:
    """Syntax and encoding errors name the file."""
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as caught:
        load(path, {})
    assert caught.value.where == str(path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """A file that is not there is an error, not an empty configuration."""
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "nothing.toml", {})


@given(
    st.dictionaries(
        st.sampled_from([environment_name(name) for name, _, _ in settings()]),
        st.text(st.characters(exclude_characters="\0"), max_size=20),
        max_size=4,
    )
)
def test_any_environment_gives_a_config_or_a_config_error(environ: dict[str, str]) -> None:
    """No text in a variable leads to any other exception, nor to a half-read tree."""
    loaded = _loaded_or_explained(environ)
    if loaded is not None:
        assert {n for n, o in loaded.origins.items() if o != "default"} == {
            name for name, _, _ in settings() if environment_name(name) in environ
        }


def _loaded_or_explained(environ: dict[str, str]) -> Loaded | None:
    try:
        return load(None, environ)
    except ConfigError as error:
        explained = error.remedy or "fix" in error.what
    assert explained
    return None


def test_line_of_finds_both_ways_of_writing() -> None:
    """A dotted key at the top and a key in a section are both found; an absent one is None."""
    text = "# x\nimds.timeout = 3\n[log]\nlevel='info'\n[ imds ]\n poll_seconds=2\n"
    assert line_of(text, "imds.timeout") == 2
    assert line_of(text, "log.level") == 4
    assert line_of(text, "imds.poll_seconds") == 6
    assert line_of(text, "store") is None


def test_defaults_of_a_user_are_private(tmp_path: Path) -> None:
    """Who is not root gets directories of their own, a 0600 socket, and only themselves allowed."""
    script = (
        "import os; os.environ.pop('XDG_STATE_HOME', None); os.environ['HOME'] = '/home/x'\n"
        "os.environ['XDG_RUNTIME_DIR'] = '/run/user/77'\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "from spotwatchd.config import Config; c = Config()\n"
        "print(c.runtime_dir, c.state_dir, oct(c.socket_mode), len(c.allowed_users))"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import spotwatchd.config\n" + script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        "/run/user/77/spotwatchd",
        "/home/x/.local/state/spotwatchd",
        "0o600",
        "1",
    ]


def test_the_reference_page_is_fresh() -> None:
    """docs/configuration.md is what the definitions say: python -m spotwatchd.config.pages."""
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == reference()


def test_the_effective_settings_read_back(tmp_path: Path) -> None:
    """What --check-config prints can be pasted into a file and means the same."""
    loaded = load(written(tmp_path, FULL), {})
    rows = list(effective(loaded))
    again = "\n".join(f"{name} = {value}" for name, value, _ in rows)
    assert load(written(tmp_path, again), {}).config == loaded.config
    assert len(rows) == len(EXPECTED)
