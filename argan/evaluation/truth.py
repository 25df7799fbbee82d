"""Photographs of which something is known: their depth, what another network says of it, or what is figure."""

import csv
import glob
import io
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from argan.data.datasets import open_source
from argan.data.folder import load_square, to_rgb
from argan.data.sources import Box, Source, is_picture
from argan.data.synthetic import SyntheticPhotos
from argan.depth_maps import check_shape, read_depth
from argan.errors import UsageError
from argan.evaluation.depth import Depth
from argan.images import reading
from argan.models.resize import resize

# Which masks say something: a sure one, with enough of both figure and ground.
MIN_CONFIDENCE = 0.9
FIGURE_SHARE = (0.08, 0.85)
MOST_GREY = 0.5  # of a mask: outlines may be soft, and unsure
DEPTH_ENDINGS = (".inv.png", ".depth.png")


def photos_with_depth(folder: Path, side: int = 512) -> Iterator[tuple[Tensor, Tensor]]:
    """Photographs (3, h, w) of `side` px along the longer side, with true disparity (1, h, w), NaN where unknown.

    A depth map lies beside its photograph, as NAME.inv.png or, as `argan depth` calls it, NAME.depth.png: grey, 1 =
    nearest, 0 = unknown.

    Raises UsageError if there is none, or no photograph of its shape to one.
    """
    for file in depth_files(folder):
        name = PurePosixPath(PurePosixPath(file.name).stem).stem
        near = sorted(folder.glob(f"{glob.escape(name)}.*"))  # the same one on every disk
        beside = [other for other in near if other.stem == name and is_picture(other.name)]
        if not beside:
            raise UsageError(f"{file.name} has no photograph beside it")
        with reading(beside[0]) as image:
            ImageOps.exif_transpose(image, in_place=True)
            upright = to_rgb(image)
        photo = torch.tensor(np.asarray(upright)).permute(2, 0, 1)[None] / 255
        disparity = read_depth(file).disparity
        try:
            check_shape(disparity.shape, photo.shape[2:])
        except UsageError as error:
            raise UsageError(f"{file.name}: {error}", error.hint) from None
        truth = torch.tensor(np.where(disparity > 0, disparity, np.nan))[None, None]
        height, width = (max(1, round(length * side / max(photo.shape[2:]))) for length in photo.shape[2:])
        # Nearest pixels: laser depth is sparse, and what lies between two surfaces is no depth.
        nearest = torch.nn.functional.interpolate(truth, (height, width), mode="nearest-exact")
        yield resize(photo, (height, width))[0], nearest[0]


def depth_files(folder: Path) -> list[Path]:
    """The depth maps of `photos_with_depth`."""
    files = [file for file in sorted(folder.glob("*.png")) if file.name.endswith(DEPTH_ENDINGS)]
    if not files:
        raise UsageError(f"no depth maps in {folder}", hint="NAME.inv.png or NAME.depth.png beside each photograph")
    return files


