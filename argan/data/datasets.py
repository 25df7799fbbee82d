"""Published sets of photographs by name: where the files are in the folders that their authors publish.

`--data NAME` looks for a set's folder below `$ARGAN_DATA`, by default `data` in the current folder; with
`--data NAME:FOLDER` it is that one. argan downloads nothing: the sets have terms of use to agree to.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from argan.data.sources import Box, FolderSource, Source, open_files
from argan.errors import MissingError, UsageError


class Dataset(ABC):
    """A published set.

    Attributes:
        name: as `--data` takes it.
        title: what it is, for people.
        folder: what its folder is called below `$ARGAN_DATA`.
        holds: what that folder has, as published: one of these.
        obtain: how to get it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    folder: ClassVar[str]
    holds: ClassVar[tuple[str, ...]]
    obtain: ClassVar[str]

    @abstractmethod
    def open(self, root: Path, resolution: int) -> Source:
        """The photographs below `root`, for squares of `resolution` px."""


class OxfordFlowers102(Dataset):
    """8,189 photographs of flowers (Nilsback and Zisserman 2008): `jpg/image_00001.jpg` and so on."""

    name, folder, holds = "oxford-flowers-102", "102flowers", ("jpg",)
    title = "Oxford Flowers 102"
    obtain = "download 102flowers.tgz from robots.ox.ac.uk/~vgg/data/flowers/102 and unpack it"

    def open(self, root: Path, resolution: int) -> Source:
        return FolderSource(root / "jpg")


class Cub2002011(Dataset):
    """11,788 photographs of birds with bounding boxes (Wah et al. 2011): `images/` and what lists them."""

    name, folder, holds = "cub-200-2011", "CUB_200_2011", ("bounding_boxes.txt",)
    title = "Caltech-UCSD Birds 200-2011"
    obtain = "download CUB_200_2011.tgz from vision.caltech.edu/datasets/cub_200_2011 and unpack it"

    def open(self, root: Path, resolution: int) -> Source:
        return CubSource(root)


class Ffhq(Dataset):
    """70,000 portraits (Karras et al. 2019): `images1024x1024/00000/00000.png`, or thumbnails where they do."""

    name, folder, holds = "ffhq", "ffhq-dataset", ("images1024x1024", "thumbnails128x128")
    title = "Flickr-Faces-HQ"
    obtain = "download thumbnails128x128 (up to 128 px) or images1024x1024 as github.com/NVlabs/ffhq-dataset says"

    def open(self, root: Path, resolution: int) -> Source:
        full, thumbnails = (root / name for name in self.holds)
        if thumbnails.is_dir() and (resolution <= 128 or not full.is_dir()):
            return FolderSource(thumbnails)
        return FolderSource(full)


DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in (OxfordFlowers102(), Cub2002011(), Ffhq())}


class CubSource(FolderSource):
    """The images that `images.txt` lists, each with its box from `bounding_boxes.txt` (x, y, width, height in px)."""

    def __init__(self, root: Path):
        super().__init__(root / "images")
        self.annotations = [root / "images.txt", root / "bounding_boxes.txt"]
        try:
            names, boxes = (dict(line.split(maxsplit=1) for line in _lines(file)) for file in self.annotations)
            self.boxes = {name: _box(boxes[number]) for number, name in names.items()}
        except (KeyError, ValueError) as error:
            raise UsageError(f"{root}: images.txt and bounding_boxes.txt do not fit together: {error}") from None

    def names(self) -> list[str]:
        return sorted(self.boxes)

    def subject(self, name: str) -> Box:
        return self.boxes[name]

    def fingerprint(self) -> str:
        return "\n".join([super().fingerprint(), *(file.read_text() for file in self.annotations)])


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None


def _box(text: str) -> Box:
    x, y, width, height = map(float, text.split())
    return x, y, x + width, y + height


@contextmanager
def open_source(data: str | os.PathLike[str], resolution: int = 1024) -> Iterator[Source]:
    """The photographs that `data` names: a published set (NAME or NAME:FOLDER), a folder, or a zip archive.

    Raises:
        MissingError: the set is not here; the hint says how to get it.
        UsageError: there is no such folder or archive.
    """
    name, _, folder = os.fspath(data).partition(":")
    dataset = DATASETS.get(name)
    if dataset is None:
        if not Path(data).expanduser().exists():
            sets = ", ".join(DATASETS)
            raise UsageError(f"no such folder or archive: {data}", hint=f"a folder, a .zip file, or a set: {sets}")
        with open_files(Path(data).expanduser()) as source:
            yield source
        return
    root = Path(folder).expanduser() if folder else data_directory() / dataset.folder
    if not any((root / name).exists() for name in dataset.holds):
        raise MissingError(f"{dataset.title} is not in {root}", hint=f"{dataset.obtain}; --data {name}:FOLDER")
    yield dataset.open(root, resolution)


def refuse_missing(data: str | os.PathLike[str]) -> None:
    """What `open_source` raises, before anything is begun: it looks for the place, not for the pictures in it."""
    with open_source(data):
        pass


def place_of(data: str) -> str:
    """A folder or an archive as an absolute path, however it is written (`photos`, `photos/`); names as they are."""
    return data if data.partition(":")[0] in ("synthetic", *DATASETS) else _absolute(data)


def _absolute(path: str) -> str:
    """As Windows compares it: c:\\Photos is C:\\photos, and shells begin in either."""
    return os.path.normcase(os.path.abspath(Path(path).expanduser()))


def data_directory() -> Path:
    """Where published sets are looked for: `$ARGAN_DATA`, else `data`."""
    return Path(os.environ.get("ARGAN_DATA") or "data").expanduser()
