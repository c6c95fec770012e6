"""Finding GPUs with a real nvidia-smi on the PATH: a program that answers, hangs, fails, raves."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from spotwatchd.jobs.gpus import Found, Gpu, find, parse

ONE = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
TWO = "GPU-1f22a253-c329-dfb7-0db4-e005efb6a4c7"


class Host:
    """A machine's PATH and /proc."""

    def __init__(self, root: Path) -> None:
        self.path, self.proc = root / "bin", root / "proc"
        self.path.mkdir()
        self.said = root / "said"

    def smi(self, script: str) -> None:
        """Install an nvidia-smi; it notes how it was called."""
        program = self.path / "nvidia-smi"
        program.write_text(f'#!/bin/sh\necho "$@" >> {self.said}\n{script}\n')
        program.chmod(0o755)

    def gpu(self, place: str, uuid: str) -> None:
        """The driver's directory of one GPU."""
        folder = self.proc / "driver/nvidia/gpus" / place
        folder.mkdir(parents=True)
        text = f"Model: \t\t NVIDIA L4\nIRQ:   \t\t 79\nGPU UUID: \t {uuid}\nBus Type: \t PCIe\n"
        (folder / "information").write_text(text)

    async def find(self, limit: float = 20.0) -> Found:
        """Look."""
        return await find(str(self.path), self.proc, limit)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A machine without any GPU."""
    return Host(tmp_path)


async def test_two_gpus_are_found_by_index_and_identity(host: Host) -> None:
    """In the order of their indices, however they are printed."""
    host.smi(f"echo '1, {TWO}'; echo '0, {ONE}'")
    assert await host.find() == Found((Gpu(0, ONE), Gpu(1, TWO)))
    assert host.said.read_text().split() == ["--query-gpu=index,uuid", "--format=csv,noheader"]


async def test_a_machine_without_any_has_none(host: Host) -> None:
    """And nothing is wrong with it."""
    assert await host.find() == Found(())


async def test_without_the_program_the_driver_s_directory_tells(host: Host) -> None:
    """In the order of the PCI bus, as nvidia-smi counts."""
    host.gpu("0000:af:00.0", TWO)
    host.gpu("0000:3b:00.0", ONE)
    assert await host.find() == Found((Gpu(0, ONE), Gpu(1, TWO)))


def _gone(pid_file: Path) -> bool:
    return not Path(f"/proc/{int(pid_file.read_text())}/cmdline").exists()


def test_a_program_that_hangs_is_ended_and_told(host: Host, until: Callable[..., None]) -> None:
    """What the driver's directory says is used meanwhile."""
    pid_file = host.path / "pid"
    host.smi(f"echo $$ > {pid_file}; exec sleep 1000")
    host.gpu("0000:3b:00.0", ONE)
    found = asyncio.run(host.find(limit=2.0))
    assert found.gpus == (Gpu(0, ONE),)
    assert found.problem == f"{host.path / 'nvidia-smi'} did not answer within 2 s"
    until(lambda: _gone(pid_file), "the program is gone")


def test_a_look_that_is_cancelled_leaves_no_process(host: Host, until: Callable[..., None]) -> None:
    """The daemon may end at any time."""
    pid_file = host.path / "pid"
    host.smi(f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 1000")

    async def cancelled() -> None:
        looking = asyncio.get_running_loop().create_task(host.find())
        await asyncio.to_thread(until, pid_file.exists, "the program runs")
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking

    asyncio.run(cancelled())
    until(lambda: _gone(pid_file), "the program is gone")


async def test_a_program_that_fails_is_told(host: Host) -> None:
    """The sentence is its own, or its status where it has none."""
    host.smi("echo 'No devices were found'; exit 6")
    found = await host.find()
    assert found == Found((), f"{host.path / 'nvidia-smi'} says: No devices were found")
    host.smi("exit 9")
    assert (await host.find()).problem == f"{host.path / 'nvidia-smi'} ended with status 9"


async def test_a_program_that_cannot_be_started_is_told(host: Host) -> None:
    """A broken installation is no reason to fail."""
    program = host.path / "nvidia-smi"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(stat.S_IRWXU)
    found = await host.find()
    assert found == Found((), f"{program} cannot be started: No such file or directory")


async def test_a_gpu_that_fell_off_the_bus_is_told_and_left_out(host: Host) -> None:
    """The other one is found."""
    lost = "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost."
    host.smi(f"echo '{lost}'; echo '1, {TWO}'; exit 15")
    found = await host.find()
    assert found.gpus == (Gpu(1, TWO),)
    assert found.problem == f"{host.path / 'nvidia-smi'} says: {lost}"


async def test_a_program_that_raves_is_not_believed(host: Host) -> None:
    """Bytes that are no text, numbers that are no index."""
    host.smi("head -c 100000 /dev/urandom; echo; echo '-1, GPU-12345678'; echo '0, Tesla'")
    found = await host.find()
    assert found.gpus == ()
    assert "says" in found.problem
    assert len(found.problem) < 300 + len(str(host.path))


def test_the_same_line_twice_is_one_gpu() -> None:
    """And a line that is none is repeated to people in its first 200 characters."""
    found = parse(f"0, {ONE}\n0, {ONE}\n{'x' * 1000}\n", "smi", 0)
    assert found.gpus == (Gpu(0, ONE),)
    assert found.problem == f"smi says: {'x' * 200}"


async def test_the_search_goes_by_the_path_of_the_daemon(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a path of our own PATH decides."""
    host.smi(f"echo '0, {ONE}'")
    monkeypatch.setenv("PATH", f"{host.path}:{os.environ['PATH']}")
    assert await find(proc=host.proc) == Found((Gpu(0, ONE),))
