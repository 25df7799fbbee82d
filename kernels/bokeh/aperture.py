"""Apertures, and the image that a point light leaves through one: small, anti-aliased, normalised kernels of any size.

A blurred point is a picture of the aperture. Its outline is a disc, a polygon of straight or curved blades, or any
image; an anamorphic lens stretches it; spherical aberration piles light up at its edge, or thins it out there. Towards
the corners of the picture the rim of the lens cuts into it: cat's eyes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLADES = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6, "heptagon": 7, "octagon": 8, "nonagon": 9}
APERTURES = ("disk", *BLADES)
FINE = 16  # kernels are drawn with so many samples from the centre to the edge, or one a pixel where that is more
MOST = 512  # pixels of an aperture image's longer side: larger ones are averaged to that
EXACT: dict[str, Any] = {"dtype": torch.float64, "device": torch.device("cpu")}  # what they are drawn in


@dataclass(frozen=True, eq=False)
class Aperture:
    """The opening of a lens, and what the lens does to the picture of it.

    shape       a name of `APERTURES`, or an image: a 2-D tensor, 0 where closed, spanning the disc's bounding square
    rotation    degrees, clockwise in the picture of a point behind the focal plane
    curvature   of the blades' edges, relative to the circle through their corners: 0 straight, 1 that circle
    anamorphic  height of the disc over its width, at the same area: 1 round, 1.33 to 2 as cinema lenses have it
    rim         spherical aberration: light at the edge of a disc relative to its mean, less 1. Behind the focal plane
                1 is a bright edge about a dark middle and -1 a soft edge; in front the two change places
    cat_eye     optical vignetting: how far the rim of the lens, seen from the picture's corner, lies beside the
                aperture, in radii of it: 0 nowhere in the way, 1 discs in the corners are lemons of 39 % of their area

    Raises ValueError and TypeError for what is no aperture.
    """

    shape: str | Tensor = "disk"
    rotation: float = 0.0
    curvature: float = 0.0
    anamorphic: float = 1.0
    rim: float = 0.0
    cat_eye: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.shape, str):
            if self.shape not in APERTURES:
                raise ValueError(f"unknown aperture {self.shape!r}: one of {', '.join(APERTURES)}, or a 2-D tensor")
        else:
            object.__setattr__(self, "shape", _checked_mask(self.shape))
        if not math.isfinite(self.rotation):
            raise ValueError(f"an aperture's rotation is an angle in degrees, not {self.rotation}")
        if not 0 <= self.curvature <= 1:
            raise ValueError(f"curvature of blades is from 0, straight, to 1, round, not {self.curvature}")
        if self.curvature and not (isinstance(self.shape, str) and self.shape in BLADES):
            raise ValueError(f"curvature is that of blades: for an aperture such as {', '.join(BLADES)}")
        if not 0.25 <= self.anamorphic <= 4:
            raise ValueError(f"anamorphic is height over width of the disc, from 0.25 to 4, not {self.anamorphic}")
        if not -1 <= self.rim <= 1:
            raise ValueError(f"rim is the surplus of light at a disc's edge, from -1 to 1, not {self.rim}")
        if self.rim and isinstance(self.shape, Tensor):
            for rim in (self.rim, -self.rim):  # behind the focal plane and in front
                if not bool((_lit(self.shape, rim)[2] > 0).any()):
                    raise ValueError(f"a rim of {self.rim} leaves no light in this aperture image; weaker ones do")
        if not 0 <= self.cat_eye <= 1:
            raise ValueError(f"cat_eye is how far the lens's rim cuts into discs, from 0 to 1, not {self.cat_eye}")

    @property
    def stretch(self) -> tuple[float, float]:
        """Along the width and along the height; the area stays."""
        return 1 / math.sqrt(self.anamorphic), math.sqrt(self.anamorphic)

    @property
    def extent(self) -> float:
        """How far from the centre the shape of radius 1 can reach, along the width or the height."""
        turn = math.radians(self.rotation)
        corner = abs(math.cos(turn)) + abs(math.sin(turn)) if isinstance(self.shape, Tensor) else self.pupil
        return corner * max(self.stretch)

    @property
    def pupil(self) -> float:
        """Radius of the round opening that the shape of radius 1 is cut from. Corners of blades lie on its edge."""
        return 1.0 if isinstance(self.shape, Tensor) else _outline(self.shape, self.curvature).circumradius

    @property
    def lens_rim(self) -> float:
        """Radius of the lens's rim, as the middle of the picture sees it: it just touches the shape of radius 1."""
        return _farthest(self.shape) if isinstance(self.shape, Tensor) else self.pupil


