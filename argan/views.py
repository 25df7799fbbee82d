"""Pictures to judge a render by before it is made: depth, blur, the renderer's layers, what is sharp."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from argan.curves import SRGB

BEHIND, BEFORE = np.array([40, 110, 255]), np.array([255, 120, 20])  # of the focal plane: blue and orange
SHARP_RADIUS = 0.75  # blur radius in pixels below which a viewer calls a photo sharp
PEAK = np.array([60, 255, 90])


def depth_view(disparity: np.ndarray) -> Image.Image:
    """Disparity (H, W): the least dark blue, the greatest light yellow."""
    low, high = float(disparity.min()), float(disparity.max())
    levels = ((disparity - low) * (255 / max(high - low, 1e-6)) + 0.5).astype(np.uint8)
    return Image.fromarray(depth_colours()[levels])


def coc_view(grey: np.ndarray, coc: np.ndarray) -> Image.Image:
    """Signed blur radii (H, W) in pixels over a grey photo (H, W) in [0, 1].

    Blue is behind the focal plane, orange in front. Colour grows with the radius up to the greatest of the photo; the
    scale below says how much that is.
    """
    most = max(float(np.abs(coc).max()), 1e-6)
    picture = _tinted(grey, coc / most)
    return _with_scale(picture, _tinted(np.full((1, 256), 0.6), np.linspace(-1, 1, 256)[None]), most)


def layers_view(coc: np.ndarray, radii: list[float]) -> Image.Image:
    """How signed blur radii (H, W) are cut into the renderer's layers at `radii`, rising; every other one is darker."""
    cut = np.searchsorted((np.array(radii)[1:] + np.array(radii)[:-1]) / 2, coc)
    ramp = depth_colours()[np.linspace(0, 255, len(radii)).astype(int)].astype(float)
    ramp[1::2] *= 0.72
    note = f"{len(radii)} layers, {radii[0]:+.0f} to {radii[-1]:+.0f} px"
    return _with_note(Image.fromarray(ramp.astype(np.uint8)[cut]), note)


def focus_view(colour: np.ndarray, coc: np.ndarray) -> Image.Image:
    """What is sharp in a photo (H, W, 3) in [0, 1]: in colour, its details in green; the rest is grey and darker."""
    grey = colour.mean(-1)
    sharp = np.abs(coc) <= SHARP_RADIUS
    picture = np.where(sharp[..., None], colour, 0.45 * grey[..., None]) * 255
    detail = np.hypot(*np.gradient(np.pad(grey, 1, mode="edge")))[1:-1, 1:-1]
    peaks = sharp & (detail >= max(0.04, float(np.quantile(detail, 0.9))))
    picture[peaks] = PEAK
    return _with_note(Image.fromarray(picture.astype(np.uint8)), f"sharp: {100 * sharp.mean():.0f} % of the picture")


def depth_colours() -> np.ndarray:
    """A ramp (256, 3) uint8, far to near: even steps of lightness in Oklab, blue through rose to light yellow.

    Oklab: Ottosson, "A perceptual color space for image processing", 2020. All of it lies inside sRGB.
    """
    t = np.linspace(0, 1, 256)
    lightness, chroma = 0.17 + 0.79 * t, 0.05 + 0.11 * np.sin(np.pi * t)
    hue = np.deg2rad(280 + 185 * t)
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cone_responses = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_linear_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_linear_rgb @ cone_responses**3, 0, 1).T
    return (SRGB.encode(linear) * 255 + 0.5).astype(np.uint8)


def _tinted(grey: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Grey (H, W) in [0, 1], coloured by -1 (behind) to 1 (in front): (H, W, 3) uint8."""
    strength = np.sqrt(np.abs(side))[..., None]  # small blur is what one looks for
    colour = np.where(side[..., None] < 0, BEHIND, BEFORE)
    light = 0.25 + 0.75 * grey[..., None]
    return ((1 - strength) * 255 * grey[..., None] + strength * colour * light).astype(np.uint8)


def _with_scale(picture: np.ndarray, ramp: np.ndarray, most: float) -> Image.Image:
    """The picture with a strip below it: the ramp, and the blur radii at its ends and its middle."""
    size = _text_size(picture.shape[1])
    image = Image.new("RGB", (picture.shape[1], picture.shape[0] + 3 * size), "black")
    image.paste(Image.fromarray(picture))
    width, top = picture.shape[1], picture.shape[0]
    image.paste(Image.fromarray(ramp).resize((width, size)), (0, top))
    draw, font, middle = ImageDraw.Draw(image), ImageFont.load_default(size), top + 2 * size
    for x, text, anchor in (
        (size // 2, f"{most:.3g} px behind", "lm"),
        (width // 2, "sharp", "mm"),
        (width - size // 2, f"{most:.3g} px in front", "rm"),
    ):
        draw.text((x, middle), text, "white", font, anchor)
    return image


def _with_note(image: Image.Image, note: str) -> Image.Image:
    size = _text_size(image.width)
    tall = Image.new("RGB", (image.width, image.height + 2 * size), "black")
    tall.paste(image)
    ImageDraw.Draw(tall).text((size // 2, image.height + size), note, "white", ImageFont.load_default(size), "lm")
    return tall


def _text_size(width: int) -> int:
    return max(8, width // 40)
