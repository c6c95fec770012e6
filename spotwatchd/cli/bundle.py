"""Packing a directory for machines that do not have it. Standard library only, Python 3.10 too.

The same files give the same archive: names sorted, times and owners left out. Its name is its
digest, so a store holds one copy however often the job is registered.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spotwatchd.errors import JobError

# Without git to say what belongs to the project.
_CACHES = (".cache", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints")
_NEVER = frozenset(
    (
        ".git",
        ".hg",
        ".svn",
        "__pycache__",
        ".venv",
        "venv",
        "node_modules",
        ".tox",
        "wandb",
        *_CACHES,
    )
)
# Files that hold secrets by custom. A store is read by more people than a home directory.
_SECRET = frozenset((".env", ".netrc", ".pgpass", ".git-credentials", ".npmrc", ".pypirc"))
_SECRET_ENDINGS = (".pem", ".key", ".p12", ".pfx")
_SECRET_BEGINNINGS = (".env.", "id_rsa", "id_ed25519", "id_ecdsa")


@dataclass
class Listing:
    """What goes into a bundle.

    Attributes:
        root: absolute.
        by_git: git chose the files, so .gitignore was obeyed.
        files: relative paths with their sizes, sorted.
        left_out: relative paths of files that look like secrets, of links that lead away, and
            of repositories inside this one (with a slash).
    """

    root: Path
    by_git: bool
    files: list[tuple[str, int]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)


def root_of(directory: Path) -> Path:
    """The working tree that ``directory`` is in, or itself where git knows none."""
    told = _git(directory, "rev-parse", "--show-toplevel")
    return Path(told.strip()) if told else directory


def list_files(root: Path, without: list[Path]) -> Listing:
    """What of ``root`` goes along.

    Args:
        root: absolute.
        without: absolute paths that are left out with all that is in them.
    """
    told = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    found = Listing(root, told is not None)
    names = _walk(root) if told is None else (name for name in told.split("\0") if name)
    away = [os.path.realpath(path) for path in without]
    for name in sorted(set(names)):
        _add(found, name, away)
    return found


def _add(found: Listing, name: str, away: list[str]) -> None:
    path = found.root / name
    real = os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118
    if any(real == each or real.startswith(f"{each}/") for each in away):
        return
    try:
        info = path.lstat()
    except OSError:
        return  # git lists what was deleted and not yet staged
    if stat.S_ISLNK(info.st_mode):
        if _stays_inside(path, found.root):
            found.files.append((name, 0))
        else:
            found.left_out.append(name)
    elif stat.S_ISDIR(info.st_mode):
        found.left_out.append(f"{name.rstrip('/')}/")  # git lists one where it is a submodule
    elif stat.S_ISREG(info.st_mode):
        if _looks_secret(path.name):
            found.left_out.append(name)
        else:
            found.files.append((name, info.st_size))


def _stays_inside(link: Path, root: Path) -> bool:
    inside = os.path.realpath(root)
    real = os.path.realpath(link)
    relative = not os.path.isabs(os.readlink(link))  # noqa: PTH115, PTH117 - as it is written
    return relative and (real == inside or real.startswith(f"{inside}/"))


def _looks_secret(name: str) -> bool:
    known = name in _SECRET or name.endswith(_SECRET_ENDINGS)
    return known or name.startswith(_SECRET_BEGINNINGS)


def _walk(root: Path) -> Iterator[str]:
    for directory, below, names in os.walk(root):
        below[:] = [
            each
            for each in below
            if each not in _NEVER and not Path(directory, each, "pyvenv.cfg").exists()
        ]
        links = [each for each in below if Path(directory, each).is_symlink()]
        for name in (*names, *links):
            if not name.endswith((".pyc", ".pyo")):
                yield str(Path(directory, name).relative_to(root))


def _git(directory: Path, *words: str) -> str | None:
    """What git says, or None where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *words], capture_output=True, check=False
        )
    except OSError:
        return None
    return os.fsdecode(done.stdout) if done.returncode == 0 else None


def check_size(found: Listing, limit_mb: float) -> None:
    """Refuse a bundle that is no code any more. Raises JobError naming the largest files."""
    if found.size <= limit_mb * 1e6:
        return
    largest = sorted(found.files, key=lambda each: -each[1])[:3]
    named = ", ".join(f"{name} ({size / 1e6:.1f} MB)" for name, size in largest)
    raise JobError(
        f"the code has {found.size / 1e6:.1f} MB, more than {limit_mb:g} MB: {named}",
        where=str(found.root),
        remedy="name in .gitignore what is no code (see: --code-dry-run), or raise --code-max-mb",
    )


def pack(found: Listing, directory: Path) -> dict[str, str]:
    """Make the archive in ``directory``. Returns the ``code`` of the job's spec.

    Raises JobError when it cannot be written or a file cannot be read.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = directory / f".packing-{os.getpid()}"
        try:
            entries = _write(found, temporary)
            digest, size = _digest(temporary)
            temporary.replace(path_of(directory, digest))
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise JobError(
            f"the code cannot be packed: {error.strerror or error}",
            where=str(error.filename or directory),
            remedy="free space, or name in .gitignore what you may not read",
        ) from error
    return {
        "kind": "bundle",
        "sha256": digest,
        "size": str(size),
        "unpacked": str(found.size),
        "entries": str(entries),
        "root": str(found.root),
    }


def path_of(directory: Path, digest: str) -> Path:
    """Where the bundle of that digest lies."""
    return directory / f"{digest}.tar.gz"


def _write(found: Listing, path: Path) -> int:
    # The digest must not depend on when, where or by whom it was packed.
    with (
        path.open("xb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, size in found.files:
            _pack_one(tar, found.root / name, name, size)
    return len(found.files)


def _pack_one(tar: tarfile.TarFile, path: Path, name: str, size: int) -> None:
    entry = tarfile.TarInfo(name)
    if path.is_symlink():
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)  # noqa: PTH115
        tar.addfile(entry)
        return
    with path.open("rb") as file:
        # A file that grows meanwhile (a log) is cut: its declared size is what was listed.
        data = file.read(size)
        entry.size = len(data)
        entry.mode = 0o755 if os.fstat(file.fileno()).st_mode & 0o100 else 0o644
    tar.addfile(entry, io.BytesIO(data))


def _digest(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size