def check_aperture(aperture: Aperture | str | Tensor) -> Aperture:
    """An `Aperture` from one, from a name of `APERTURES`, or from an image; ValueError or TypeError when it is none."""
    if isinstance(aperture, Aperture):
        return aperture
    return _named(aperture) if isinstance(aperture, str) else Aperture(aperture)


@lru_cache
def _named(name: str) -> Aperture:
    """The same object for the same name: what has been fitted for it can be found again."""
    return Aperture(name)


def reach(aperture: Aperture, radius: float) -> int:
    """Half-width in pixels of the kernel of blur radius `radius`."""
    return math.ceil(radius * aperture.extent + 0.5) if radius > 0 else 0


def aperture_kernel(aperture: Aperture | str | Tensor, radius: float) -> Tensor:
    """The image of a point light: (2n+1, 2n+1) float64, sum 1, for a signed blur radius in pixels.

    A point behind the focal plane (radius < 0) shows the aperture upright, one in front shows it turned by half a turn
    and with the opposite rim. Blades enclose the area of the disc of the same radius, one corner up before rotation. An
    image spans the disc's bounding square. Edges are the ramp sat(signed distance to the edge + 1/2); the shape is
    drawn as much smaller as makes its mean squared radius that of the sharp one. Cat's eyes are not in it.

    Raises ValueError and TypeError for what is no aperture.
    """
    return fitted_kernel(check_aperture(aperture), radius)[0].clone()


