"""Depth maps as files: disparity in [0, 1], 1 = nearest, in 16-bit grey PNG or TIFF or in .npy, and as a picture."""

import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import SAMPLEFORMAT

from argan.deep_colour import has_16_bit_colour, is_negative, read_16_bit_colour
from argan.errors import ArganError, UsageError, lower_first
from argan.exif import upright
from argan.images import reading, writing
from argan.views import depth_view

ARRAYS = (".npy", ".npz")
WRITES = (".png", ".tif", ".tiff", ".npy")
DAMAGE = (ValueError, EOFError, KeyError, RuntimeError, TokenError, zipfile.BadZipFile, zlib.error)  # of arrays' files
READS = (*WRITES, ".npz")  # what a folder of maps is searched for, first match wins
MISFIT = 0.05  # by how much a map's aspect ratio may differ from the photo's: coarse maps have few pixels
NEAR_CLIP = 0.1  # percent of the pixels of a distance map that may be nearer than what becomes disparity 1
OWN_MAP = "argan render --depth takes a map of your own"
LONGEST = 50  # times as long as wide: estimators bring the short side of a photo to one size, the long one takes memory


class DepthMap(NamedTuple):
    """A depth map as a person gave it."""

    disparity: np.ndarray  # float32 (H, W) in [0, 1]
    note: str | None = None  # what was done to its values, or where it was found
    dioptres: tuple[float, float] | None = None  # 1 / metres at disparity 0 and 1, where these are known


def read_depth(path: Path, kind: str = "disparity", unit: float | None = None) -> DepthMap:
    """Read a depth map.

    disparity   8- and 16-bit integers are fractions of their full scale. Floats are taken as they are if they lie in
                [0, 1]; others are stretched so that their least becomes 0 and their greatest 1.
    distance    values are proportional to distance from the camera, in any unit: inverted, then stretched so that the
                nearest becomes 1 and the farthest 0. 0, negative and infinite values count as farthest. `unit` is
                what 1 stands for, in metres; by default floats are metres and integers millimetres.

    Raises ArganError for files that are no depth map: colour pictures, arrays that are not 2-D, not-a-number values;
    UsageError for a unit that is none.
    """
    if unit is not None and not 0 < unit < np.inf:
        raise UsageError(f"the unit of a map is in metres, above 0, not {unit}")
    values = _read_array(path, kind) if path.suffix.lower() in ARRAYS else _read_picture(path)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.squeeze(0 if values.shape[0] == 1 else 2)
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "uif":
        raise ArganError(f"{path}: a depth map is a 2-D array of numbers, not {values.dtype} of shape {values.shape}")
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ArganError(f"{path}: {int(np.isnan(values).sum())} values are not numbers", hint="fill them first")
    values = in_own_byte_order(values)
    try:
        found = from_distance(values, unit) if kind == "distance" else _from_disparity(values)
    except ArganError as error:
        raise ArganError(f"{path}: {error}", error.hint) from None
    return found._replace(note=f"{path}: {found.note}" if found.note else None)


