"""The small commands: what they ask, what people read, what machines read, how they end."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from spotwatchd.cli import words
from spotwatchd.cli.environment import job_environment
from spotwatchd.cli.receipts import receipt_text
from tests.cli.conftest import ROOT, Spotwatch
from tests.cli.fake_daemon import FakeDaemon, job_document

STATUS: dict[str, Any] = {
    "version": 1,
    "daemon": {"version": "0.1.0", "pid": 7, "uptime_seconds": 4000.0, "socket": "/s"},
    "watch": [
        {
            "source": "ec2",
            "state": "stale",
            "stale": True,
            "last_success_age": 42.4,
            "last_error": "timed out",
            "failures": {},
        }
    ],
    "store": {"url": "s3://acme/team", "last_error": None},
    "drain": {"source": "ec2-spot", "action": "terminate", "seconds_left": 71.0},
    "jobs": [],
}
RECEIPT: dict[str, Any] = {
    "id": "1",
    "job": "resnet",
    "machine": "i-0abc",
    "notice": {
        "source": "ec2-spot",
        "action": "terminate",
        "told": "",
        "seen_at": "2026-11-21T14:30:19.123Z",
    },
    "marks": [
        {"mark": "notice visible", "seconds": 0.0, "text": ""},
        {"mark": "asked", "seconds": 0.412, "text": "8 processes"},
        {"mark": "machine gone", "seconds": 108.2, "text": ""},
    ],
    "outcome": "committed",
    "lost_steps": 0,
    "spare_seconds": 97.4,
    "step": 18241,
    "reason": "",
}


def test_status_shows_watch_store_interruption_and_jobs(
    fake: FakeDaemon, spotwatch: Spotwatch
) -> None:
    """Everything that matters is on one screen, each figure with its unit."""
    committed = (datetime.now(timezone.utc) - timedelta(seconds=125)).isoformat()
    job = job_document(
        "resnet", step=18241, committed_step=18000, committed_at=committed, next_save_seconds=330.0
    )
    job["gpus"] = [0, 2]
    fake.answers["/v1/status"] = (200, {**STATUS, "jobs": [job]})
    lines = spotwatch("status").stdout.splitlines()
    rows = [" ".join(line.split()) for line in lines]
    assert rows == [
        "daemon 0.1.0 pid 7, up 1 h 6 min",
        "watch ec2: stale answered 42 s ago; timed out",
        "store s3://acme/team no error",
        "interruption terminate (ec2-spot) 1 min 11 s left",
        "",
        "JOB STATE STEP COMMITTED NEXT SAVE PROCESSES GPUS WHY",
        "resnet running 18,241 18,000 (2 min 5 s ago) in 5 min 30 s 0 0,2",
    ]


def test_status_without_anything_says_what_to_do(fake: FakeDaemon, spotwatch: Spotwatch) -> None:
    """No watch, no store and no job are said in words."""
    fake.answers["/v1/status"] = (200, {**STATUS, "watch": [], "store": None, "drain": None})
    out = spotwatch("status").stdout
    assert "no notice will be seen" in out
    assert "--store URL" in out
    assert "spotwatch run --name" in out


def test_json_is_the_daemons_document(fake: FakeDaemon, spotwatch: Spotwatch) -> None:
    """--json, before or after the command, prints the document as it is, on one line."""
    fake.answers["/v1/status"] = (200, STATUS)
    for call in (("--json", "status"), ("status", "--json")):
        done = spotwatch(*call)
        assert done.stdout == json.dumps(STATUS) + "\n"


def test_one_job_can_be_asked_for(fake: FakeDaemon, spotwatch: Spotwatch) -> None:
    """Status NAME shows that job, and --socket goes before $SPOTWATCH_SOCKET."""
    fake.answers["/v1/jobs/resnet"] = (200, job_document("resnet", reason="queued"))
    call = ("--socket", str(fake.path), "status", "resnet")
    assert "queued" in spotwatch(*call, env={"SPOTWATCH_SOCKET": "/nowhere"}).stdout


def test_asking_and_stopping_go_to_the_job(fake: FakeDaemon, spotwatch: Spotwatch) -> None:
    """Checkpoint posts to the job's route; stop, start and rm say what is wanted everywhere."""
    fake.answers["/v1/control"] = (200, {"name": "resnet", "state": "stopping", "note": ""})
    assert spotwatch("checkpoint", "resnet").returncode == 0
    assert "until: spotwatch start resnet" in spotwatch("stop", "resnet").stdout
    assert spotwatch("stop", "--no-save", "resnet").returncode == 0
    assert spotwatch("start", "resnet", "--store", "file:///s").returncode == 0
    fake.answers["/v1/control"] = (200, {"name": "resnet", "state": "removed", "objects": 7})
    assert spotwatch("rm", "resnet", "--yes").stdout == "resnet  removed, 7 objects\n"
    control = {"name": "resnet", "save": True}
    assert [(path, body) for _, path, body in fake.calls] == [
        ("/v1/jobs/resnet/ask", None),
        ("/v1/control", {**control, "do": "stop"}),
        ("/v1/control", {**control, "do": "stop", "save": False}),
        ("/v1/control", {**control, "do": "start", "store": "file:///s"}),
        ("/v1/control", {**control, "do": "remove"}),
    ]


