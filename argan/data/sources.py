"""Where photographs come from: folders and zip archives."""

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from argan.errors import ArganError, UsageError, lower_first
from argan.images import READS
from argan.names import made_of

Box = tuple[float, float, float, float]
RESERVED = {"__macosx", "lost+found", "system volume information", "$recycle.bin"}
"""An archiver's own folder, and those of drives, which Windows writes in several ways; in small letters."""


class Source(ABC):
    """Named pictures: what a folder, a zip archive and a published set have in common.

    Attributes:
        path: where they are.
    """

    path: Path

    @abstractmethod
    def names(self) -> list[str]:
        """Paths of the files that look like pictures, sorted."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A file's content. OSError, or what zipfile raises, if it cannot be read."""

    def subject(self, name: str) -> Box | None:
        """The box around a picture's subject where that is known: (left, top, right, bottom) in px as stored."""
        return None

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes whenever the files do: their names, sizes and times, not their contents."""


class FolderSource(Source):
    """A folder and those below it, also where these are links: each once, so that links in a ring end."""

    def __init__(self, path: Path):
        self.path = path

    def names(self) -> list[str]:
        files = (path.relative_to(self.path).as_posix() for path in self._files())
        return sorted(name for name in files if is_picture(name))

    def _files(self) -> Iterator[Path]:
        seen = set()
        for parent, folders, names in os.walk(self.path, onerror=_refuse, followlinks=True):
            folders[:] = sorted(folder for folder in folders if not is_beside(folder))
            if (real := os.path.realpath(parent)) in seen:
                folders.clear()
            else:
                seen.add(real)
                yield from (Path(parent, name) for name in names)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def fingerprint(self) -> str:
        def line(name: str) -> str:
            try:
                stat = (self.path / name).stat()
                return f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}"
            except OSError:  # a dangling link: it will be named among the skipped files
                return name

        return "\n".join(map(line, self.names()))


def _refuse(error: OSError) -> NoReturn:
    """Photographs are not left out in silence."""
    raise ArganError(f"{error.filename}: {lower_first(error.strerror or str(error))}") from error


class ZipSource(Source):
    def __init__(self, path: Path, archive: zipfile.ZipFile):
        self.path, self.archive = path, archive

    def names(self) -> list[str]:
        return sorted({name for name in self.archive.namelist() if is_picture(name)})

    def read(self, name: str) -> bytes:
        return self.archive.read(name)

    def fingerprint(self) -> str:
        stat = self.path.stat()
        return f"{stat.st_size}\0{stat.st_mtime_ns}"


@contextmanager
def open_files(path: Path) -> Iterator[Source]:
    """The files of a folder or of a zip archive, which is there."""
    if path.is_dir():
        yield FolderSource(path)
    else:
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile:
            hint = "give a folder, or a .zip file that is complete"
            raise UsageError(f"{path} is neither a folder nor a zip archive", hint=hint) from None
        except OSError as error:
            raise ArganError(f"cannot read {path}: {error.strerror}") from None
        with archive:
            yield ZipSource(path, archive)


def is_picture(name: str) -> bool:
    """Whether a path within a folder or an archive has a photograph's name, and is neither hidden nor made by argan."""
    parts = name.split("/")
    return not any(map(is_beside, parts)) and os.path.splitext(parts[-1])[1].lower() in READS


def is_beside(part: str) -> bool:
    """Whether a file or folder among photographs is no photograph: hidden, reserved, or made by argan."""
    return part.startswith(".") or part.lower() in RESERVED or bool(made_of(part))