def in_own_byte_order(values: np.ndarray) -> np.ndarray:
    """The same numbers as this machine stores them; big-endian files are read as they are."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def check_shape(size: tuple[int, ...], photo: tuple[int, ...]) -> None:
    """UsageError for a map whose height and width do not show the whole photo, of that height and width in px."""
    (h, w), (height, width) = size, photo
    if abs(np.log((w / h) / (width / height))) > MISFIT + 1 / (2 * min(h, w)):
        raise UsageError(
            f"the depth map is {w} x {h}, the photo {width} x {height}: they differ in shape",
            hint="the depth map must show the whole photo, upright",
        )


def write_depth(path: Path, disparity: np.ndarray) -> None:
    """Write disparity (H, W) in [0, 1]: 16-bit grey .png or .tif, or float32 .npy."""
    check_depth_suffix(path)
    with writing(path) as temporary:
        if path.suffix.lower() == ".npy":
            with temporary.open("wb") as file:
                np.save(file, disparity.astype(np.float32))
        else:
            steps = np.clip(disparity * 65535 + 0.5, 0, 65535).astype(np.uint16)
            Image.fromarray(steps).save(temporary, format="PNG" if path.suffix.lower() == ".png" else "TIFF")


def write_depth_view(path: Path, disparity: np.ndarray) -> None:
    """Write a PNG to look at."""
    with writing(path) as temporary:
        depth_view(disparity).save(temporary, format="PNG")


def check_proportions(height: int, width: int) -> None:
    """Refuse to estimate depth where one side is more than LONGEST times the other."""
    if max(height, width) > LONGEST * min(height, width):
        raise UsageError(f"{width} x {height} pixels are too long and narrow to estimate depth", hint=OWN_MAP)


def check_depth_suffix(path: Path) -> None:
    if path.suffix.lower() not in WRITES:
        raise UsageError(f"{path}: depth maps are written as {', '.join(WRITES)}")


def values_of(image: Image.Image) -> np.ndarray:
    """What a picture of a depth map stores, upright: (H, W), without alpha. ArganError for one of colours."""
    if image.mode in ("P", "1", "CMYK", "LAB"):
        raise ArganError("not a depth map: 8- or 16-bit grey is one")
    values = upright(np.asarray(image), image)
    if values.ndim == 3:
        return _grey(values)
    if image.mode == "I" and getattr(image, "tag_v2", {}).get(SAMPLEFORMAT) == (1,):
        values = values.view(np.uint32)  # what a TIFF stores without a sign
    if image.mode == "I" and values.min() >= 0 and values.max() <= 65535:
        values = values.astype(np.uint16)  # mode I is Pillow's older way to hold 16 bits
    return 65535 - values if is_negative(image) else values


def _grey(values: np.ndarray) -> np.ndarray:
    """Pixels (H, W, C), C = 2 grey + alpha, 3 RGB or 4 RGBA, whose colours are equal, as (H, W)."""
    grey = values[:, :, : values.shape[2] - (values.shape[2] in (2, 4))]
    if (grey != grey[:, :, :1]).any():
        raise ArganError("a colour picture, not a depth map", hint="8- or 16-bit grey is one")
    return grey[:, :, 0]


def _read_picture(path: Path) -> np.ndarray:
    with reading(path) as image:
        if has_16_bit_colour(image):
            return _grey(upright(read_16_bit_colour(path), image))
        return values_of(image)


def _read_array(path: Path, kind: str) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = [name for name in (kind, "depth") if name in loaded][:1] or list(loaded)
            if len(names) != 1:
                raise ArganError(f"{path}: holds {', '.join(names) or 'nothing'}", hint=f"name the array {kind!r}")
            return loaded[names[0]]
    except OSError as error:
        raise ArganError(f"{path}: {lower_first(error.strerror or 'damaged or cut short')}") from error
    except DAMAGE as error:
        raise ArganError(f"{path}: not a numpy array file, or cut short") from error


def _from_disparity(values: np.ndarray) -> DepthMap:
    if values.dtype in (np.uint8, np.uint16):
        return DepthMap(values.astype(np.float32) / np.iinfo(values.dtype).max)
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ArganError("infinite disparity", hint="--depth-kind distance for maps of distance")
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return DepthMap(values.astype(np.float32))
    disparity = (values - low) / max(high - low, np.finfo(np.float64).tiny)
    return DepthMap(disparity.astype(np.float32), f"disparity from {low:.4g} to {high:.4g} was stretched to [0, 1]")


def from_distance(values: np.ndarray, unit: float | None = None) -> DepthMap:
    """`read_depth` for distances that are in memory."""
    distance = values.astype(np.float64)
    known = (distance > 0) & np.isfinite(distance)
    if not known.any():
        raise ArganError("no distance in it is above 0")
    near, far = float(np.percentile(distance[known], NEAR_CLIP)), float(distance[known].max())
    disparity = np.zeros(distance.shape)
    disparity[known] = 1 / distance[known] - 1 / far
    disparity = np.clip(disparity / max(1 / near - 1 / far, np.finfo(np.float64).tiny), 0, 1)
    unknown = "" if known.all() else f"; {int((~known).sum())} pixels without a distance count as farthest"
    metres = unit if unit is not None else 1.0 if values.dtype.kind == "f" else 0.001
    note = f"distance from {near * metres:.4g} to {far * metres:.4g} m became disparity 1 to 0{unknown}"
    return DepthMap(disparity.astype(np.float32), note, (1 / (far * metres), 1 / (near * metres)))
