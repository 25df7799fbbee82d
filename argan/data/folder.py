"""Training photographs from a folder, an archive or a published set, decoded once into one compact uint8 tensor.

A photograph is turned upright (EXIF), made RGB, cropped to a square (the centre, or around its subject where the set
says where that is) and brought to S x S with an antialiased filter. All of them together are N x 3 x S x S bytes (the
8,189 Oxford Flowers at 64 px: 96 MiB), so they are kept in memory and a training step only gathers, flips and scales.
The decoded bytes are also kept on disk, memory-mapped when they are needed again, so a second run starts at once and
several processes share one copy.
"""

import hashlib
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from argan.data.batch import gather
from argan.data.datasets import open_source
from argan.data.sources import Box, Source
from argan.deep_colour import is_negative
from argan.distributed import is_main
from argan.errors import ArganError, MissingReaderError
from argan.files import atomic_file
from argan.images import open_picture, register_heif

logger = logging.getLogger(__name__)

CACHE_VERSION = 2  # raise it whenever `load_square` changes what it returns


class PhotoFolder:
    """The photographs below `path` (a folder or a zip archive, folders inside folders included) at one resolution.

    Args:
        path: a folder, a `.zip` file, or a published set (NAME or NAME:FOLDER, see `argan.data.datasets`).
        resolution: S, the side of the square that every photograph is brought to, in pixels.
        cache: True keeps the decoded bytes below `cache_directory()`, a path keeps them there, False keeps none.
        progress: called as `progress(done, total)` after every photograph that was decoded.

    Attributes:
        images: (N, 3, S, S) uint8, display-encoded RGB, in the order of `names`.
        names: paths inside the folder or archive, with `/`, sorted.
        skipped: (name, reason) of every file that has a picture's suffix and could not be read.

    Raises:
        UsageError: `path` does not exist or is not a folder or zip archive.
        MissingError: the published set is not here.
        ArganError: not one picture can be read.

    Pictures are taken as sRGB: colour profiles are not converted. Files without a picture's suffix, hidden files and
    the `__MACOSX` entries of archives are passed over in silence.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        resolution: int,
        *,
        cache: bool | str | os.PathLike[str] = True,
        progress: Callable[[int, int], None] | None = None,
    ):
        with open_source(path, resolution) as source:
            entry = CacheEntry(source.path, source.fingerprint(), resolution, cache) if cache else None
            stored = entry.load() if entry else None
            images, names, skipped, lasting = stored or decode_all(source, resolution, progress)
        if skipped and is_main():  # others have skipped the same
            listed = ", ".join(f"{name} ({reason})" for name, reason in skipped[:5])
            more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
            total = len(names) + len(skipped)
            logger.warning("%s: %d of %d files skipped: %s%s", path, len(skipped), total, listed, more)
        if not names:
            found = f"none of its {len(skipped)} pictures can be read" if skipped else "it holds no pictures"
            hint = "give a folder or zip of JPEG, PNG or WebP files"
            raise ArganError(f"no photographs in {path}: {found}", hint)
        if entry and not stored and lasting:
            entry.save(images, names, skipped)
        self.images = torch.from_numpy(images)
        self.names = names
        self.skipped = skipped

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: Tensor, flips: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """indices (B,), flips (B,) bool -> photographs (B, 3, S, S) float32 in [0, 1], mirrored where asked."""
        return gather(self.images, indices, flips, device)


# --- decoding ---------------------------------------------------------------------------------------------------------


def load_square(file: IO[bytes] | str | os.PathLike[str], resolution: int, subject: Box | None = None) -> np.ndarray:
    """One picture: upright, RGB, a square of it, antialiased to `resolution`. Returns (S, S, 3) uint8.

    The square is the largest in the centre, or the one around a `subject`'s box in px as stored (`square_around`).
    Raises whatever Pillow raises on a file that it cannot read whole.
    """
    with opened(file) as image:
        if subject is None:
            # A JPEG can be decoded at 1/2, 1/4 or 1/8: take the smallest that is still twice what is needed.
            image.draft("RGB", (2 * resolution, 2 * resolution))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
        photo = to_rgb(image)
    box = square_around(subject or (0, 0, *photo.size), photo.size)
    # reducing_gap: average whole blocks of pixels first, as far as the result cannot show it, then filter.
    square = photo.resize((resolution, resolution), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    return np.asarray(square)


@contextmanager
def opened(file: IO[bytes] | str | os.PathLike[str]) -> Iterator[Image.Image]:
    """A picture of any format that is read, HEIC too, and however large Pillow takes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large is fine; Pillow refuses the absurd
        register_heif()
        stream = io.BytesIO(Path(file).read_bytes()) if isinstance(file, str | os.PathLike) else file
        with open_picture(stream) as image:
            yield image


