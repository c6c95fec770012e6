"""``spotwatch run``: registers, tells the story, copies the output, and ends as the job ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Spotwatch
from tests.cli.fake_daemon import FakeDaemon, job_document

Until = Callable[..., None]
JOB = "/v1/jobs/resnet"


def over(outcome: str, status: int | None, **changes: Any) -> dict[str, Any]:
    """The document of a job that ended."""
    return job_document(
        "resnet", life="done", state=outcome, outcome=outcome, exit_status=status, **changes
    )


@pytest.fixture
def registered(fake: FakeDaemon) -> FakeDaemon:
    """A daemon that takes the job and runs it for ever."""
    fake.answers["/v1/jobs"] = (201, job_document("resnet"))
    fake.answers[JOB] = (200, job_document("resnet", attempt=1))
    return fake


class Attached:
    """An attached run, as a process with its output in files."""

    def __init__(self, directory: Path, environment: dict[str, str], *words: str) -> None:
        self.out, self.err = directory / "out", directory / "err"
        command = [sys.executable, "-m", "spotwatchd.cli.main", *words]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                command, cwd=directory, env=environment, stdout=out, stderr=err
            )

    def said(self) -> str:
        return self.err.read_text(encoding="utf-8")


@pytest.fixture
def attach(short_dir: Path, environment: dict[str, str]) -> Iterator[Callable[..., Attached]]:
    started: list[Attached] = []
    env = {**environment, "SPOTWATCH_SOCKET": str(short_dir / "s.sock")}
    command = ("run", "--name", "resnet", "--checkpoint-dir", "ckpt")

    def begin(*words: str, before: tuple[str, ...] = ()) -> Attached:
        started.append(Attached(short_dir, env, *before, *command, *words, "--", "true"))
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.process.wait()


def test_what_is_registered(registered: FakeDaemon, spotwatch: Spotwatch, short_dir: Path) -> None:
    """The body has absolute paths, the command as given, and every option that was named."""
    options = ("--store", "file:///s", "--checkpoint-glob", "*.pt", "--signal", "usr1")
    done = spotwatch(
        *("run", "--name", "resnet", "--checkpoint-dir", "a/../ckpt", *options),
        *("--interval", "90", "--detach", "sh", "-c", "echo --name x", "--", "--store"),
        env={"CUDA_VISIBLE_DEVICES": "0", "UNRELATED": "1"},
    )
    assert (done.returncode, done.stdout) == (0, "resnet  running\n")
    (body,) = registered.posted("/v1/jobs")
    env = body.pop("env")
    program = body["argv"].pop(0)
    assert Path(program).is_absolute()
    assert Path(program).name == "sh"
    assert body == {
        "name": "resnet",
        "argv": ["-c", "echo --name x", "--", "--store"],
        "cwd": str(short_dir),
        "checkpoint_dir": str(short_dir / "ckpt"),
        "checkpoint_glob": "*.pt",
        "store": "file:///s",
        "signal": "SIGUSR1",
        "interval": 90.0,
    }
    assert (short_dir / "ckpt").is_dir()
    assert env["CUDA_VISIBLE_DEVICES"] == "0"
    assert "UNRELATED" not in env


def test_secrets_stay_here_unless_named(registered: FakeDaemon, spotwatch: Spotwatch) -> None:
    """HF_TOKEN never goes along by itself; --env takes it along and says what that means."""
    secret = {"HF_TOKEN": "hf_x", "WANDB_API_KEY": "w"}
    run = ("run", "--name", "resnet", "--checkpoint-dir", "ckpt", "--detach")
    spotwatch(*run, "true", env=secret)
    done = spotwatch(*run, "--env", "WANDB_API_KEY", "--env", "A=b=c", "true", env=secret)
    first, second = (body["env"] for body in registered.posted("/v1/jobs"))
    assert not {"HF_TOKEN", "WANDB_API_KEY"} & set(first)
    assert "HF_TOKEN" not in second
    assert (second["WANDB_API_KEY"], second["A"]) == ("w", "b=c")
    assert "WANDB_API_KEY is written to the store" in done.stderr


def test_the_python_of_a_virtual_environment_keeps_its_name(
    registered: FakeDaemon, spotwatch: Spotwatch, short_dir: Path
) -> None:
    """A link on PATH is made absolute, not resolved: it would be another environment."""
    link = short_dir / "bin" / "python"
    link.parent.mkdir()
    link.symlink_to(sys.executable)
    path = f"{link.parent}:{os.environ['PATH']}"
    run = ("run", "--name", "resnet", "--checkpoint-dir", "ckpt", "--detach", "python", "t.py")
    assert spotwatch(*run, env={"PATH": path}).returncode == 0
    assert registered.posted("/v1/jobs")[0]["argv"] == [str(link), "t.py"]


REFUSED = {
    "no name": (("run", "--checkpoint-dir", "c", "true"), 64, "--name"),
    "no command": (("run", "--name", "a", "--checkpoint-dir", "c"), 1, "no command"),
    "no such program": (("run", "--name", "a", "--checkpoint-dir", "c", "nix-da"), 1, "nix-da"),
    "no such signal": (
        ("run", "--name", "a", "--checkpoint-dir", "c", "--signal", "SIGX", "true"),
        64,
        "SIGX",
    ),
    "unset variable": (
        ("run", "--name", "a", "--checkpoint-dir", "c", "--env", "NOPE_X", "true"),
        1,
        "NOPE_X",
    ),
    "directory below a file": (
        ("run", "--name", "a", "--checkpoint-dir", "/dev/null/c", "true"),
        1,
        "/dev/null/c",
    ),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_is_refused_before_the_daemon_is_asked(
    fake: FakeDaemon, spotwatch: Spotwatch, case: str
) -> None:
    """Each wrong command line names what is wrong and a remedy, and registers nothing."""
    words, status, says = REFUSED[case]
    done = spotwatch(*words)
    assert done.returncode == status
    assert says in done.stderr
    assert "  fix     " in done.stderr
    assert fake.calls == []


def test_a_refusal_of_the_daemon_is_told_in_full(fake: FakeDaemon, spotwatch: Spotwatch) -> None:
    """problem+json becomes what, where and fix on stderr, and status 1."""
    problem = {"detail": "the name is taken", "where": "name", "remedy": "choose another"}
    fake.answers["/v1/jobs"] = (409, problem)
    done = spotwatch("run", "--name", "resnet", "--checkpoint-dir", "c", "true")
    assert done.returncode == 1
    assert done.stderr == (
        "spotwatch: the name is taken\n  where   name\n  fix     choose another\n"
    )


@pytest.mark.parametrize(
    ("outcome", "status", "expected"),
    [
        ("finished", 0, 0),
        ("crashed", 3, 3),
        ("crashed", -9, 137),
        ("crashed", None, 1),
        ("preempted", 75, 75),
        ("preempted", None, 75),
        ("stopped", 75, 75),
    ],
)
def test_the_end_of_the_job_is_the_end_of_the_run(
    registered: FakeDaemon,
    attach: Callable[..., Attached],
    until: Until,
    outcome: str,
    status: int | None,
    expected: int,
) -> None:
    """The exit status of the job is returned, a signal as 128 + N."""
    attached = attach()
    until(lambda: registered.listeners == 1, "it listens")
    registered.events.append({"event": "ended", "outcome": outcome, "exit_status": status})
    assert attached.process.wait(20) == expected


def test_the_story_and_the_output(
    registered: FakeDaemon, attach: Callable[..., Attached], until: Until, short_dir: Path
) -> None:
    """Sentences go to stderr with the job's name; the job's own output, all of it, to stdout."""
    log = short_dir / "output.log"
    attached = attach()
    until(lambda: registered.listeners == 1, "it listens")
    registered.answers[JOB] = (200, job_document("resnet", attempt=1, output=str(log)))
    registered.events += [
        {"event": "state", "job": "resnet", "state": "running"},
        {"event": "attempt", "job": "resnet", "line": "attempt 1, starting at step 0"},
    ]
    until(lambda: "starting at step 0" in attached.said(), "the sentence")
    log.write_bytes(b"loss 1\n\xff\n")
    until(lambda: attached.out.read_bytes() == b"loss 1\n\xff\n", "the output so far")
    with log.open("ab") as more:
        more.write(b"loss 2\n" * 50_000)
    registered.events.append({"event": "ended", "outcome": "finished", "exit_status": 0})
    assert attached.process.wait(20) == 0
    assert attached.out.read_bytes() == b"loss 1\n\xff\n" + b"loss 2\n" * 50_000
    assert attached.said() == "resnet  attempt 1, starting at step 0\n"


def test_the_output_of_every_attempt(
    registered: FakeDaemon, attach: Callable[..., Attached], until: Until, short_dir: Path
) -> None:
    """When an attempt follows another, both outputs are copied, each to its end."""
    one, two = short_dir / "1.log", short_dir / "2.log"
    attached = attach()
    until(lambda: registered.listeners == 1, "it listens")
    one.write_bytes(b"first\n")
    registered.answers[JOB] = (200, job_document("resnet", attempt=1, output=str(one)))
    until(lambda: attached.out.read_bytes() == b"first\n", "the first attempt's output")
    with one.open("ab") as more:
        more.write(b"its end\n")
    two.write_bytes(b"second\n")
    registered.answers[JOB] = (200, over("finished", 0, attempt=2, output=str(two)))
    assert attached.process.wait(20) == 0
    assert attached.out.read_bytes() == b"first\nits end\nsecond\n"


def test_an_end_that_no_event_told_is_found(
    registered: FakeDaemon, attach: Callable[..., Attached], until: Until
) -> None:
    """When the stream misses the end, the job's document tells it."""
    attached = attach()
    until(lambda: registered.listeners == 1, "it listens")
    registered.answers[JOB] = (200, over("finished", 0))
    assert attached.process.wait(20) == 0