@lru_cache(maxsize=512)
@torch.inference_mode(False)  # what is kept may be needed for gradients later
def kernel_on(aperture: Aperture, radius: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """`fitted_kernel`'s on a device, where it is kept: (1,1,2n+1,2n+1), not to be written to."""
    return fitted_kernel(aperture, radius)[0].to(device, dtype)[None, None]


@lru_cache(maxsize=512)
@torch.inference_mode(False)  # what is kept may be needed for gradients later
def fitted_kernel(aperture: Aperture, radius: float) -> tuple[Tensor, float]:
    """`aperture_kernel`, and the signed radius that the shape is drawn with to be as wide as the sharp one.

    Kept: slabs of all photos, and of all tiles of one, have the same radii. Not to be written to.
    """
    n, r = reach(aperture, abs(radius)), abs(radius)
    if n == 0:
        return torch.ones(1, 1, **EXACT), 0.0
    rim = math.copysign(1, -radius) * aperture.rim
    square, at = _mean_square(aperture, rim), torch.arange(-n, n + 1, **EXACT).square()
    drawn, fine = r, _fineness(aperture, rim, n)
    mask = (
        _averaged(aperture.shape, 2 * r * fine * min(aperture.stretch)) if isinstance(aperture.shape, Tensor) else None
    )
    for _ in range(8):
        kernel = _draw(aperture, drawn, rim, n, fine, mask)
        missing = r * r - float((kernel * (at[:, None] + at)).sum()) / square
        if abs(missing) < 1e-6 * r * r:
            break
        drawn = math.sqrt(max(drawn**2 + missing, 0.25))
    return (kernel.flip(0, 1), drawn) if radius > 0 else (kernel, -drawn)


def cat_eye_kernels(aperture: Aperture, kernel: Tensor, drawn: float, x: Tensor, y: Tensor) -> Tensor:
    """A `fitted_kernel` at places (x, y) of the picture, (...,2n+1,2n+1): the part that the lens's rim lets pass.

    Places are relative to the picture's centre, with its corners 1 away. The ray from the aperture point u to the pixel
    at x passes if u + cat_eye x lies within the rim, with u and x in their own units; in front of the focal plane u is
    turned by half a turn. What passes has sum 1 everywhere: corners are as bright as the middle. Where nothing would
    pass, which takes an odd image of an aperture, all does.
    """
    kernel = kernel.to(x)
    aside = aperture.cat_eye * aperture.lens_rim * -drawn  # of the rim, seen from a corner; beyond corners as from them
    x, y = (aside * at / torch.hypot(x, y).clamp(min=1) for at in (x, y))
    n, middle = len(kernel) // 2, torch.zeros_like(x)
    share = _passing(aperture, abs(drawn), n, x, y) / _passing(aperture, abs(drawn), n, middle, middle)
    cut = kernel * share.clamp(max=1)
    light = cut.sum((-1, -2), keepdim=True)
    return torch.where(light > 1e-3, cut / light.clamp(min=1e-3), kernel)


def _passing(aperture: Aperture, radius: float, n: int, x: Tensor, y: Tensor) -> Tensor:
    """The part of each pixel of an aperture's picture that is within the rim, which lies by (-x, -y) beside it."""
    at, (wide, high) = torch.arange(-n, n + 1, device=x.device).to(x), aperture.stretch
    u, v = at / wide + x[..., None, None], at[:, None] / high + y[..., None, None]
    away = torch.hypot(u, v)
    slope = torch.hypot(u / wide, v / high) / away.clamp(min=1e-6)  # the stretch has changed distances
    inside = (aperture.lens_rim * radius - away) / slope.clamp(min=1 / max(wide, high))
    return (inside + 0.5).clamp(1e-6, 1)


def _fineness(aperture: Aperture, rim: float, n: int) -> int:
    """Samples along the side of a pixel of a kernel of half-width n."""
    plain = aperture.shape == "disk" and aperture.anamorphic == 1 and not rim
    return 1 if plain else math.ceil(FINE / n) + (2 if isinstance(aperture.shape, Tensor) else 0)


def _draw(aperture: Aperture, radius: float, rim: float, n: int, fine: int, mask: Tensor | None) -> Tensor:
    """The aperture's picture, averaged over each pixel by `fine` x `fine` samples; of an image, those of `mask`."""
    at = (torch.arange((2 * n + 1) * fine, **EXACT) + 0.5) / fine - n - 0.5
    u, v = _on_aperture(aperture, at[None, :], at[:, None])
    if isinstance(aperture.shape, Tensor):
        assert mask is not None
        samples = _sampled(mask, u, v, radius, aperture.shape.shape)
    else:
        samples = _filled(aperture, u, v, radius, fine)
    if rim:
        samples = samples * _profile(torch.hypot(u, v) / (radius * aperture.pupil), rim)
    kernel = F.avg_pool2d(samples[None, None], fine)[0, 0]
    if not bool((kernel > 0).any()):  # thinner than the samples: a point
        kernel[n, n] = 1
    return kernel / kernel.sum()


def _averaged(mask: Tensor, most: float) -> Tensor:
    """An aperture image in float64, made smaller where its longer side has more than so many pixels."""
    mask, times = mask.double(), max(1, math.floor(most)) / max(mask.shape)
    if times >= 1:
        return mask
    rows, columns = (_shares(side, max(1, round(side * times))) for side in mask.shape)
    return rows @ mask @ columns.T


def _shares(side: int, cells: int) -> Tensor:
    """Of each of a side's pixels in each of fewer cells' means, (cells,side)."""
    ends, at = torch.arange(cells + 1, **EXACT)[:, None] * side / cells, torch.arange(side, **EXACT)
    return (torch.minimum(ends[1:], at + 1) - torch.maximum(ends[:-1], at)).clamp(min=0) * cells / side


def _sampled(mask: Tensor, u: Tensor, v: Tensor, radius: float, size: torch.Size) -> Tensor:
    """The values of an aperture image of that size, whose longer side spans [-radius, radius].

    `mask` is the image, or one that is averaged to about as many pixels as there are samples: linear between these.
    """
    v, u = (x * (max(size) / side / radius) for x, side in zip((v, u), size, strict=True))  # the image spans [-1, 1]
    if mask.shape != size:
        grid = torch.stack(torch.broadcast_tensors(u, v), -1)[None]
        return F.grid_sample(mask[None, None], grid, align_corners=False)[0, 0]
    row, column = (((x + 1) * (side / 2)).floor().long() for x, side in zip((v, u), size, strict=True))
    inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
    return mask[row.clamp(0, size[0] - 1), column.clamp(0, size[1] - 1)] * inside


def _filled(aperture: Aperture, u: Tensor, v: Tensor, radius: float, fine: int) -> Tensor:
    """1 inside the outline, 0 outside, a ramp of one sample between."""
    edge = _outline(aperture.shape, aperture.curvature).inside(u, v, radius) * fine
    if aperture.anamorphic != 1:  # the stretch has changed distances: again samples from the edge, to first order
        slope = torch.stack(torch.gradient(edge)).square().sum(0).sqrt()
        edge = edge / slope.clamp(min=1 / max(aperture.stretch))
    return (edge + 0.5).clamp(0, 1)


def _on_aperture(aperture: Aperture, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Where picture points lie on the aperture before it was turned and stretched."""
    wide, high = aperture.stretch
    c, s = math.cos(math.radians(aperture.rotation)), math.sin(math.radians(aperture.rotation))
    x, y = x / wide, y / high
    return c * x + s * y, c * y - s * x


def _profile(t: Tensor, rim: float) -> Tensor:
    """Light at t of the way from the centre to the edge of the pupil; its mean over a disc is 1.

    Third-order spherical aberration sends the ray through t to t (1 + a t^2) and so thins light out by 1 + 4 a t^2, to
    first order in a. With the disc's mean held at 1 that is 1 + rim (2 t^2 - 1).
    """
    return 1 + rim * (2 * t.clamp(max=1).square() - 1)


def _mean_square(aperture: Aperture, rim: float) -> float:
    """The mean squared distance from the centre, of the shape of radius 1."""
    if isinstance(aperture.shape, Tensor):
        uu, vv, uv = _moments(aperture.shape, rim)
    else:  # outlines that a turn by less than half a turn maps to themselves have the same moments in all directions
        uu = vv = _outline(aperture.shape, aperture.curvature).mean_square(rim) / 2
        uv = 0.0
    c, s = math.cos(math.radians(aperture.rotation)), math.sin(math.radians(aperture.rotation))
    wide, high = aperture.stretch
    return wide**2 * (c * c * uu - 2 * c * s * uv + s * s * vv) + high**2 * (s * s * uu + 2 * c * s * uv + c * c * vv)


def _moments(mask: Tensor, rim: float) -> tuple[float, float, float]:
    """Means of u^2, v^2 and u v over an aperture image that spans [-1, 1]."""
    u, v, light = _lit(mask, rim)
    uu, vv, uv = (float((light * product).sum() / light.sum()) for product in (u * u, v * v, u * v))
    own = 1 / (3 * max(mask.shape) ** 2)  # of a square pixel
    return uu + own, vv + own, uv


def _lit(mask: Tensor, rim: float) -> tuple[Tensor, Tensor, Tensor]:
    """Where the pixels of an aperture image lie that spans [-1, 1], across and down, and their light."""
    v, u = ((2 * torch.arange(n, **EXACT) + 1 - n) / max(mask.shape) for n in mask.shape)
    v = v[:, None]
    return u, v, mask.double() * _profile(torch.hypot(u, v), rim)


def _farthest(mask: Tensor) -> float:
    """How far from the centre the open part of an aperture image reaches, which spans [-1, 1]."""
    v, u = (((2 * torch.arange(n, device=mask.device) + 1 - n).abs() + 1) / max(mask.shape) for n in mask.shape)
    return float(torch.hypot(u, v[:, None])[mask > 0].max())


class _Outline:
    """A disc, or the area inside n blades, of the unit disc's area.

    The edge of a blade is an arc of curvature k over the chord between two corners, which is 2 h long and a from the
    centre. With w = sqrt(1 - (h k)^2) the arc's own centre is w / k - a from ours. All is written so that k may be 0.
    """

    def __init__(self, blades: int, curvature: float):
        self.blades = blades
        if not blades:
            self.circumradius, self.square = 1.0, torch.ones(1, **EXACT)
            return
        self._set(1.0, curvature)
        half_a_blade = (torch.arange(1024, **EXACT) + 0.5) / 1024 * math.pi / blades  # all are copies
        square = self.ray(half_a_blade).square()
        self._set(1 / math.sqrt(float(square.mean())), curvature)
        self.square = square / square.mean()  # of distances of the outline, evenly over all directions

    def mean_square(self, rim: float) -> float:
        """The mean squared distance from the centre, weighted by `_profile`: with rho to the outline, its moments are
        int r^2 dA = mean(rho^4) pi / 2 and int r^4 dA = mean(rho^6) pi / 3."""
        second, fourth = (float(self.square.pow(n).mean()) / n for n in (2, 3))
        surplus = 2 * rim / self.circumradius**2
        return ((1 - rim) * second + surplus * fourth) / ((1 - rim) + surplus * second)

    def _set(self, circumradius: float, curvature: float) -> None:
        half = math.pi / self.blades
        self.circumradius, self.k = circumradius, curvature / circumradius
        self.a, self.h = circumradius * math.cos(half), circumradius * math.sin(half)
        self.w = math.sqrt(1 - (self.h * self.k) ** 2)
        self.normals = [2 * half * (side + 0.5) - math.pi / 2 for side in range(self.blades)]  # a corner points up

    def inside(self, u: Tensor, v: Tensor, radius: float) -> Tensor:
        """Distance in pixels to the nearest edge of the outline scaled to `radius`, positive inside."""
        if not self.blades:
            return radius - torch.hypot(u, v)
        u, v = u / radius, v / radius
        square, centre = u.square() + v.square(), self.w - self.a * self.k
        distances = []
        for normal in self.normals:
            along = u * math.cos(normal) + v * math.sin(normal)
            numerator = self.k * (self.h**2 - self.a**2 - square) + 2 * self.a * self.w - 2 * centre * along
            root = (self.k**2 * square + 2 * self.k * centre * along + centre**2).clamp(min=0).sqrt()
            distances.append(numerator / (1 + root))
        return radius * torch.stack(distances).amin(0)

    def ray(self, angle: Tensor) -> Tensor:
        """Distance from the centre to the outline, at most half a blade's angle away from a blade's normal."""
        centre = self.w - self.a * self.k
        root = (1 - (centre * angle.sin()).square()).sqrt()
        return (self.k * (self.h**2 - self.a**2) + 2 * self.a * self.w) / (centre * angle.cos() + root)


@lru_cache(maxsize=32)
def _outline(shape: str, curvature: float) -> _Outline:
    return _Outline(BLADES.get(shape, 0), curvature)


def _checked_mask(mask: object) -> Tensor:
    """An aperture image as a float32 (h, w) CPU tensor of its own, of up to MOST pixels each way."""
    if not isinstance(mask, Tensor):
        raise TypeError(f"aperture must be a name or a 2-D tensor, not {type(mask).__name__}")
    mask = mask.detach().to("cpu", torch.float32)
    if mask.ndim != 2 or min(mask.shape) < 1:
        raise ValueError(f"an aperture image must be a 2-D tensor, not of shape {tuple(mask.shape)}")
    if not bool(torch.isfinite(mask).all()) or bool((mask < 0).any()) or not bool((mask > 0).any()):
        raise ValueError("an aperture image must be finite, nowhere negative and somewhere positive")
    return _averaged(mask, MOST).float() if max(mask.shape) > MOST else mask.clone()  # whatever becomes of the caller's
