"""A job's code: into the store on the machine that has it, onto the disk of one that has not.

A copy on a machine is named by the digest of its bundle or by its commit, made in a
temporary directory and renamed: it is whole, or it is not there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from spotwatchd.core.code import Bundle, Code, Git
from spotwatchd.errors import Damaged
from spotwatchd.store.base import Backend
from spotwatchd.store.checksum import crc64nvme_of_file
from spotwatchd.store.lacking import Lacking
from spotwatchd.store.layout import code_key
from spotwatchd.store.patience import Patience
from spotwatchd.store.shipboard import Outgoing
from spotwatchd.store.shipping import ship
from spotwatchd.store.unpack import Bounds, unpack

_GIT_SECONDS = 900.0


def publish(backend: Backend, job: str, bundle: Bundle, path: Path, limits: Patience) -> bool:
    """Bring a bundle into the store, unless it is there. Returns whether it was brought.

    Raises:
        Damaged: the file at ``path`` is not the bundle (any more).
        StoreDenied, Cancelled, OutOfTime.
    """
    key = code_key(job, bundle.sha256)
    there = limits.retry(lambda: backend.info(key))
    if there is not None and there.size == bundle.size:
        return False
    try:
        found = _sha256(path)
        _, crc = crc64nvme_of_file(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if found != bundle.sha256:
        raise _changed(path)
    outgoing = Outgoing(key, path, path.name, bundle.size)
    (sent,) = ship(backend, [outgoing], limits, trouble=limits.trouble)
    if sent.crc64nvme != crc:
        limits.retry(lambda: backend.delete([key]))
        raise _changed(path)
    return True


def _changed(path: Path) -> Damaged:
    return Damaged("the bundle of the code has changed", where=str(path), remedy=_MAKE_IT_AGAIN)


_MAKE_IT_AGAIN = "run the job again where its code is: spotwatch run --code bundle ..."


def _unreadable(path: Path, error: OSError) -> Damaged:
    return Damaged(
        f"the bundle of the code cannot be read: {error.strerror or error}",
        where=str(path),
        remedy=_MAKE_IT_AGAIN,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def provide(backend: Backend, job: str, code: Code, directory: Path, limits: Patience) -> Path:
    """The directory with the code on this machine, fetched if need be.

    Args:
        backend: the store.
        job: its name there.
        code: which.
        directory: below which copies are kept.
        limits: cancels it.

    Raises:
        Lacking: it cannot be had here; with the remedy.
        Damaged: what the store has is not what the spec names, or must not be unpacked.
        StoreDenied, Cancelled, OSError.
    """
    target = directory / code.key
    if not target.is_dir():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if isinstance(code, Git):
            _clone(code, target, limits)
        else:
            _fetch(backend, job, code, target, limits)
    return target


# -- bundles ---------------------------------------------------------------------------------


def _fetch(backend: Backend, job: str, bundle: Bundle, target: Path, limits: Patience) -> None:
    archive = target.with_name(f".{bundle.sha256}.tar.gz")
    try:
        limits.retry(lambda: _download(backend, job, bundle, archive, limits))
        unpack(archive, target, Bounds(bundle.unpacked, bundle.entries))
    except Damaged as error:
        where = f"{backend.url}/{code_key(job, bundle.sha256)}"
        raise Damaged(
            f"the code is refused: {error.what}", where=where, remedy=_MAKE_IT_AGAIN
        ) from error
    finally:
        archive.unlink(missing_ok=True)


def _download(backend: Backend, job: str, bundle: Bundle, archive: Path, limits: Patience) -> None:
    key = code_key(job, bundle.sha256)
    digest, size = hashlib.sha256(), 0
    archive.unlink(missing_ok=True)
    try:
        with archive.open("xb") as file:
            for chunk in backend.read(key):
                limits.check()
                size += len(chunk)
                if size > bundle.size:
                    break
                digest.update(chunk)
                file.write(chunk)
    except KeyError:
        raise Lacking(
            "the code of the job is not in the store",
            where=f"{backend.url}/{key}",
            remedy=_MAKE_IT_AGAIN,
        ) from None
    if size != bundle.size or digest.hexdigest() != bundle.sha256:
        raise Damaged("it is not the bundle that the spec names (size or SHA-256 differ)")


# -- git -------------------------------------------------------------------------------------


def _clone(code: Git, target: Path, limits: Patience) -> None:
    temporary = target.with_name(f".{target.name}.fetching")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _git(["init", "--quiet", str(temporary)], code, limits)
        shallow = ["fetch", "--quiet", "--depth", "1", "--", code.url, code.commit]
        try:
            _git(["-C", str(temporary), *shallow], code, limits)
        except Lacking:  # a server that gives out branches only: all of them, then
            every = ["fetch", "--quiet", "--", code.url, "+refs/*:refs/fetched/*"]
            _git(["-C", str(temporary), *every], code, limits)
        _git(["-C", str(temporary), "checkout", "--quiet", "--detach", code.commit], code, limits)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _git(words: list[str], code: Git, limits: Patience) -> None:
    """Run git. It asks nobody, and no hook or other transport of a template runs."""
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "GIT_LFS_SKIP_SMUDGE": "0"}
    settings = ("-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never")
    try:
        process = subprocess.Popen(
            ["git", *settings, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "GIT_SSH_COMMAND": "ssh -oBatchMode=yes", **quiet},
        )
    except OSError as error:
        raise Lacking("git is not on this machine", where=code.url, remedy="install git") from error
    said = _ended(process, limits)
    if process.returncode != 0:
        raise Lacking(
            f"commit {code.commit[:12]} cannot be fetched: {said or 'git said nothing'}",
            where=code.url,
            remedy="push the commit, and let this machine's user read the repository",
        )


def _ended(process: subprocess.Popen[bytes], limits: Patience) -> str:
    """Wait for it while somebody still wants it. Returns the last line of its complaint."""
    end = time.monotonic() + _GIT_SECONDS
    try:
        while True:
            try:
                _, said = process.communicate(timeout=0.2)
            except subprocess.TimeoutExpired:
                limits.check()
                if time.monotonic() > end:
                    return f"no end after {_GIT_SECONDS:.0f} s"
                continue
            lines = said.decode("utf-8", "replace").strip().splitlines()
            return lines[-1][:200] if lines else ""
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