def test_a_restart_of_the_daemon_is_survived(
    registered: FakeDaemon, attach: Callable[..., Attached], until: Until
) -> None:
    """The run waits while the daemon is away, says so, and goes on when it is back."""
    attached = attach()
    until(lambda: registered.listeners == 1, "it listens")
    registered.stop()
    until(lambda: "does not answer" in attached.said(), "it says that the daemon is away")
    assert attached.process.poll() is None
    registered.restart()
    until(lambda: "is back" in attached.said(), "it says that the daemon is back")
    until(lambda: registered.listeners == 2, "it listens again")
    registered.events.append({"event": "x", "line": "committed"})
    until(lambda: "resnet  committed" in attached.said(), "the story goes on")
    registered.events.append({"event": "ended", "outcome": "finished", "exit_status": 0})
    assert attached.process.wait(20) == 0


def test_ctrl_c_asks_then_lets_go(
    registered: FakeDaemon, attach: Callable[..., Attached], until: Until
) -> None:
    """The first Ctrl-C asks the job to save and stop, once; the second ends only the command."""
    attached = attach()
    until(lambda: registered.listeners == 1, "it listens")
    attached.process.send_signal(signal.SIGINT)
    until(lambda: registered.posted(JOB + "/stop") == [None], "the job is asked to stop")
    assert attached.process.poll() is None
    attached.process.send_signal(signal.SIGINT)
    assert attached.process.wait(20) == 130
    assert registered.posted(JOB + "/stop") == [None]