def test_rm_asks_first(fake: FakeDaemon, spotwatch: Spotwatch) -> None:
    """Without a terminal to ask at, and without --yes, nothing is removed."""
    done = spotwatch("rm", "resnet")
    assert done.returncode == 1
    assert "spotwatch rm resnet --yes" in done.stderr
    assert fake.calls == []


def test_a_notice_by_hand(fake: FakeDaemon, spotwatch: Spotwatch) -> None:
    """Interrupt posts seconds and action."""
    done = spotwatch("interrupt", "--in", "20", "--action", "stop")
    assert done.stdout == "notice given: stop in 20 s; all jobs save now\n"
    assert fake.posted("/v1/interrupt") == [{"seconds": 20.0, "action": "stop"}]


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "x", "1e9"])
def test_an_impossible_time_is_refused(
    fake: FakeDaemon, spotwatch: Spotwatch, seconds: str
) -> None:
    """A deadline that is none is a wrong command line, and nothing is asked."""
    done = spotwatch("interrupt", f"--in={seconds}")
    assert done.returncode == 64
    assert "0 to 86400" in done.stderr
    assert fake.calls == []


def test_a_receipt_reads_as_a_story() -> None:
    """The layout of a receipt without a loss."""
    assert receipt_text(RECEIPT) == (
        "Interruption of i-0abc, terminate, 2026-11-21 14:30:19 UTC    resnet\n"
        "  notice visible       0.00 s\n"
        "  asked           +    0.41 s   8 processes\n"
        "  machine gone    +  108    s\n"
        "  lost 0 steps · 1 min 37 s to spare"
    )


def test_a_receipt_tells_what_the_budget_decided() -> None:
    """When, and with which figures; what is no decision is left out."""
    decision = {"seconds": 0.5, "text": "uploads step 500 first: 12.1 GB"}
    lines = receipt_text({**RECEIPT, "decisions": [decision, "x"]}).splitlines()
    assert lines[-2] == "  decided         +    0.50 s   uploads step 500 first: 12.1 GB"


def test_a_loss_comes_first() -> None:
    """Lost steps and the reason stand above the timeline."""
    lost = {**RECEIPT, "outcome": "abandoned", "lost_steps": 1, "reason": "the store was away"}
    assert receipt_text(lost).splitlines()[1] == "  LOST 1 step: the store was away"
    unknown = {**lost, "lost_steps": None}
    assert "LOST an unknown number of steps" in receipt_text(unknown)


def test_receipts_are_cut_and_chosen(fake: FakeDaemon, spotwatch: Spotwatch) -> None:
    """--limit cuts the list, NAME chooses, and none at all is said."""
    fake.answers["/v1/receipts"] = (200, [RECEIPT, {**RECEIPT, "job": "bert"}])
    chosen = json.loads(spotwatch("receipts", "bert", "--json").stdout)
    assert [each["job"] for each in chosen] == ["bert"]
    assert len(json.loads(spotwatch("receipts", "--limit", "1", "--json").stdout)) == 1
    assert spotwatch("receipts", "gpt").stdout == "no interruption so far\n"


def test_without_a_daemon_the_status_is_69(spotwatch: Spotwatch) -> None:
    """Nobody on the socket: where, a remedy, and EX_UNAVAILABLE."""
    done = spotwatch("status")
    assert done.returncode == 69
    assert "s.sock" in done.stderr
    assert "  fix     " in done.stderr
    assert done.stdout == ""


