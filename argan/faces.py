"""Focus on a face: where it is in a photo, by scikit-image's cascade (the extra `faces`)."""

from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from argan.errors import MissingError
from argan.focus import Focus

SIDE = 320  # px of the long side that faces are looked for in
SMALLEST = 24  # px there: what the cascade was trained on


def at_face(focus: Focus, pixels: np.ndarray) -> Focus:
    """A focus "face" as a point, the middle of the largest face, or "subject" where none is found; others as they are.

    Args:
        pixels: (H, W, C) uint8, uint16 or floats in [0, 1]; C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA.

    Raises:
        MissingError: scikit-image is not installed.
    """
    return (largest_face(pixels) or "subject") if focus == "face" else focus


def largest_face(pixels: np.ndarray) -> tuple[float, float] | None:
    """The middle of the largest face that looks at the camera, upright, in fractions of width and height.

    Local binary patterns in a cascade (Liao et al., "Learning multi-scale block local binary patterns for face
    recognition", 2007). Profiles and small faces are missed, and what only resembles a face is taken for one.
    """
    grey = small_grey(pixels)
    found = _cascade().detect_multi_scale(
        grey, scale_factor=1.1, step_ratio=1, min_size=(SMALLEST, SMALLEST), max_size=(SIDE, SIDE)
    )
    if not found:
        return None
    face, (height, width) = max(found, key=lambda face: face["width"]), grey.shape
    return (face["c"] + face["width"] / 2) / width, (face["r"] + face["height"] / 2) / height


def small_grey(pixels: np.ndarray) -> np.ndarray:
    """Pixels of any type as 8-bit grey (h, w), the long side at most SIDE px."""
    step, channels = max(1, max(pixels.shape[:2]) // (4 * SIDE)), pixels.shape[2]
    colour = pixels[::step, ::step, : channels - (channels in (2, 4))].astype(np.float32).mean(2)
    white = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    picture = Image.fromarray((colour * (255 / white)).clip(0, 255).astype(np.uint8))
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(picture)


@lru_cache(maxsize=1)
def _cascade() -> Any:
    try:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade
    except ImportError:
        raise MissingError("focus on a face needs scikit-image", hint='pip install "argan[faces]"') from None
    return Cascade(lbp_frontal_face_cascade_filename())
