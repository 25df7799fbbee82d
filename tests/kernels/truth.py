"""What a thin lens would have seen, in layered scenes with known hidden surfaces; and the renderers of others.

A scene is a stack of textured, partly transparent planes. The lens is integrated by shooting every pixel's rays through
many points of the aperture: a point at q with signed blur radius c(q) = radius * (d(q) - focus) is seen at
p = q - u c(q) through the aperture point u. A renderer gets the all-in-focus picture (u = 0) and the nearest
surface's disparity, nothing else.

Rays are taken bilinearly between the pixels of a scene, which adds a little blur to what is nearly in focus. A scene
that was drawn within `enlarged(times)` is seen as by a sensor: a pixel is the mean of times x times that were drawn.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

SIZE, MARGIN, RADIUS = 96, 28, 10.0  # judged square, what surrounds it, blur radius at |d - f| = 1 (pixels)
CANVAS = SIZE + 2 * MARGIN
PHOTO = Path(__file__).parents[2] / "examples" / "photo.jpg"


@contextmanager
def enlarged(times: int) -> Iterator[None]:
    """Within it everything is drawn with so many times the pixels along each side, and blurred as many times as far."""
    global SIZE, MARGIN, RADIUS, CANVAS
    before = SIZE, MARGIN, RADIUS, CANVAS
    SIZE, MARGIN, RADIUS, CANVAS = SIZE * times, MARGIN * times, RADIUS * times, CANVAS * times
    try:
        yield
    finally:
        SIZE, MARGIN, RADIUS, CANVAS = before


@dataclass
class Plane:
    """A plane of disparity d0 + gx x + gy y (x, y in [-1, 1]), with linear colour (3,h,w) and coverage (1,h,w)."""

    colour: Tensor
    alpha: Tensor
    d0: float
    gx: float = 0.0
    gy: float = 0.0

    def disparity(self) -> Tensor:
        at = torch.linspace(-1, 1, CANVAS)
        return self.d0 + self.gy * at[:, None] + self.gx * at[None]


@dataclass
class Scene:
    name: str
    planes: list[Plane]  # far to near
    focus: dict[str, float]

    @property
    def times(self) -> int:
        """How many times the canvas's pixels it was drawn with along each side."""
        return self.planes[0].alpha.shape[-1] // CANVAS

    def all_in_focus(self) -> tuple[Tensor, Tensor]:
        """The picture (1,3,h,w) and the disparity (1,1,h,w) that a renderer is given."""
        image, disparity = torch.zeros(3, 1, 1), torch.zeros(CANVAS, CANVAS)
        for plane in self.planes:
            image = plane.alpha * plane.colour + (1 - plane.alpha) * image
            disparity = torch.where(F.avg_pool2d(plane.alpha, self.times)[0] > 0.5, plane.disparity(), disparity)
        return F.avg_pool2d(image, self.times)[None], disparity[None, None]

    def edge_band(self, focus: float) -> Tensor:
        """Pixels of the judged square near enough to a depth edge for blur to cross it."""
        _, d = self.all_in_focus()
        edge = F.max_pool2d(d, 3, 1, 1) + F.max_pool2d(-d, 3, 1, 1) > 0.15
        reach = math.ceil(RADIUS * float((d - focus).abs().max()))
        return crop(F.max_pool2d(edge.float(), 2 * reach + 1, 1, reach))[0, 0] > 0


def crop(x: Tensor) -> Tensor:
    return x[..., MARGIN : MARGIN + SIZE, MARGIN : MARGIN + SIZE]


def lens_samples(count: int) -> Tensor:
    """(count, 2) points of the unit disc, evenly spread (the sunflower spiral)."""
    k = torch.arange(count, dtype=torch.float64)
    radius, angle = ((k + 0.5) / count).sqrt(), k * math.pi * (3 - math.sqrt(5))
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1).float()


