"""Which GPUs this machine has: asked of nvidia-smi, else read from /proc.

nvidia-smi counts in the order of the PCI bus, and so does /proc once its names are sorted.
Nothing here is trusted to answer: a GPU that fell off the bus makes nvidia-smi print a
sentence in the place of its line, and a stuck driver makes it hang, even against SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

# Without persistence mode the driver wakes every GPU up first: seconds for eight of them.
LIMIT = 20.0
# A killed process ends at once, or hangs in the driver for good.
_AFTER_KILL = 1.0
_LINE = re.compile(r"\s*(\d{1,4})\s*,\s*(GPU-[0-9a-fA-F-]{8,64})\s*", re.ASCII)
_UUID = re.compile(r"^GPU UUID:\s*(\S+)", re.MULTILINE)
_COMMAND = ("--query-gpu=index,uuid", "--format=csv,noheader")


@dataclass(frozen=True)
class Gpu:
    """One GPU: its place in the order of the PCI bus, and its identity ("" when unknown)."""

    index: int
    uuid: str = ""


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        gpus: by index.
        problem: what went wrong on the way, "" when nothing did.
    """

    gpus: tuple[Gpu, ...]
    problem: str = ""


async def find(path: str | None = None, proc: Path = Path("/proc"), limit: float = LIMIT) -> Found:
    """Look. Never raises, and returns within about ``limit`` seconds.

    Args:
        path: where programs are looked for, None for PATH.
        proc: of the kernel.
        limit: seconds for nvidia-smi.
    """
    program = await asyncio.to_thread(shutil.which, "nvidia-smi", path=path)
    said = await _ask(program, limit) if program is not None else Found(())
    if said.gpus:
        return said
    read = await asyncio.to_thread(_read, proc / "driver/nvidia/gpus")
    return Found(read, said.problem)


async def _ask(program: str, limit: float) -> Found:
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *_COMMAND,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        return Found((), f"{program} cannot be started: {error.strerror or error}")
    try:
        async with asyncio.timeout(limit):
            out, _ = await process.communicate()
    except TimeoutError:
        await _kill(process)
        return Found((), f"{program} did not answer within {limit:g} s")
    except asyncio.CancelledError:
        await _kill(process)
        raise
    return parse(out.decode("utf-8", "replace"), program, process.returncode or 0)


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_AFTER_KILL):
            await process.wait()


def parse(text: str, program: str, status: int) -> Found:
    """What nvidia-smi printed: the lines that are GPUs, and a word about the others."""
    found: dict[int, Gpu] = {}
    odd = ""
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is not None:
            found[int(match[1])] = Gpu(int(match[1]), match[2])
        elif line.strip():
            odd = odd or line.strip()[:200]
    problem = f"{program} says: {odd}" if odd else ""
    if status != 0 and not problem:
        problem = f"{program} ended with status {status}"
    return Found(tuple(found[index] for index in sorted(found)), problem)


def _read(folder: Path) -> tuple[Gpu, ...]:
    """One directory per GPU, named by its place on the PCI bus: DOMAIN:BUS:DEVICE.FUNCTION."""
    try:
        places = sorted(path.name for path in folder.iterdir())
    except OSError:
        return ()
    return tuple(Gpu(index, _uuid(folder / name)) for index, name in enumerate(places))


def _uuid(place: Path) -> str:
    try:
        match = _UUID.search((place / "information").read_text(errors="replace"))
    except OSError:
        return ""
    return match[1] if match else ""
