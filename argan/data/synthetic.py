"""The built-in synthetic photographs: layered scenes, photographed by a thin lens whose aperture varies.

A scene is a stack of textured planes: patterned ground that recedes towards the top, with points of light; leaves and
discs on it, parallel to the sensor as all that follows; a flower-like subject near the centre in focus; now and then
something before the subject.
The camera integrates the scene over its lens in linear light, occlusions included: every point of the lens sees each
plane shifted in proportion to the plane's signed disparity (the thin-lens model of `argan.kernels.render_bokeh`'s
truth), and the aperture is drawn anew for every photograph, from a pinhole to wide open.

Photographs are unlimited and reproducible: photograph `index` of `seed` is always the same. The true disparity is there
to measure with, never to learn from: training sees `batch` alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from argan.data.batch import gather

Array = NDArray[np.floating]

SUPERSAMPLING = 2
LENS_SAMPLES = 32
BLUR_RADIUS = 0.11  # of the image's width: circle of confusion at a signed disparity of 1, wide open
PINHOLE_SHARE = 0.5  # of the photographs; the others are taken at 60 to 100 % of the full aperture
FOREGROUND_SHARE = 0.1


class SyntheticPhotos:
    """`count` photographs of one `resolution`, drawn once and kept as uint8 (like `argan.data.folder.PhotoFolder`).

    Args:
        resolution: side S of the square photographs, px.
        count: how many.
        seed: photographs of different seeds are independent; training uses 0.
        progress: called as `progress(drawn, count)` after every photograph.
    """

    def __init__(self, resolution: int, count: int, seed: int = 0, progress: Callable[[int, int], None] | None = None):
        self.resolution, self.seed = resolution, seed
        self.images = torch.empty(count, 3, resolution, resolution, dtype=torch.uint8)
        for index in range(count):
            photo, _ = draw_photo(resolution, np.random.default_rng([seed, index]))
            self.images[index] = torch.from_numpy(photo * 255).round().to(torch.uint8)
            if progress is not None:
                progress(index + 1, count)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor, flips: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """indices (B,), flips (B,) bool -> photographs (B, 3, S, S) float32 in [0, 1], mirrored where asked."""
        return gather(self.images, indices, flips, device)

    def sample(self, index: int) -> tuple[Tensor, Tensor]:
        """Photograph (3, S, S) and its true disparity (1, S, S), both float32 in [0, 1]; 0.5 is the focal plane."""
        photo, scene = draw_photo(self.resolution, np.random.default_rng([self.seed, index]))
        return torch.from_numpy(photo), torch.from_numpy(true_disparity(scene, self.resolution))


def draw_photo(resolution: int, rng: np.random.Generator) -> "tuple[Array, Planes]":
    """One photograph (3, S, S), display-encoded in [0, 1], and the scene that it shows."""
    scene = draw_scene(rng)
    aperture = 0.0 if rng.random() < PINHOLE_SHARE else rng.uniform(0.6, 1.0)
    return photograph(scene, resolution, aperture, rng), scene


# The scene: planes from far to near. Lengths are in image widths, the image spans [-0.5, 0.5]^2.


@dataclass
class Planes:
    """K planes, every attribute a (K, ...) array. Later ones cover earlier ones; plane 0 is the ground."""

    disparity: Array  # (K,) signed, relative to the focal plane: -1 farthest, 0 in focus, 1 nearest; at the centre row
    tilt: Array  # (K,) what disparity gains from the image's top to its bottom: 0 for a plane parallel to the sensor
    center: Array  # (K, 2)
    radius: Array  # (K,)
    stretch: Array  # (K,) ratio of the outline's axes
    angle: Array  # (K,)
    lobes: Array  # (K,) petals or corners of the outline
    lobe_depth: Array  # (K,)
    color: Array  # (K, 3) linear light
    second: Array  # (K, 3) the pattern's other colour
    pattern: Array  # (K,) int: index into PATTERNS
    wavelength: Array  # (K,) of the pattern
    lights: Array  # (N, 4): x, y, radius, brightness of points of light on plane 0


def draw_scene(rng: np.random.Generator) -> Planes:
    """A random scene: ground, 3 to 7 pieces of clutter on it, a subject in focus, sometimes a foreground."""
    clutter = int(rng.integers(3, 8))
    foreground = int(rng.random() < FOREGROUND_SHARE)
    kinds = ["ground"] + ["clutter"] * clutter + ["subject"] + ["foreground"] * foreground
    tilt = rng.uniform(0.3, 0.9)
    drawn = [draw_plane(kind, tilt, rng) for kind in kinds]
    drawn[1 : 1 + clutter] = sorted(drawn[1 : 1 + clutter], key=lambda plane: plane["disparity"])
    columns = {name: np.asarray([plane[name] for plane in drawn], dtype=np.float32) for name in drawn[0]}
    count = int(rng.integers(4, 16))
    lights = np.stack(
        [*rng.uniform(-0.6, 0.6, (2, count)), rng.uniform(0.008, 0.02, count), rng.uniform(2.0, 10.0, count)], axis=1
    )
    return Planes(**columns, lights=lights.astype(np.float32))


def draw_plane(kind: str, tilt: float, rng: np.random.Generator) -> dict[str, Any]:
    """Size, place, outline, colours and pattern of one plane; the ground rises from -1 at the top by `tilt`."""
    subject = kind == "subject"
    around = rng.uniform(0, 2 * np.pi)
    place = {
        "ground": lambda: tuple(rng.uniform(-0.5, 0.5, 2)),
        "clutter": lambda: tuple(rng.uniform(-0.6, 0.6, 2)),
        "subject": lambda: tuple(rng.uniform(-0.2, 0.2, 2)),
        "foreground": lambda: (0.55 * np.cos(around), 0.55 * np.sin(around)),
    }[kind]()
    disparity = {
        "ground": lambda: tilt / 2 - 1,
        "clutter": lambda: min(tilt * (place[1] + 0.5) - 1 + rng.uniform(0.05, 0.4), -0.1),
        "subject": lambda: rng.uniform(-0.05, 0.05),
        "foreground": lambda: rng.uniform(0.5, 1.0),
    }[kind]()
    # A subject is a bright saturated flower, the rest duller: as in real close-ups, kind and colour go together.
    hue, saturation = rng.random(), rng.uniform(0.6, 0.95) if subject else rng.uniform(0.2, 0.7)
    value = rng.uniform(0.65, 1.0) if subject else rng.uniform(0.2, 0.7)
    color = hsv(hue, saturation, value)
    second = hsv(hue + rng.uniform(-0.12, 0.12), saturation * 0.8, value * rng.uniform(0.15, 0.45))
    return {
        "disparity": disparity,
        "tilt": tilt if kind == "ground" else 0.0,
        "center": place,
        "radius": 9.0 if kind == "ground" else rng.uniform(0.14, 0.34) if subject else rng.uniform(0.1, 0.25),
        "stretch": rng.uniform(1.0, 1.5) if subject else rng.uniform(1.0, 3.0),
        "angle": rng.uniform(0, np.pi),
        "lobes": rng.integers(3, 9) if subject else rng.integers(0, 4),
        "lobe_depth": rng.uniform(0.1, 0.35) if subject else rng.uniform(0.0, 0.2),
        "color": color,
        "second": second,
        "pattern": rng.integers(0, len(PATTERNS)),
        "wavelength": rng.uniform(0.09, 0.18),
    }


def hsv(hue: float, saturation: float, value: float) -> Array:
    """Linear-light RGB of a colour given in the usual (display-encoded) HSV."""
    ramp = np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    encoded = value * (1 - saturation + saturation * np.clip(ramp, 0, 1))
    return decode(encoded.astype(np.float32))


# The curve of `argan.curves.SRGB`, but rounded otherwise in the last place: photographs of a seed stay what they are.


def decode(encoded: Array) -> Array:
    """sRGB -> linear light."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(np.float32)