def surrogate_pairs(data: str, surrogate: Depth, count: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """`count` photographs (3, S, S) with what the surrogate says of them, (1, S, S)."""
    for photo in some_photos(data, count, seed):
        yield photo, surrogate(photo[None])[0].cpu()


def some_photos(data: str, count: int, seed: int, side: int = 256) -> Iterator[Tensor]:
    """`count` readable photographs (all, where there are fewer) in random order: squares (3, side, side) in [0, 1]."""
    with open_source(data, side) as source:
        names = source.names()
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
        squares = (_square(source, names[index], side, source.subject(names[index])) for index in order)
        yield from islice((photo for photo in squares if photo is not None), count)


def _square(source: Source, name: str, side: int, subject: Box | None = None) -> Tensor | None:
    """A photograph, (3, side, side) in [0, 1], around its subject; one that cannot be read is warned of, and None."""
    try:
        square = load_square(io.BytesIO(source.read(name)), side, subject)
    except Exception as error:  # a damaged file can raise nearly anything
        warnings.warn(f"{name} was left out: {error}", stacklevel=3)
        return None
    return torch.tensor(square).permute(2, 0, 1) / 255


def held_out(resolution: int, count: int, seed: int = 0) -> Iterable[tuple[Tensor, Tensor]]:
    """`count` synthetic photographs with their true disparity; none of them is ever trained on."""
    photos = synthetic_photos(resolution, 0, seed)
    return (photos.sample(index) for index in range(count))


def synthetic_photos(resolution: int, count: int, seed: int) -> SyntheticPhotos:
    """Synthetic photographs for evaluation, of seeds that training, which has 0, does not use.

    But for one photograph: with seed 2^32 - 1,000,000, whose sum NumPy splits into the words 0 and 1, photograph 0 is
    training's photograph 1.
    """
    return SyntheticPhotos(resolution, count, seed=1_000_000 + seed)


def masked_photos(data: str | Path, masks: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Photographs with a usable figure mask: (3, S, S) float in [0, 1] and (S, S) bool, S the mask's side.

    Masks are PNG files, white on the figure. A mask belongs to the photograph of the same name; one that is named by a
    number n, to the n-th photograph in order, counted from 0. Both are cropped to the centre square. A mask
    counts if its figure covers 8 to 85 % and, where the folder has a `manifest.tsv` with the columns `name` and
    `confidence`, its confidence is above 0.9. Photographs that cannot be read are left out, with a warning.

    Raises:
        UsageError: there is no usable mask, a mask has no photograph, or is none: grey in most places.
    """
    found = False
    with open_source(data) as source:
        names = source.names()
        by_stem = {PurePosixPath(name).stem: name for name in names}
        called = Counter(PurePosixPath(name).stem for name in names)
        for file in confident_masks(masks):
            mask = _mask(file)
            if not FIGURE_SHARE[0] <= mask.float().mean() <= FIGURE_SHARE[1]:
                continue
            if called[file.stem] > 1:
                raise UsageError(f"mask {file.name} could belong to any of several photographs of that name in {data}")
            numbered = file.stem.isdecimal() and int(file.stem) < len(names)
            name = by_stem.get(file.stem) or (names[int(file.stem)] if numbered else None)
            if name is None:
                raise UsageError(f"mask {file.name} has no photograph in {data}")
            photo = _square(source, name, len(mask))
            if photo is not None:
                found = True
                yield photo, mask
    if not found:
        raise UsageError(f"no usable mask in {masks}", hint="PNG files, white on a figure that covers 8 to 85 %")


def _mask(file: Path) -> Tensor:
    """The figure in a mask's centre square, (S, S) bool. UsageError for a picture that is grey in most places."""
    with Image.open(file) as image:
        size = min(image.size)
    brightness = load_square(file, size)[..., 0]
    if ((brightness > 63) & (brightness < 192)).mean() > MOST_GREY:
        raise UsageError(f"{file.name} is no mask", hint="white on the figure, black elsewhere")
    return torch.from_numpy(brightness > 127)


def confident_masks(folder: Path) -> list[Path]:
    """The masks that are sure of their figure, however large it is."""
    confidence = read_confidence(folder / "manifest.tsv")
    return [file for file in sorted(folder.glob("*.png")) if confidence.get(file.name, 1.0) > MIN_CONFIDENCE]


def read_confidence(manifest: Path) -> dict[str, float]:
    """The columns `name` and `confidence` of a tab-separated file; nothing where there is none, or no such columns."""
    if not manifest.exists():
        return {}
    with manifest.open(newline="", encoding="utf-8-sig") as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if {"name", "confidence"} <= row.keys()]
    try:
        return {row["name"]: float(row["confidence"]) for row in rows}
    except (TypeError, ValueError):
        raise UsageError(f"{manifest}: a confidence is a number from 0 to 1") from None