def test_a_reader_that_has_seen_enough(fake: FakeDaemon, environment: dict[str, str]) -> None:
    """`spotwatch receipts | head -1` ends without a traceback."""
    fake.answers["/v1/receipts"] = (200, [RECEIPT] * 3000)
    with subprocess.Popen(
        [sys.executable, "-m", "spotwatchd.cli.main", "receipts", "--limit", "3000"],
        env={**environment, "SPOTWATCH_SOCKET": str(fake.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(20) == 141


@pytest.mark.parametrize("call", [(), ("nonsense",), ("status", "--wat")])
def test_a_wrong_command_line_is_64(spotwatch: Spotwatch, call: tuple[str, ...]) -> None:
    """EX_USAGE with a hint, not argparse's 2."""
    done = spotwatch(*call)
    assert done.returncode == 64
    assert "--help" in done.stderr


def test_help_tells_the_exit_statuses(spotwatch: Spotwatch) -> None:
    """--help lists every command and every exit status."""
    out = spotwatch("--help").stdout
    for part in ("run", "status", "checkpoint", "interrupt", "receipts", "restore", "store"):
        assert part in out
    for status in ("0 ", "1 ", "64 ", "69 ", "75 ", "78 "):
        assert f"\n  {status}" in out


def _interpreters() -> list[str]:
    """This Python, and every other that the machine has: 3.10 is promised."""
    names = [sys.executable, *(f"python3.{minor}" for minor in (10, 12, 13, 14))]
    return [name for name in names if _works(name)]


def _works(name: str) -> bool:
    try:
        return subprocess.run([name, "--version"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("python", _interpreters())
def test_every_command_loads_with_the_standard_library_alone(python: str) -> None:
    """Importing every command's module needs no third-party library, on each Python here."""
    script = (
        "import sys; from spotwatchd.cli.main import build_parser; build_parser()\n"
        "known = set(sys.stdlib_module_names) | {'spotwatchd', '__main__'}\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} - known))"
    )
    done = subprocess.run(
        [python, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_every_command_is_readable_by_python_3_10() -> None:
    """No newer syntax in the modules that `spotwatch run` loads, whatever Pythons are here."""
    for path in sorted((ROOT / "spotwatchd/cli").glob("*.py")):
        ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=(3, 10))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.414, "0.41 s"),
        (9.999, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (356400, "4 d 3 h"),
    ],
)
def test_spans_have_units(seconds: float, text: str) -> None:
    """Durations as people say them."""
    assert words.span(seconds) == text


def test_ages_are_whole() -> None:
    """An age has no fraction of a second."""
    assert [words.ago(seconds) for seconds in (0.2, 2.08, 61.4)] == [
        "0 s ago",
        "2 s ago",
        "1 min 1 s ago",
    ]


def test_times_of_documents_are_read() -> None:
    """Z and offsets are both UTC; what is no time is None, and the future is no negative age."""
    now = datetime(2026, 11, 21, 12, 0, 10, tzinfo=timezone.utc)
    assert words.seconds_since("2026-11-21T12:00:00.000Z", now) == 10
    assert words.seconds_since("2026-11-21T13:00:00+01:00", now) == 10
    assert words.seconds_since("2026-11-21T13:00:00Z", now) == 0
    assert words.seconds_since("yesterday", now) is None


def test_the_environment_of_a_job_is_an_allow_list() -> None:
    """Prefixes and names that training needs go along; secrets with such a prefix do not."""
    environ = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "CUDA_HOME": "/c",
        "HF_HOME": "/h",
        "HF_TOKEN": "x",
        "TORCH_API_KEY": "x",
        "CONDA_Password": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "SSH_AUTH_SOCK": "x",
        "DISPLAY": ":0",
    }
    assert set(job_environment(environ, [])) == {"PATH", "LC_ALL", "CUDA_HOME", "HF_HOME"}


def test_text_is_plain_off_a_terminal(fake: FakeDaemon, spotwatch: Spotwatch) -> None:
    """No escape sequence is written to a pipe."""
    fake.answers["/v1/status"] = (200, STATUS)
    assert "\x1b" not in spotwatch("status").stdout


def test_the_contract_of_json_names_every_field() -> None:
    """docs/cli-json.md describes every field of a job's document."""
    page = (ROOT / "docs/cli-json.md").read_text(encoding="utf-8")
    missing = [name for name in job_document("x") if f"`{name}`" not in page]
    assert missing == []
