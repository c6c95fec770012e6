"""``spotwatch fake-imds`` against a running fake."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotwatchd.cli import fake_imds
from spotwatchd.errors import DaemonUnreachable, SpotwatchError
from spotwatchd.testing import KINDS, FakeIMDS
from spotwatchd.watch import parse
from tests.shell.watch.helpers import free_port

# A command line of its own: the parser of `spotwatch` is somebody else's.
MAIN = """
import argparse, sys
from spotwatchd.cli import fake_imds
parser = argparse.ArgumentParser()
fake_imds.register(parser.add_subparsers())
args = parser.parse_args()
sys.exit(args.func(args))
"""


def run(*words: str) -> int:
    """Parse and carry out, as the main program does."""
    parser = argparse.ArgumentParser()
    fake_imds.register(parser.add_subparsers())
    args = parser.parse_args(["fake-imds", *words])
    status: int = args.func(args)
    return status


@pytest.fixture
def fake() -> Iterator[FakeIMDS]:
    """Served from a thread."""
    with FakeIMDS() as imds:
        yield imds


@pytest.fixture
def at(fake: FakeIMDS) -> str:
    """HOST:PORT of it."""
    return fake.url.removeprefix("http://")


def shown(at: str, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """The state as `state` prints it."""
    capsys.readouterr()
    assert run("state", "--at", at) == 0
    state: dict[str, object] = json.loads(capsys.readouterr().out)
    return state


def test_notice(fake: FakeIMDS, at: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The time is SECONDS from now, and one line says what is on display."""
    assert run("notice", "--in", "20", "--action", "stop", "--at", at) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{fake.url}: stop at ")
    told = parse.rfc3339(line.split()[-1])
    assert abs(told - time.time() - 20) < 5


def test_the_other_orders(fake: FakeIMDS, at: str, capsys: pytest.CaptureFixture[str]) -> None:
    """rebalance, event, asg, fault, heal and clear each change what is on display."""
    assert run("rebalance", "--at", at) == 0
    assert run("event", "system-reboot", "--in", "60", "--at", at) == 0
    assert run("asg", "Terminated", "--at", at) == 0
    assert run("fault", "503", "--for", "60", "--path", "spot", "--at", at) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert re_words(line) >= {"rebalance", "system-reboot", "Terminated", "503"}
    state = shown(at, capsys)
    assert state["faults"] == ["503"]
    assert state["autoscaling"] == "Terminated"
    run("heal", "--at", at)
    assert shown(at, capsys)["faults"] == []
    run("clear", "--at", at)
    assert capsys.readouterr().out == f"{fake.url}: quiet\n"


def re_words(line: str) -> set[str]:
    """The words of a line without their commas."""
    return {word.strip(",") for word in line.split()}


def test_an_unknown_fault_is_refused_with_the_known_ones(at: str) -> None:
    """What, where, remedy."""
    with pytest.raises(SpotwatchError, match="slowloris") as caught:
        run("fault", "gremlins", "--at", at)
    assert caught.value.where == at


def test_nobody_there_is_said_with_the_way_to_start_one() -> None:
    """The remedy can be pasted."""
    at = f"127.0.0.1:{free_port()}"
    with pytest.raises(DaemonUnreachable) as caught:
        run("clear", "--at", at)
    assert caught.value.remedy.endswith(f"fake-imds serve --listen {at}")


@pytest.mark.parametrize("text", ["1338", ":1338", "host:", "host:port", "host:99999", "h:٣"])
def test_an_address_needs_a_host_and_a_port(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The example shows how."""
    with pytest.raises(SystemExit):
        run("clear", "--at", text)
    assert "is not HOST:PORT, e.g. 127.0.0.1:1338" in capsys.readouterr().err


def test_addresses() -> None:
    """IPv6 in brackets."""
    assert fake_imds.address("[::1]:80") == ("::1", 80)
    assert fake_imds.address("localhost:0") == ("localhost", 0)


def test_serve_listens_says_where_and_ends_on_sigterm() -> None:
    """The first line is printed when it listens; the exit status is 0."""
    command = [sys.executable, "-W", "error", "-c", MAIN]
    serve = [*command, "fake-imds", "serve", "--listen", "127.0.0.1:0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(fake_imds.__file__).parents[2])}
    with subprocess.Popen(
        serve, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        at = process.stdout.readline().split()[-1].removeprefix("http://")
        assert run("notice", "--in", "5", "--at", at) == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_the_manual_names_every_fault_and_every_order() -> None:
    """The tables of docs/fake-imds.md are complete."""
    manual = (Path(fake_imds.__file__).parents[2] / "docs" / "fake-imds.md").read_text()
    parser = argparse.ArgumentParser()
    orders = parser.add_subparsers()
    fake_imds.register(orders)
    usage = orders.choices["fake-imds"].format_help()
    listed = usage.split("ORDER", 2)[2].split("\n    ")[1:]
    names = [line.split()[0] for line in listed if not line.startswith(" ")]
    assert {"serve", "notice", "fault", "state"} <= set(names)
    assert [name for name in names if f"| `{name}" not in manual] == []
    assert [kind for kind in KINDS if f"`{kind}`" not in manual] == []


def test_the_orders_load_no_aiohttp() -> None:
    """A client of the fake needs the standard library only."""
    probe = "import sys, spotwatchd.cli.fake_imds; sys.exit('aiohttp' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(fake_imds.__file__).parents[2])}
    assert (
        subprocess.run([sys.executable, "-c", probe], env=environment, check=False).returncode == 0
    )
