"""Between what a file stores and light: transfer curves, sRGB's and those of a photo's own ICC profile.

A lens mixes light, so a photo is decoded to linear light, blurred, and encoded again. Only the curve matters for that:
mixing is the same in every set of primaries, so pixels never leave the colour space that the photo is in.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

FULL_SCALE = {torch.uint8: 255, torch.uint16: 65535}


Finish = Callable[[Tensor, int], Tensor]  # stored values (H, W) in [0, 1] of a channel -> the same, with grain


class Curve(Protocol):
    """`decode`: stored value in [0, 1] -> linear light; `encode`: its inverse. Elementwise, floats, differentiable."""

    @property
    def name(self) -> str: ...

    def decode(self, stored: Tensor) -> Tensor: ...

    def encode(self, linear: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Parametric:
    """linear = (a x + b)^g + e from x = d on, c x + f below: every curve of ICC.1:2022, 10.18 (parametricCurveType)."""

    name: str
    g: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 0.0
    f: float = 0.0

    def decode(self, stored: Tensor) -> Tensor:
        power = (self.a * stored.clamp(min=self.d) + self.b).clamp(min=0) ** self.g + self.e
        return torch.where(stored >= self.d, power, self.c * stored + self.f) if self.d > 0 else power

    def encode(self, linear: Tensor) -> Tensor:
        split = (self.a * self.d + self.b) ** self.g + self.e
        # The floor keeps the gradient of x^(1/g) finite at black; values there are below 1e-6 of full scale.
        power = ((linear.clamp(min=split) - self.e).clamp(min=1e-15) ** (1 / self.g) - self.b) / self.a
        if self.c == 0:
            return torch.where(linear > split, power, self.d)
        return torch.where(linear >= split, power, (linear - self.f) / self.c)


@dataclass(frozen=True)
class Sampled:
    """A curve given by evenly spaced samples, strictly increasing; straight lines between them."""

    name: str
    samples: tuple[float, ...]

    def decode(self, stored: Tensor) -> Tensor:
        grid, samples = self._table(stored)
        return _interpolate(stored, grid, samples)

    def encode(self, linear: Tensor) -> Tensor:
        grid, samples = self._table(linear)
        return _interpolate(linear, samples, grid)

    def _table(self, like: Tensor) -> tuple[Tensor, Tensor]:
        samples = torch.tensor(self.samples, dtype=like.dtype, device=like.device)
        return torch.linspace(0, 1, len(self.samples), dtype=like.dtype, device=like.device), samples


# IEC 61966-2-1. The lower branch of `encode` begins where that of `decode` ends, so that each inverts the other.
SRGB = Parametric("sRGB", g=2.4, a=1 / 1.055, b=0.055 / 1.055, c=1 / 12.92, d=0.04045)
STRAIGHT = Parametric("linear", g=1.0)  # for values that are no light, such as alpha


def to_linear(pixels: Tensor, curve: Curve = SRGB) -> Tensor:
    """Pixels of any shape, uint8, uint16 or float in [0, 1] -> linear light; integers become float32 by a table."""
    if pixels.dtype not in FULL_SCALE:
        return curve.decode(pixels)
    steps = FULL_SCALE[pixels.dtype]
    table = curve.decode(torch.arange(steps + 1, dtype=torch.float64) / steps).float().to(pixels.device)
    return torch.stack([table.index_select(0, plane.flatten().int()).view_as(plane) for plane in pixels])


def from_linear(
    linear: Tensor, curve: Curve = SRGB, dtype: torch.dtype = torch.float32, finish: Finish | None = None
) -> Tensor:
    """The inverse of `to_linear`: (C, H, W) linear light -> `dtype`; integers are clamped and rounded.

    8-bit values come from a table over the square root of linear light, in which every curve is nearly straight:
    they are within 0.503 steps of the exact value (0.5 is rounding itself) and an untouched pixel keeps its value.
    Floats keep highlights beyond white, and none is below black: there is no negative light. `finish` changes stored
    values before they are rounded: grain and dither.
    """
    finish = finish or (lambda stored, _channel: stored)
    if dtype == torch.uint8:
        root = torch.arange(65536, dtype=torch.float64) / 65535
        table = curve.encode(root.square()).float().to(linear.device)
        roots = (plane.clamp(0, 1).sqrt_().mul_(65535).add_(0.5).int() for plane in linear.detach())
        stored = (table.index_select(0, plane.flatten()).view_as(plane) for plane in roots)
        return torch.stack([quantise(finish(plane, channel), dtype) for channel, plane in enumerate(stored)])
    planes = [finish(curve.encode(plane), channel) for channel, plane in enumerate(linear.clamp(min=0))]
    return torch.stack([quantise(p.detach(), dtype) if dtype in FULL_SCALE else p.to(dtype) for p in planes])


def quantise(stored: Tensor, dtype: torch.dtype) -> Tensor:
    """[0, 1] -> the nearest value of an integer dtype."""
    steps = FULL_SCALE[dtype]
    return (stored * steps + 0.5).clamp(0, steps).to(dtype)


def curve_of(icc: bytes | None) -> Curve:
    """The transfer curve of an ICC profile, if it is one curve for all channels; else sRGB's. `.name` says which."""
    if not icc:
        return SRGB
    try:
        tags = _icc_tags(icc)
        curves = {tags[name] for name in (b"rTRC", b"gTRC", b"bTRC", b"kTRC") if name in tags}
        if len(curves) != 1:  # a table profile, or channels that differ
            return SRGB
        return _icc_curve(curves.pop(), "the photo's own profile")
    except (struct.error, ValueError, KeyError, IndexError, OverflowError, ZeroDivisionError):
        return SRGB


