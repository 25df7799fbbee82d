"""A focus pull: one photo focused at many depths, as single pictures and as an animation."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from argan.errors import UsageError
from argan.images import Photo, rgb_profile, to_pil, writing

ANIMATIONS = {".webp": "WEBP", ".gif": "GIF"}
FRAME = 80  # ms
LONG_SIDE = 960  # pixels of an animation, at most
ENDS = 0.02  # share of the pixels that may be nearer or farther than the focus goes


def sweep_planes(disparity: np.ndarray, count: int) -> list[float]:
    """`count` disparities to focus on, in even steps from the far end of a map (H, W) to its near end."""
    step = max(1, min(disparity.shape) // 512)
    far, near = np.quantile(disparity[::step, ::step], (ENDS, 1 - ENDS))
    return np.linspace(far, near, count).tolist()


def check_animation(path: Path) -> None:
    if path.suffix.lower() not in ANIMATIONS:
        raise UsageError(f"{path}: a sweep is written as {' or '.join(ANIMATIONS)}, and its frames beside it")


def small_frame(photo: Photo) -> Image.Image:
    """A frame of the animation: 8-bit RGB, at most LONG_SIDE pixels long."""
    pixels = photo.pixels if photo.pixels.dtype == np.uint8 else (photo.pixels >> 8).astype(np.uint8)
    image = to_pil(photo.with_pixels(pixels)).convert("RGB")
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    return image


def write_animation(path: Path, frames: list[Image.Image]) -> None:
    """Write frames from far to near and back, endlessly."""
    loop, buffer = frames + frames[-2:0:-1], BytesIO()
    options = {"quality": 85, "method": 4, "icc_profile": rgb_profile(frames[0].info.get("icc_profile"))}
    loop[0].save(
        buffer,
        format=ANIMATIONS[path.suffix.lower()],
        save_all=True,
        append_images=loop[1:],
        duration=FRAME,
        loop=0,
        **({name: value for name, value in options.items() if value} if path.suffix.lower() == ".webp" else {}),
    )
    with writing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