def test_ctrl_c_waits_for_the_end(
    registered: FakeDaemon, attach: Callable[..., Attached], until: Until
) -> None:
    """After one Ctrl-C the run ends when the job has saved, with the job's status."""
    registered.on_post = lambda target: (
        registered.events.append({"event": "ended", "outcome": "stopped", "exit_status": 75})
        if target.endswith("/stop")
        else None
    )
    attached = attach()
    until(lambda: registered.listeners == 1, "it listens")
    attached.process.send_signal(signal.SIGINT)
    assert attached.process.wait(20) == 75


def test_ctrl_c_while_the_daemon_is_away_is_kept(
    registered: FakeDaemon, attach: Callable[..., Attached], until: Until
) -> None:
    """A stop that cannot be delivered now is delivered when the daemon is back."""
    attached = attach()
    until(lambda: registered.listeners == 1, "it listens")
    registered.stop()
    until(lambda: "does not answer" in attached.said(), "it says that the daemon is away")
    attached.process.send_signal(signal.SIGINT)
    until(lambda: "asked to save" in attached.said(), "it says what it will do")
    assert attached.process.poll() is None
    registered.restart()
    until(lambda: registered.posted(JOB + "/stop") == [None], "the job is asked to stop")


def test_a_lost_terminal_detaches(
    registered: FakeDaemon, attach: Callable[..., Attached], until: Until
) -> None:
    """SIGHUP ends the command and asks nothing of the job."""
    attached = attach()
    until(lambda: registered.listeners == 1, "it listens")
    attached.process.send_signal(signal.SIGHUP)
    assert attached.process.wait(20) == 129
    assert registered.posted(JOB + "/stop") == []


def test_json_gives_events_only(
    registered: FakeDaemon, attach: Callable[..., Attached], until: Until
) -> None:
    """With --json stdout has one event per line and stderr nothing."""
    attached = attach(before=("--json",))
    until(lambda: registered.listeners == 1, "it listens")
    events = [
        {"event": "committed", "job": "resnet", "line": "step 5 committed", "step": 5},
        {"event": "ended", "job": "resnet", "outcome": "finished", "exit_status": 0},
    ]
    registered.events += events
    assert attached.process.wait(20) == 0
    assert [json.loads(line) for line in attached.out.read_text().splitlines()] == events
    assert attached.said() == ""


def test_a_job_that_is_over_is_not_waited_for(fake: FakeDaemon, spotwatch: Spotwatch) -> None:
    """Running a finished job again says that it is finished and returns its status."""
    fake.answers["/v1/jobs"] = (200, over("crashed", 3, reason="3 crashes without a new step"))
    done = spotwatch("run", "--name", "resnet", "--checkpoint-dir", "c", "true")
    assert done.returncode == 3
    assert done.stderr == "resnet  already crashed: 3 crashes without a new step\n"


def test_output_of_before_is_not_repeated(
    registered: FakeDaemon, attach: Callable[..., Attached], until: Until, short_dir: Path
) -> None:
    """Attaching to a job that runs already shows what it prints from now on."""
    log = short_dir / "output.log"
    log.write_bytes(b"old\n")
    running = job_document("resnet", attempt=4, output=str(log))
    registered.answers["/v1/jobs"] = registered.answers[JOB] = (200, running)
    attached = attach()
    until(lambda: registered.listeners == 1, "it listens")
    registered.events.append({"event": "x", "line": "seen"})
    until(lambda: "seen" in attached.said(), "it has looked at the output")
    with log.open("ab") as more:
        more.write(b"new\n")
    until(lambda: attached.out.read_bytes() == b"new\n", "only the new output")
