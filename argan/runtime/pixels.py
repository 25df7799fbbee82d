"""Between photographs and the tensors of graphs: display-encoded RGB in [0, 1], float32 (1, 3, H, W); and sizes."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from argan.curves import SRGB, Curve, curve_of
from argan.errors import UsageError
from argan.images import Photo

Through = Callable[[np.ndarray], np.ndarray]
"""A lens: sRGB-encoded RGB (1, 3, H, W) in [0, 1] to the same, blurred."""


def display_rgb(photo: Photo) -> np.ndarray:
    """What depth models look at: the photo's colours as they are stored, without alpha."""
    return _as_rgb(_colour(photo))


def srgb(photo: Photo) -> np.ndarray:
    """What graphs that decode sRGB are given, without alpha: the photo's light as that curve stores it."""
    return _as_rgb(_exchange(_colour(photo), curve_of(photo.icc), SRGB))


def seen_through(photo: Photo, lens: Through) -> Photo:
    """The photo after `lens`, with its own transfer curve, type and alpha.

    Graphs decode sRGB, so other curves are changed for it and back. Alpha is blurred with the colour (premultiplied, in
    linear light): transparent pixels lend no colour.
    """
    curve, pixels = curve_of(photo.icc), photo.pixels
    count = pixels.shape[2] - photo.has_alpha
    if not has_transparency(photo):
        blurred = _exchange(lens(srgb(photo)), SRGB, curve)
        return photo.with_pixels(np.dstack([_quantise(_as_pixels(blurred, count), pixels.dtype), pixels[:, :, count:]]))
    alpha = _unit(pixels[:, :, count:])
    light = curve.decode(_colour(photo)) * alpha
    coverage = SRGB.decode(lens(_as_rgb(SRGB.encode(alpha))))
    light = SRGB.decode(lens(_as_rgb(SRGB.encode(light)))) / np.maximum(coverage, 1e-4)
    colour, coverage = _as_pixels(curve.encode(light), count), _as_pixels(coverage, 1)
    return photo.with_pixels(np.dstack([_quantise(colour, pixels.dtype), _quantise(coverage, pixels.dtype)]))


def has_transparency(photo: Photo) -> bool:
    """Whether any pixel lets something through."""
    return photo.has_alpha and bool((_unit(photo.pixels[:, :, -1:]) < 1).any())


def resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear resize of (B, C, H, W), area-weighted where it shrinks."""
    if values.shape[2:] == tuple(size):
        return values
    height, width = size
    planes = [Image.fromarray(plane) for plane in values.reshape(-1, *values.shape[2:]).astype(np.float32, copy=False)]
    resized = [np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR)) for plane in planes]
    return np.stack(resized).reshape(*values.shape[:2], height, width)


def _colour(photo: Photo) -> np.ndarray:
    """Pixels without alpha, as `_unit` has them."""
    return _unit(photo.pixels[:, :, : photo.pixels.shape[2] - photo.has_alpha])


def _exchange(stored: np.ndarray, old: Curve, new: Curve) -> np.ndarray:
    """Values encoded by one curve -> the same light encoded by another."""
    return stored if old == new else new.encode(old.decode(stored))


def _unit(pixels: np.ndarray) -> np.ndarray:
    """Integers as fractions of their full scale, floats limited to [0, 1]; float32. UsageError if not finite."""
    if pixels.dtype.kind == "u":
        return pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    if not np.isfinite(pixels).all():
        raise UsageError("a picture's values must be finite")
    return np.clip(pixels.astype(np.float32), 0, 1)


def _as_rgb(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 1 or 3) -> (1, 3, H, W)."""
    planes = np.moveaxis(pixels, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(planes, (3, *planes.shape[1:])))[None]


def _as_pixels(rgb: np.ndarray, channels: int) -> np.ndarray:
    """(1, 3, H, W) -> (H, W, channels), the first ones."""
    return np.moveaxis(rgb[0, :channels], 0, 2)


def _quantise(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """[0, 1] -> the nearest value of an integer type; floats stay."""
    if dtype.kind != "u":
        return values.astype(dtype)
    steps = np.iinfo(dtype).max
    return np.clip(values * steps + np.float32(0.5), 0, steps).astype(dtype)