def square_around(subject: Box, size: tuple[int, int]) -> Box:
    """The square to crop for a subject: its centre, half as much again as its longer side, inside the picture.

    Half as much again is what is usual for the birds of CUB-200-2011. A picture that is all subject is cropped to its
    largest centre square.
    """
    left, top, right, bottom = subject
    side = min(1.5 * max(right - left, bottom - top), *size)
    corner = [
        min(max((low + high - side) / 2, 0), limit - side)
        for low, high, limit in ((left, right, size[0]), (top, bottom, size[1]))
    ]
    return corner[0], corner[1], corner[0] + side, corner[1] + side


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB: 16-bit grey is scaled, transparent parts are laid over white."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).clip(0, 65535).astype(np.int32)
        if is_negative(image):
            grey = 65535 - grey
        if (transparent := image.info.get("transparency")) is not None:  # the one grey that a PNG calls so
            grey = np.where(grey == transparent, 65535, grey)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pictures have no known range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


class Decoded(NamedTuple):
    """The pictures of a source."""

    images: np.ndarray
    """(N, 3, S, S) uint8."""
    names: list[str]
    skipped: list[tuple[str, str]]
    """(name, reason) of those that could not be read."""
    lasting: bool = True
    """Whether another try would skip the same files: not if the disk or memory failed, or reading was denied."""


def decode_all(source: Source, resolution: int, progress: Callable[[int, int], None] | None) -> Decoded:
    """Every picture of a source."""

    def decode(name: str) -> np.ndarray | Exception:
        try:
            return load_square(io.BytesIO(source.read(name)), resolution, source.subject(name))
        except Exception as error:  # a damaged file can raise nearly anything
            return error

    candidates = source.names()
    images = np.empty((len(candidates), 3, resolution, resolution), np.uint8)
    names: list[str] = []
    skipped: list[tuple[str, str]] = []
    lasting = True
    # Threads are enough: Pillow decodes without holding the interpreter's lock.
    with ThreadPoolExecutor(min(8, usable_cores())) as pool:
        for done, (name, result) in enumerate(zip(candidates, pool.map(decode, candidates), strict=True), 1):
            if isinstance(result, Exception):
                skipped.append((name, reason(result)))
                lasting = lasting and not may_pass(result)
            else:
                images[len(names)] = result.transpose(2, 0, 1)
                names.append(name)
            if progress:
                progress(done, len(candidates))
    return Decoded(images[: len(names)], names, skipped, lasting)


def may_pass(error: Exception) -> bool:
    """Whether reading the same file may succeed later; a missing one has another fingerprint when it is there."""
    system = isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError)
    return system or isinstance(error, MemoryError)


def usable_cores() -> int:
    """Cores that this process may run on, where the system tells; all of them elsewhere."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reason(error: Exception) -> str:
    """Why a file could not be read, in a few words that do not repeat its name."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture"
    if isinstance(error, MissingReaderError):
        return f"{error}: {error.hint}"
    return " ".join(str(error).split())[:120] or type(error).__name__


# --- the cache on disk ------------------------------------------------------------------------------------------------


def cache_directory() -> Path:
    """`$ARGAN_CACHE`, else `$XDG_CACHE_HOME/argan`, else `~/.cache/argan`."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("ARGAN_CACHE") or Path(home, "argan")).expanduser()


class CacheEntry:
    """The decoded photographs of one source at one resolution: `KEY.npy` (the bytes) and `KEY.json` (the names).

    The names are written last and looked up first, so an entry that was interrupted is no entry. A cache that cannot
    be read or written costs time and nothing else: it is decoded again.
    """

    def __init__(self, path: Path, fingerprint: str, resolution: int, where: bool | str | os.PathLike[str]):
        readers = register_heif()  # with which others may be read than without
        key = f"{CACHE_VERSION}\0{path.resolve()}\0{resolution}\0{fingerprint}\0{readers}"
        folder = cache_directory() if isinstance(where, bool) else Path(where)
        stem = f"{path.stem}-{resolution}-{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()[:16]}"
        self.index, self.bytes = folder / f"{stem}.json", folder / f"{stem}.npy"
        self.resolution = resolution

    def load(self) -> Decoded | None:
        try:
            index = json.loads(self.index.read_text())
            names, skipped = index["names"], [(name, why) for name, why in index["skipped"]]
            images = np.load(self.bytes, mmap_mode="c")  # copy on write: pages are shared and the tensor is writable
            whole = images.dtype == np.uint8 and images.shape == (len(names), 3, self.resolution, self.resolution)
        except Exception:  # damaged bytes can raise nearly anything
            return None
        return Decoded(images, names, skipped) if whole else None

    def save(self, images: np.ndarray, names: list[str], skipped: list[tuple[str, str]]) -> None:
        try:
            self.index.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.bytes) as temporary:
                np.save(temporary, images)
            with atomic_file(self.index) as temporary:
                temporary.write_text(json.dumps({"names": names, "skipped": skipped}))
        except OSError as error:
            logger.info("decoded photographs are not kept in %s: %s", self.index.parent, error.strerror or error)