def photograph(scene: Scene, focus: float, samples: int = 1500, cat_eye: float = 0.0) -> Tensor:
    """The true picture (3, SIZE, SIZE) in linear light.

    With `cat_eye`, of the rays to the pixel at x, in units of half the canvas's diagonal, those through the aperture
    points u with |u + cat_eye x| > 1 are blocked.
    """
    times = scene.times
    if times > 1:
        with enlarged(times):
            return F.avg_pool2d(photograph(scene, focus, samples, cat_eye), times)
    y, x = torch.meshgrid(*[torch.arange(MARGIN, MARGIN + SIZE, dtype=torch.float32)] * 2, indexing="ij")
    total, passed = torch.zeros(3, SIZE, SIZE), torch.zeros(SIZE, SIZE)
    corner = CANVAS / math.sqrt(2)
    field_x, field_y = (cat_eye * (at + 0.5 - CANVAS / 2) / corner for at in (x, y))
    sheets = [torch.cat([p.colour * p.alpha, p.alpha])[None] for p in scene.planes]
    half = (CANVAS - 1) / 2
    for ux, uy in lens_samples(samples).tolist():
        seen, through = torch.zeros(3, SIZE, SIZE), torch.ones(1, SIZE, SIZE)
        for plane, sheet in zip(reversed(scene.planes), reversed(sheets), strict=True):
            gx, gy = RADIUS * plane.gx / half, RADIUS * plane.gy / half  # dc/dx and dc/dy a pixel
            c0 = RADIUS * (plane.d0 - focus) - gx * half - gy * half  # c at pixel (0, 0)
            slope = gx * ux + gy * uy
            c = (c0 + gx * x + gy * y) / (1 - slope)  # solves c = c(q) with q = p + u c
            grid = torch.stack([(x + ux * c) / half - 1, (y + uy * c) / half - 1], -1)[None]
            hit = F.grid_sample(sheet, grid, mode="bilinear", padding_mode="border", align_corners=True)[0]
            seen += through * hit[:3]
            through = through * (1 - hit[3:])
        passes = (torch.hypot(ux + field_x, uy + field_y) <= 1).float()
        total, passed = total + passes * seen, passed + passes
    return total / passed


def display(linear: Tensor) -> Tensor:
    return linear.clamp(0, 1) ** (1 / 2.2)


def psnr(a: Tensor, b: Tensor, where: Tensor | None = None) -> float:
    """PSNR of two linear pictures as displayed."""
    error = (display(a) - display(b)).square().mean(0)
    return -10 * math.log10(max(float(error.mean() if where is None else error[where].mean()), 1e-12))


