"""Transfer curves between what a file stores and light: sRGB's and those of a photo's own ICC profile.

A lens mixes light, so a photo is decoded to linear light, blurred, and encoded again. Only the curve matters for that:
mixing is the same in every set of primaries, so pixels never leave the colour space that the photo is in.
The formulas serve numpy arrays and torch tensors alike; torch is not imported here.
"""

import struct
import sys
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Values = Any  # a numpy array or a torch tensor of floats: what comes in goes out


class Curve(Protocol):
    """`decode`: stored value in [0, 1] -> linear light; `encode`: its inverse. Elementwise, floats, differentiable."""

    @property
    def name(self) -> str: ...

    def decode(self, stored: Values) -> Values: ...

    def encode(self, linear: Values) -> Values: ...

    def __hash__(self) -> int: ...


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

    def decode(self, stored: Values) -> Values:
        xp = _library(stored)
        base = xp.clip(self.a * xp.clip(stored, self.d, None) + self.b, 0, None)
        power = base**self.g + self.e
        return xp.where(stored >= self.d, power, self.c * stored + self.f) if self.d > 0 else power

    def encode(self, linear: Values) -> Values:
        xp = _library(linear)
        split = max(self.a * self.d + self.b, 0.0) ** self.g + self.e  # types 1 and 2: d = -b / a, rounded
        # The floor keeps the gradient of x^(1/g) finite at black; values there are below 1e-6 of full scale.
        power = (xp.clip(xp.clip(linear, split, None) - self.e, 1e-15, None) ** (1 / self.g) - self.b) / self.a
        if self.c == 0:
            return xp.where(linear > split, power, self.d)
        return xp.where(linear >= split, power, (linear - self.f) / self.c)


@dataclass(frozen=True)
class Sampled:
    """A curve given by evenly spaced samples, strictly increasing; straight lines between them."""

    name: str
    samples: tuple[float, ...]

    def decode(self, stored: Values) -> Values:
        grid, samples = self._table(stored)
        return _interpolate(stored, grid, samples)

    def encode(self, linear: Values) -> Values:
        grid, samples = self._table(linear)
        return _interpolate(linear, samples, grid)

    def _table(self, like: Values) -> tuple[Values, Values]:
        if isinstance(like, np.ndarray):
            return np.linspace(0, 1, len(self.samples), dtype=like.dtype), np.array(self.samples, like.dtype)
        torch = _library(like)
        samples = torch.tensor(self.samples, dtype=like.dtype, device=like.device)
        return torch.linspace(0, 1, len(self.samples), dtype=like.dtype, device=like.device), samples


# IEC 61966-2-1. The lower branch of `encode` begins where that of `decode` ends, so that each inverts the other.
SRGB = Parametric("sRGB", g=2.4, a=1 / 1.055, b=0.055 / 1.055, c=1 / 12.92, d=0.04045)
STRAIGHT = Parametric("linear", g=1.0)  # for values that are no light, such as alpha


def curve_of(icc: bytes | None) -> Curve:
    """The transfer curve of an ICC profile, if it is one for all channels and has an inverse; else sRGB's.

    `.name` says which.
    """
    if not icc:
        return SRGB
    try:
        tags = _icc_tags(icc)
        curves = {tags[name] for name in (b"rTRC", b"gTRC", b"bTRC", b"kTRC") if name in tags}
        if len(curves) != 1:  # a table profile, or channels that differ
            return SRGB
        curve = _icc_curve(curves.pop(), "the photo's own profile")
        return curve if _gives_back(curve) else SRGB
    except (struct.error, ValueError, KeyError, IndexError, OverflowError, ZeroDivisionError):
        return SRGB


def _gives_back(curve: Curve) -> bool:
    """Whether every 8-bit value is light from black to white, and comes back from it in single precision."""
    stored = np.linspace(0, 1, 256)
    with np.errstate(all="ignore"):
        linear = curve.decode(stored)
        back = curve.encode(linear.astype(np.float32))
    return bool(linear.min() > -1e-3 and linear.max() < 1.001 and np.abs(back - stored).max() < 0.5 / 255)


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
    samples = np.array(struct.unpack_from(f">{count}H", data, 12)) / 65535
    # Flat stretches would have no inverse: give every step at least a little rise.
    samples = np.maximum.accumulate(samples) + np.arange(count) * 1e-9
    return _named(Sampled(name, tuple(samples.tolist())))


def _named(curve: Curve) -> Curve:
    """sRGB itself where a profile spells it as a table or with rounded parameters, as most do."""
    probe = np.linspace(0, 1, 257)
    return SRGB if np.abs(curve.decode(probe) - SRGB.decode(probe)).max() < 5e-4 else curve


def _interpolate(x: Values, xs: Values, ys: Values) -> Values:
    """Piecewise linear through (xs, ys), xs increasing; the end segments go on beyond the ends."""
    xp = _library(x)
    right = xp.clip(xp.searchsorted(xs, x if xp is np else x.detach().contiguous()), 1, len(xs) - 1)
    left = right - 1
    return ys[left] + (x - xs[left]) * ((ys[right] - ys[left]) / (xs[right] - xs[left]))


def _library(values: Values) -> Any:
    """numpy, or the torch that made the tensor: both know clip, where and searchsorted."""
    return np if isinstance(values, np.ndarray) else sys.modules["torch"]