def encode(linear: Array) -> Array:
    """Linear light -> sRGB, clipped to [0, 1] as a sensor does."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)


# Patterns: of plane coordinates p, q (in wavelengths) and the polar angle, to [0, 1].

PATTERNS: tuple[Callable[[Array, Array, Array, Array], Array], ...] = (
    lambda p, q, theta, lobes: 0.5 + 0.5 * np.sin(2 * np.pi * p),  # stripes
    lambda p, q, theta, lobes: 0.5 + 0.5 * np.sin(2 * np.pi * p) * np.sin(2 * np.pi * q),  # spots
    lambda p, q, theta, lobes: 0.5 + 0.5 * np.sin(2 * np.pi * np.hypot(p, q)),  # rings
    lambda p, q, theta, lobes: 0.5 + 0.5 * np.sin(3 * np.maximum(lobes, 3) * theta),  # rays
)


def rasterize(scene: Planes, side: int, margin: int) -> tuple[Array, Array]:
    """Colour (K, 3, N, N) in linear light and coverage (K, N, N) of every plane, N = `side` + 2 `margin` px."""
    axis = (np.arange(-margin, side + margin, dtype=np.float32) + 0.5) / side - 0.5
    x = axis[None, None, :] - scene.center[:, 0, None, None]
    y = axis[None, :, None] - scene.center[:, 1, None, None]
    cos, sin = np.cos(scene.angle)[:, None, None], np.sin(scene.angle)[:, None, None]
    root = np.sqrt(scene.stretch)[:, None, None]
    p, q = (x * cos + y * sin) * root, (y * cos - x * sin) / root
    theta, distance = np.arctan2(q, p), np.hypot(p, q)
    lobes = scene.lobes[:, None, None]
    outline = scene.radius[:, None, None] * (1 + scene.lobe_depth[:, None, None] * np.cos(lobes * theta))
    coverage = np.clip((outline - distance) * side + 0.5, 0, 1)

    wavelength = scene.wavelength[:, None, None]
    tone = np.empty_like(distance)
    for index, pattern in enumerate(PATTERNS):
        rows = np.flatnonzero(scene.pattern == index)
        tone[rows] = pattern(p[rows] / wavelength[rows], q[rows] / wavelength[rows], theta[rows], lobes[rows])
    tone = tone[:, None]
    color = scene.color[:, :, None, None] * tone + scene.second[:, :, None, None] * (1 - tone)
    for light_x, light_y, radius, brightness in scene.lights:
        spot = np.exp(-((axis[None, :] - light_x) ** 2 + (axis[:, None] - light_y) ** 2) / (2 * radius**2))
        color[0] += brightness * spot
    return color.astype(np.float32), coverage.astype(np.float32)


# The camera.


def photograph(scene: Planes, resolution: int, aperture: float, rng: np.random.Generator) -> Array:
    """The scene through a lens opened by `aperture` in [0, 1], (3, S, S) display-encoded in [0, 1].

    Lens point u sees plane k moved by u x disparity_k x blur radius; nearer planes cover farther ones for every lens
    point by itself, so blurred edges show what a real lens shows behind them.
    """
    side = resolution * SUPERSAMPLING
    margin = int(np.ceil(BLUR_RADIUS * side)) + 1
    color, coverage = rasterize(scene, side, margin)
    lens = disc_points(LENS_SAMPLES if aperture else 1, rng.random()) * aperture * BLUR_RADIUS
    colored, transparency = color * coverage[:, None], 1 - coverage
    light = np.zeros((3, side, side), dtype=np.float32)
    for u in lens:
        seen = np.zeros_like(light)
        for plane, (disparity, tilt) in enumerate(zip(scene.disparity, scene.tilt, strict=True)):
            window = seen_through(u, disparity, tilt, side, margin)
            seen *= transparency[plane][window]
            seen += colored[plane][:, *window]
        light += seen
    return encode(pool(light / len(lens)))


def seen_through(u: Array, disparity: float, tilt: float, side: int, margin: int) -> Any:
    """Index of the pixels of a plane (a margin around `side` px) that the image sees through the lens point u = (x, y).

    Pixel p sees the plane at q = p + u D(q) with D(q) = disparity + tilt q_y, a linear equation in q: inverse depth is
    linear over the image of any plane. Lengths are in image widths, p and q relative to the centre.
    """
    if tilt == 0:
        dx, dy = (int(np.rint(side * disparity * part)) for part in u)
        return np.s_[margin + dy : margin + dy + side, margin + dx : margin + dx + side]
    p = (np.arange(side) + 0.5) / side - 0.5
    q = (p + u[1] * disparity) / (1 - u[1] * tilt)
    rows = np.rint((q + 0.5) * side - 0.5).astype(np.int64) + margin
    shifts = np.rint(side * u[0] * (disparity + tilt * q)).astype(np.int64) + margin
    last = side + 2 * margin - 1
    columns = np.clip(shifts[:, None] + np.arange(side), 0, last)
    return np.clip(rows, 0, last)[:, None], columns


def true_disparity(scene: Planes, resolution: int) -> Array:
    """Disparity seen through a pinhole, (1, S, S) in [0, 1]; 0.5 is the focal plane."""
    side = resolution * SUPERSAMPLING
    _, coverage = rasterize(scene, side, 0)
    rows = (np.arange(side, dtype=np.float32)[:, None] + 0.5) / side - 0.5
    disparity = np.zeros_like(coverage[:1])
    for signed, tilt, alpha in zip(scene.disparity, scene.tilt, coverage, strict=True):
        disparity += alpha * (0.5 + 0.5 * (signed + tilt * rows) - disparity)
    return pool(disparity)


def disc_points(count: int, turn: float) -> Array:
    """`count` evenly spread points of the unit disc (a sunflower spiral, turned by a random angle), (V, 2)."""
    if count == 1:
        return np.zeros((1, 2), dtype=np.float32)
    index = np.arange(count) + 0.5
    radius, angle = np.sqrt(index / count), np.pi * (1 + 5**0.5) * index + 2 * np.pi * turn
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)


def pool(image: Array) -> Array:
    """Mean over SUPERSAMPLING x SUPERSAMPLING blocks."""
    channels, height, width = image.shape
    blocks = image.reshape(channels, height // SUPERSAMPLING, SUPERSAMPLING, width // SUPERSAMPLING, SUPERSAMPLING)
    return blocks.mean(axis=(2, 4))