def two_planes(radius: float, focus: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A disc of disparity 1, four blur radii wide, before a plane of disparity 0, both photographs, for any radius.

    All of both surfaces is known, so what a lens sees of them is two convolutions. Returns the picture (1,3,h,w), its
    disparity (1,1,h,w), what a lens sees (3,h,w), and where the edge's blur is (h,w).
    """
    side = round(8 * radius)
    disc = shape(lambda x, y: 0.5 - torch.hypot(x - 0.1, y), side)[None]
    near, far = photo(0.1, 0.1, 0.8, side)[None], photo(0.8, 0.05, 0.9, side)[None]
    before, covered = _disc_blur(torch.cat([disc * near, disc], 1), radius * abs(1 - focus)).split([3, 1], 1)
    seen = before + (1 - covered) * _disc_blur(far, radius * abs(focus))
    band = (_disc_blur(disc, radius) - disc).abs()[0, 0] > 0.005
    return disc * near + (1 - disc) * far, (disc > 0.5).float(), seen[0], band


# Scenes -------------------------------------------------------------------------------------------------------------


def noise(seed: int, exponent: float = 1.6) -> Tensor:
    """A coloured texture whose displayed amplitude falls as 1/f^exponent, (3, CANVAS, CANVAS) linear light.

    Squares of this size of 46 real photographs (the half of them with more contrast) fall as 1/f^1.6 to 1/f^2; their
    roughest tenth as 1/f^1.4. Their contrast is like the one here: a displayed standard deviation of 0.14 to 0.2.
    """
    g = torch.Generator().manual_seed(seed)
    f = torch.fft.fftfreq(CANVAS)
    magnitude = 1 / (f[:, None] ** 2 + f[None] ** 2 + (2 / CANVAS) ** 2) ** (exponent / 2)
    x = torch.fft.ifft2(torch.fft.fft2(torch.randn(3, CANVAS, CANVAS, generator=g)) * magnitude).real
    x = x.mean(0) + 0.5 * (x - x.mean(0))
    return (0.5 + 0.22 * x / x.std()).clamp(0.02, 0.98) ** 2.2


def photo(left: float, top: float, side: float, pixels: int = 0) -> Tensor:
    """A square of the example photograph as a texture, (3, pixels, pixels) linear light; fractions of its height.

    Without `pixels` it is as large as the canvas.
    """
    pixels = pixels or CANVAS
    with Image.open(PHOTO) as picture:
        box = [picture.height * at for at in (left, top, left + side, top + side)]
        square = picture.convert("RGB").resize((pixels, pixels), Image.Resampling.BOX, box)
    return torch.from_numpy(np.asarray(square, dtype=np.float32) / 255).permute(2, 0, 1) ** 2.2


def lights(seed: int, count: int, power: float = 20.0) -> Tensor:
    """Small bright lights, (1, CANVAS, CANVAS)."""
    g = torch.Generator().manual_seed(seed)
    at = (torch.rand(count, 2, generator=g) * (CANVAS - 8) + 4).long()
    x = torch.zeros(1, CANVAS, CANVAS)
    x[0, at[:, 0], at[:, 1]] = power
    return F.avg_pool2d(x[None], 3, 1, 1)[0] * 2


def shape(inside: Callable[[Tensor, Tensor], Tensor], pixels: int = 0) -> Tensor:
    """Coverage (1, pixels, pixels) of {inside(x, y) > 0}, x, y in [-1, 1], by 4 x 4 samples a pixel.

    Without `pixels` it is as large as the canvas.
    """
    pixels = pixels or CANVAS
    at = (torch.arange(4 * pixels) + 0.5) / (2 * pixels) - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    return F.avg_pool2d((inside(x, y) > 0).float()[None], 4)


def disc(x0: float, y0: float, r: float) -> Tensor:
    return shape(lambda x, y: r - torch.hypot(x - x0, y - y0))


def petals(x0: float, y0: float, r: float, n: int) -> Tensor:
    return shape(lambda x, y: r * (0.65 + 0.35 * (n * torch.atan2(y - y0, x - x0)).cos()) - torch.hypot(x - x0, y - y0))


def strands(seed: int, count: int, width: float) -> Tensor:
    """Bent lines from top to bottom, (1, CANVAS, CANVAS); `width` is a share of the canvas, which has 152 pixels."""
    g = torch.Generator().manual_seed(seed)
    a, b, c = (2 * torch.rand(3, count, generator=g) - 1).tolist()

    def nearest(x: Tensor, y: Tensor) -> Tensor:
        bends = [(x - 0.7 * a[i] - 0.5 * b[i] * y - 0.3 * c[i] * y * y).abs() for i in range(count)]
        return width - torch.stack(bends).amin(0)

    return shape(nearest)


def ring(x0: float, y0: float, outer: float, inner: float) -> Tensor:
    return disc(x0, y0, outer) * (1 - disc(x0, y0, inner))


def everywhere() -> Tensor:
    return torch.ones(1, CANVAS, CANVAS)


def scenes() -> list[Scene]:
    """Discs, petals, strands, slanted planes, three layers, lights, drawn textures and photographed ones; each with
    focus on the near, the far, and between."""
    three_ways = {"near": 0.9, "far": 0.1, "between": 0.5}
    back = Plane(noise(1), everywhere(), 0.1)
    bright = Plane(noise(2, 1.8) + lights(3, 40), everywhere(), 0.1)
    leaves = Plane(photo(0.0, 0.5, 0.5), everywhere(), 0.1)
    ground = Plane(noise(9), everywhere(), 0.5, 0.0, 0.5)
    lawn = Plane(photo(1.2, 0.4, 0.5), everywhere(), 0.35, 0.0, 0.3)
    stack = {
        "disc": [back, Plane(noise(4, 1.4), disc(0.05, 0.0, 0.4), 0.9)],
        "lights": [bright, Plane(noise(5), disc(-0.1, 0.1, 0.42), 0.9)],
        "petals": [back, Plane(noise(6, 1.8), petals(0.0, 0.05, 0.6, 5), 0.9, 0.12, 0.08)],
        "strands": [back, Plane(0.6 * noise(7), strands(8, 9, 2 / 152), 0.9)],
        "ground": [ground, Plane(noise(10, 1.4), disc(0.1, -0.15, 0.28), 0.9)],
        "three": [
            bright,
            Plane(noise(11), disc(-0.3, 0.2, 0.35), 0.5),
            Plane(noise(12, 1.8), petals(0.25, -0.1, 0.45, 6), 0.9),
        ],
        "flower": [leaves, Plane(photo(0.45, 0.25, 0.4), petals(0.05, 0.0, 0.6, 7), 0.9, -0.1, 0.1)],
        "window": [Plane(photo(0.1, 0.0, 0.6), everywhere(), 0.15), Plane(noise(13), ring(0.0, 0.0, 0.75, 0.35), 0.85)],
        "grass": [lawn, Plane(photo(0.6, 0.3, 0.3), strands(14, 14, 1.2 / 152), 0.9)],
        "slopes": [
            Plane(photo(0.8, 0.5, 0.4), everywhere(), 0.3, -0.2, 0.0),
            Plane(photo(0.5, 0.4, 0.3), disc(0.0, 0.1, 0.45), 0.75, 0.25, -0.1),
        ],
        "crowd": [
            leaves,
            Plane(noise(15, 1.8), disc(-0.35, -0.1, 0.3), 0.4),
            Plane(photo(0.5, 0.3, 0.4), disc(0.3, -0.2, 0.3), 0.65),
            Plane(noise(16), petals(0.0, 0.35, 0.4, 4), 0.95),
        ],
        "twigs": [
            bright,
            Plane(photo(1.0, 0.1, 0.4), disc(0.3, 0.3, 0.35), 0.5),
            Plane(noise(17), strands(18, 5, 3 / 152), 0.8),
        ],
    }
    return [Scene(name, planes, three_ways) for name, planes in stack.items()]


# The renderers of others, from their formulas -----------------------------------------------------------------------


def light_field_gather(
    image: Tensor, disparity: Tensor, focus: float, radius: float = RADIUS, samples: int = 500
) -> Tensor:
    """The mean over the aperture of the picture warped by each pixel's own blur radius: a light field without ray
    depths.
    """
    c = radius * (disparity - focus)[0, 0]
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in c.shape), indexing="ij")
    half_y, half_x = ((n - 1) / 2 for n in c.shape)
    total = torch.zeros_like(image)
    for ux, uy in lens_samples(samples).tolist():
        grid = torch.stack([(x + ux * c) / half_x - 1, (y + uy * c) / half_y - 1], -1)[None]
        total += F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return total / samples


def classical_scatter(image: Tensor, disparity: Tensor, focus: float, radius: float = RADIUS) -> Tensor:
    """BokehMe's classical renderer (Peng et al., CVPR 2022): each pixel spreads over its own soft disc, no ordering."""
    r = radius * (disparity - focus).abs()
    total, weight = torch.zeros_like(image), torch.zeros_like(r)
    for distance, (source, r_q) in _neighbours(math.ceil(float(r.max())) + 1, image, r):
        w = (0.5 + 0.5 * torch.tanh(4 * (r_q - math.hypot(*distance)))) / (r_q**2 + 0.2)
        total, weight = total + w * source, weight + w
    return total / weight


def nearest_fill_layers(image: Tensor, disparity: Tensor, focus: float, radius: float = RADIUS) -> Tensor:
    """One layer a pixel of blur radius; what is hidden is copied from the nearest pixel seen farther away; discs,
    `over`, normalised by what is covered.
    """
    bins = (radius * (disparity - focus)).round()
    out = torch.zeros_like(image[:, :1]).repeat(1, 4, 1, 1)
    for r in bins.unique().tolist():  # back to front
        hidden, seen = bins > r, bins <= r
        filled = _nearest(torch.cat([image, (bins == r).float()], 1), seen[0, 0], hidden[0, 0])
        layer = _disc_blur(torch.cat([filled[:, :3] * filled[:, 3:], filled[:, 3:]], 1), abs(r))
        out = layer + (1 - layer[:, 3:]) * out
    return out[:, :3] / out[:, 3:].clamp(min=1e-6)


def two_layers(image: Tensor, disparity: Tensor, focus: float, radius: float = RADIUS) -> Tensor:
    """Dr.Bokeh (Sheng et al., CVPR 2024): a salient layer and the background behind it, gathered by soft discs that
    nearer pixels cover unless the pixel itself is blurred; alpha blurred by a box; `over`.

    The layers are split half-way between the nearest and the farthest disparity, where they learn a matte; hidden
    background is copied from the nearest visible pixel, where they have an inpainting network.
    """
    salient = disparity > (disparity.min() + disparity.max()) / 2
    behind = _nearest(torch.cat([image, disparity], 1), ~salient[0, 0], salient[0, 0])
    layers = [
        (image, disparity, salient.float()),
        (behind[:, :3], behind[:, 3:], torch.ones_like(disparity)),
    ]
    out, through = torch.zeros_like(image), torch.ones_like(disparity)
    for colour, d, alpha in layers:
        colour, alpha = _soft_gather(colour, radius * (d - focus), alpha, 10 / radius, radius / 10)
        out, through = out + through * alpha * colour, through * (1 - alpha)
    return out / (1 - through).clamp(min=1e-6)


def _soft_gather(colour: Tensor, c: Tensor, alpha: Tensor, steep: float, ahead: float) -> tuple[Tensor, Tensor]:
    """Their formulas in blur radii c = K D: `steep` and `ahead` are their 10 and 0.1 in these units."""
    size = c.abs() + 1  # s
    blurred = 1 - torch.exp(-3 * c**2)
    total, weight, box, cells = torch.zeros_like(colour), *(torch.zeros_like(c) for _ in range(3))
    for distance, (source, c_q, s_q, alpha_q) in _neighbours(math.ceil(float(size.max())) + 2, colour, c, size, alpha):
        nearer = 0.5 + 0.5 * torch.tanh(steep * (c_q - c - ahead))
        w = 0.1 / (0.1 + torch.exp(-3 * (s_q - math.hypot(*distance)))) / s_q**2
        w = w * alpha_q * ((1 - blurred) * nearer + blurred)
        inside = (size / 2 >= max(map(abs, distance))).float()
        total, weight = total + w * source, weight + w
        box, cells = box + inside * alpha_q, cells + inside
    return total / weight.clamp(min=1e-6), box / cells


def _neighbours(n: int, *pictures: Tensor) -> Iterator[tuple[tuple[int, int], list[Tensor]]]:
    """The pictures shifted by every (dy, dx) of a square of half-size n, edges extended."""
    height, width = pictures[0].shape[-2:]
    padded = [F.pad(x, (n,) * 4, mode="replicate") for x in pictures]
    for dy in range(-n, n + 1):
        for dx in range(-n, n + 1):
            yield (dy, dx), [x[..., n + dy : n + dy + height, n + dx : n + dx + width] for x in padded]


def _nearest(x: Tensor, seen: Tensor, hidden: Tensor) -> Tensor:
    """x with `hidden` pixels copied from the nearest `seen` one."""
    rows, columns = distance_transform_edt(~seen.numpy(), return_distances=False, return_indices=True)
    return torch.where(hidden, x[..., torch.from_numpy(rows).long(), torch.from_numpy(columns).long()], x)


def _disc_blur(x: Tensor, radius: float) -> Tensor:
    """The frame's edge extended; by Fourier transform, whose cost does not grow with the radius."""
    n = math.ceil(radius)
    at = torch.arange(-n, n + 1.0)
    kernel = (radius + 0.5 - torch.hypot(at[:, None], at[None])).clamp(0, 1)
    x = F.pad(x, (n,) * 4, mode="replicate")
    size = x.shape[-2:]
    spectrum = torch.fft.rfft2(x) * torch.fft.rfft2(kernel / kernel.sum(), s=size)
    return torch.fft.irfft2(spectrum, s=size)[..., 2 * n :, 2 * n :]