def _icc_tags(icc: bytes) -> dict[bytes, bytes]:
    """Tag signature -> its data (ICC.1:2022, 7.3: a count, then signature, offset and size of each)."""
    (count,) = struct.unpack_from(">I", icc, 128)
    entries = [struct.unpack_from(">4sII", icc, 132 + 12 * index) for index in range(min(count, 100))]
    return {name: icc[offset : offset + size] for name, offset, size in entries}


def _icc_curve(data: bytes, name: str) -> Curve:
    """curveType or parametricCurveType (ICC.1:2022, 10.6 and 10.18)."""
    kind = data[:4]
    if kind == b"para":
        (function,) = struct.unpack_from(">H", data, 8)
        count = (1, 3, 4, 5, 7)[function]
        values = [value / 65536 for value in struct.unpack_from(f">{count}i", data, 12)]
        g, a, b, c, d, e, f = values + [0.0] * (7 - count)
        if function == 0:
            a = 1.0
        if function in (1, 2):  # zero, or the constant c, below x = -b / a; c is added above too
            c, d, e, f = 0.0, -b / a, c, c
        if g <= 0 or a <= 0:
            raise ValueError("not an increasing curve")
        return _named(Parametric(name, g, a, b, c, d, e, f))
    if kind != b"curv":
        raise ValueError("not a curve")
    (count,) = struct.unpack_from(">I", data, 8)
    if count <= 1:
        return Parametric(name, struct.unpack_from(">H", data, 12)[0] / 256 if count else 1.0)
    samples = torch.tensor(struct.unpack_from(f">{count}H", data, 12), dtype=torch.float64) / 65535
    # Flat stretches would have no inverse: give every step at least a little rise.
    samples = torch.cummax(samples, 0).values + torch.arange(count) * 1e-9
    return _named(Sampled(name, tuple(samples.tolist())))


def _named(curve: Curve) -> Curve:
    """sRGB itself where a profile spells it as a table or with rounded parameters, as most do."""
    probe = torch.linspace(0, 1, 257, dtype=torch.float64)
    return SRGB if (curve.decode(probe) - SRGB.decode(probe)).abs().max() < 5e-4 else curve


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Piecewise linear through (xs, ys), xs increasing; the end segments go on beyond the ends."""
    right = torch.searchsorted(xs, x.detach().contiguous()).clamp(1, len(xs) - 1)
    left = right - 1
    return ys[left] + (x - xs[left]) * ((ys[right] - ys[left]) / (xs[right] - xs[left]))
