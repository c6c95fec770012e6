"""A restored checkpoint gets its name before it is on disk, and a note says so.

To force 2 GiB to a disk that writes 125 MB/s (gp3's default) takes 17 s, in which a job could
train: it reads what was restored from memory. But a name is a seal, and who sees one trusts
it without reading. So before the checkpoint is named a note is made durable:

    .spotwatch/unsynced-ID.json     PATH was restored in boot BOOT, and may not all be on disk

A thread then forces the files to disk, which the kernel would do by itself a little later,
and takes the note away. A replicator that is killed finds the note and begins again. After
a power cut the note is of another boot: the checkpoint loses its name before anybody looks,
and what of it verifies is used when it is restored anew.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spotwatchd.core.fields import dump, load
from spotwatchd.core.ids import CheckpointId
from spotwatchd.core.manifest import is_inside
from spotwatchd.errors import SpotwatchError
from spotwatchd.store.files import sync_directory
from spotwatchd.store.local_journal import FOLDER, write_whole
from spotwatchd.store.partial import aside

_PREFIX = "unsynced-"
Problem = Callable[[OSError], None]


@dataclass(frozen=True)
class Note:
    """See the head of this file.

    Attributes:
        directory: the checkpoint directory.
        path: the checkpoint's name in it.
        inode: tells it from another one that got its name since. Not its times: a machine
            that dies may lose those too.
    """

    directory: Path
    id: CheckpointId
    path: str
    inode: int
    boot_id: str

    @property
    def file(self) -> Path:
        """Where it is."""
        return self.directory / FOLDER / f"{_PREFIX}{self.id}.json"

    def make(self) -> None:
        """Durably. Raises OSError."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        fields = {"path": self.path, "inode": self.inode, "boot_id": self.boot_id}
        write_whole(self.file, dump({"id": str(self.id), **fields}))

    def is_about(self) -> bool:
        """Whether the checkpoint is still there, and not another one in its place."""
        try:
            return (self.directory / self.path).lstat().st_ino == self.inode
        except OSError:
            return False

    def drop(self) -> None:
        """Not needed any more, unless it was made anew. Raises OSError."""
        if _read(self.directory, self.file) == self:
            self.file.unlink(missing_ok=True)


def sync_later(note: Note, problem: Problem) -> threading.Thread:
    """Force the checkpoint to disk in a thread, then drop the note."""
    thread = threading.Thread(target=_sync, args=(note, problem), name="sync", daemon=True)
    thread.start()
    return thread


def _sync(note: Note, problem: Problem) -> None:
    try:
        sync_tree(note.directory / note.path)
        sync_directory((note.directory / note.path).parent)
        note.drop()
    except FileNotFoundError:
        # Retention took the checkpoint away; what has its name now was not restored.
        with contextlib.suppress(OSError):
            if not note.is_about():
                note.drop()
    except OSError as error:
        problem(error)


def sync_tree(path: Path) -> None:
    """Force a file, or a directory and all below it, to disk. Raises OSError."""
    if not path.is_dir():
        _sync_file(path)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            _sync_file(Path(folder) / name)
        sync_directory(Path(folder))


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(directory: Path, boot_id: str, problem: Problem) -> None:
    """Deal with the notes that an earlier process left. Before the directory is looked at.

    Raises OSError.
    """
    for file in (directory / FOLDER).glob(f"{_PREFIX}*.json"):
        note = _read(directory, file)
        if note is None or not note.is_about():
            file.unlink(missing_ok=True)
        elif note.boot_id == boot_id:
            sync_later(note, problem)
        else:
            _move_aside(note)


def _move_aside(note: Note) -> None:
    target = aside(note.directory, note.id) / note.path
    target.parent.mkdir(parents=True, exist_ok=True)
    (note.directory / note.path).rename(target)
    sync_directory((note.directory / note.path).parent)
    note.drop()


def _read(directory: Path, file: Path) -> Note | None:
    try:
        fields = load(file.read_bytes(), str(file))
        path, inode, boot_id = fields.text("path"), fields.number("inode"), fields.text("boot_id")
        checkpoint = CheckpointId.find(fields.text("id"))
    except (OSError, SpotwatchError):
        return None
    if checkpoint is None or not is_inside(path):
        return None
    return Note(directory, checkpoint, path, inode, boot_id)
