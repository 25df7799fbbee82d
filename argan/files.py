"""Files that appear whole or not at all: written under a temporary name, flushed to the disk, then renamed."""

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def flush(path: Path) -> None:
    """Ask the disk to keep a file or a folder's entries."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders, and keeps their entries by itself
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows flushes what may be written
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)  # the only way to ask is to set it
    os.umask(mask)
    return mask


UMASK = _umask()  # asked once: for that moment it is another for every thread


def _share(file: Path) -> None:
    """Give a file the permissions of any other new one, where the file system has them: memory cards do not."""
    with suppress(OSError):
        file.chmod(0o666 & ~UMASK)


PATIENCE = 1.0 if os.name == "nt" else 0.0  # s; pip has as much


def _rename(source: Path, target: Path) -> None:
    """os.replace, again and again for a while on Windows: virus scanners hold open for a moment what is new."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if time.monotonic() >= until:
                raise
        time.sleep(0.05)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes when it does not.

    Not by mkstemp: where Windows lets nobody write, it tries two thousand million names before it says so (gh-66305).
    """
    temporary = path.parent / f".argan.{secrets.token_hex(4)}{path.suffix}"  # with all of its name it might not fit
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        _share(temporary)  # some libraries make files that only their owner can read
        flush(temporary)
        _rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well.

    A folder cannot replace another in one step: an existing one is moved aside for the moment in between.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.mkdir()  # mkdtemp makes folders for their owner alone, on Windows for good
    try:
        yield temporary
        for file in temporary.iterdir():
            _share(file)
            flush(file)
        flush(temporary)
        _put_in_place(temporary, path)
        flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(folder: Path, path: Path) -> None:
    """Give a folder its name; one that has it is removed, or comes back where the system refuses."""
    if not path.exists():
        _rename(folder, path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    try:
        _rename(path, old / path.name)
        _rename(folder, path)
    except OSError:
        if not path.exists():
            _rename(old / path.name, path)
        old.rmdir()
        raise
    shutil.rmtree(old)
