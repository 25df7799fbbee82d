"""The photo's own noise, given back where blur has smoothed it away: without it blurred parts look like plastic.

A lens blurs light before the sensor adds its noise; a renderer blurs both. So noise is measured where the photo is
even, by channel and brightness, and as much of it is added as the blur has taken away. 8-bit values are dithered too:
a smooth gradient becomes the right mean of two levels instead of bands.

The same photo gets the same noise (one fixed tile of random numbers, repeated). Where a point's own blur is under a
pixel nothing happens: sharp pixels stay as they are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from argan.light import FULL_SCALE, Finisher

BLOCK = 8  # noise is measured in squares of this side
BLOCKS = 12_000  # at most this many of them
QUIET = 0.1  # the quietest tenth of the blocks of a brightness are taken to be even
QUIET_BIAS = 0.72  # their median variance over the true one: the 5 % quantile of chi^2 / 61, 61 degrees of freedom
LEVELS = 16  # brightness classes that noise is measured in
FINE = 256  # and to which it is interpolated
FEWEST = 50  # blocks in a class that count as evidence
ENDS = 0.012  # blocks that come so near black or white have lost noise to clipping
TEXTURE = 0.3, 0.7  # 5 % over 15 % quantile of variances: 0.9 for noise, 0.1 to 0.5 where nothing is even. A ramp
MOST = 0.012, 1.5  # of full scale; and times the lower quartile over all levels: more is taken for texture
LEAST = 1e-5  # what is less is rounding
TILE = 512


@dataclass(frozen=True)
class Grain:
    """Noise of a photo: standard deviation by channel and level, in fractions of full scale, and how it is correlated.

    sigma   (C, LEVELS + 1), at the levels 0, 1 / LEVELS, ..., 1; 0 at both ends
    mixing  (C, C): independent noise -> the channels' noise, of variance 1
    lag     correlation of neighbouring pixels
    """

    sigma: Tensor
    mixing: Tensor
    lag: float


def measure_grain(pixels: Tensor) -> Grain:
    """The noise of pixels (C, H, W), uint8, uint16 or floats in [0, 1], without alpha."""
    blocks = _blocks(pixels)
    channels = len(pixels)
    mean, residual = _detrended(blocks)
    variance = residual.square().sum(-1) / (BLOCK * BLOCK - 3)
    usable = (blocks.amin(-1) > ENDS) & (blocks.amax(-1) < 1 - ENDS)
    sigma = torch.stack([_levels(mean[c][usable[c]], variance[c][usable[c]]) for c in range(channels)])
    mixing, lag = torch.eye(channels, device="cpu"), 0.0
    everywhere = usable.all(0)
    if bool((sigma > 0).any()) and int(everywhere.sum()) >= FEWEST:
        noise = residual[:, everywhere]
        total = variance[:, everywhere].sum(0)
        quiet = noise[:, total.argsort()[: max(1, int(QUIET * len(total)))]]
        mixing, lag = _correlation(quiet)
    return Grain(sigma, mixing, lag)


def no_grain(channels: int) -> Grain:
    return Grain(torch.zeros(channels, LEVELS + 1, device="cpu"), torch.eye(channels, device="cpu"), 0.0)


class Finish:
    """What is added to stored values before they are rounded to `dtype`. On their device: a GPU is given it once.

    grain   times `strength`, as far as a disc of a pixel's blur radius averages noise away: its variance falls to
            1 / (pi radius^2)
    dither  for 8 bits, evenly distributed over one level
    """

    def __init__(self, grain: Grain, strength: float, dtype: torch.dtype, device: torch.device | str = "cpu"):
        levels = torch.linspace(0, LEVELS, FINE + 1, device="cpu")
        low = levels.int().clamp(max=LEVELS - 1)
        between = grain.sigma[:, low] + (levels - low) * grain.sigma.diff()[:, low]
        self.sigma = (between * strength).to(device)  # (C, FINE + 1)
        self.noise = _noise(grain).to(device)
        self.dither = (_dither() / FULL_SCALE[dtype]).to(device) if dtype == torch.uint8 else None

    def at(self, coc: Tensor, top: int = 0, left: int = 0) -> Finisher:
        """For the part of a picture with signed blur radii `coc` (h, w) in pixels, which begins at `top` and `left`:
        a channel's stored values (h, w) in [0, 1], and its number -> the values to round."""
        lost = (1 - 1 / (math.pi * coc.detach().square()).clamp_(min=1)).sqrt_()
        blurred = (lost > 0).to(lost)

        def finish(stored: Tensor, channel: int) -> Tensor:
            level = (stored.detach() * FINE).clamp_(0, FINE).int()
            added = self.sigma[channel].to(lost).index_select(0, level.flatten()).view_as(lost).mul_(lost)
            added *= _repeated(self.noise[channel].to(lost), stored.shape, top, left)
            if self.dither is not None:
                added.addcmul_(blurred, _repeated(self.dither[channel].to(lost), stored.shape, top, left))
            return added.add_(stored)

        return finish


def _repeated(tile: Tensor, size: Sequence[int], top: int, left: int) -> Tensor:
    """The part of this size, beginning at `top` and `left`, of a plane of equal tiles."""
    rows, columns = (
        torch.arange(start, start + length, device=tile.device) % TILE
        for length, start in zip(size, (top, left), strict=True)
    )
    return tile.index_select(1, columns).index_select(0, rows)  # whole rows last: they are copied at once


def _blocks(pixels: Tensor) -> Tensor:
    """Squares of pixels (C, n, BLOCK^2), evenly from all over the picture, in fractions of full scale."""
    channels, rows, columns = len(pixels), pixels.shape[1] // BLOCK, pixels.shape[2] // BLOCK
    step = max(1, math.ceil(math.sqrt(rows * columns / BLOCKS)))
    cells = pixels[:, : rows * BLOCK, : columns * BLOCK].reshape(channels, rows, BLOCK, columns, BLOCK)
    cells = cells[:, ::step, :, ::step].permute(0, 1, 3, 2, 4).reshape(channels, -1, BLOCK * BLOCK).float()
    return cells / FULL_SCALE.get(pixels.dtype, 1)


def _detrended(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of every block, and what is left of it without its least-squares plane."""
    at = torch.arange(BLOCK, dtype=blocks.dtype, device=blocks.device) - (BLOCK - 1) / 2
    y, x = at.repeat_interleave(BLOCK), at.repeat(BLOCK)
    mean = blocks.mean(-1, keepdim=True)
    residual = blocks - mean
    for axis in (y, x):
        residual = residual - (residual @ axis)[..., None] * axis / axis.square().sum()
    return mean[..., 0], residual


def _levels(mean: Tensor, variance: Tensor) -> Tensor:
    """Standard deviation at the levels 0, 1 / LEVELS, ..., 1 from blocks of a channel (n,)."""
    sigma, known = torch.zeros(LEVELS, device="cpu"), []
    for level in range(LEVELS):
        inside = variance[(mean * LEVELS).long() == level]
        if len(inside) >= FEWEST:
            known.append(level)
            least, more = inside.quantile(QUIET / 2), inside.quantile(1.5 * QUIET)
            trust = ((least / more - TEXTURE[0]) / (TEXTURE[1] - TEXTURE[0])).clamp(0, 1)
            sigma[level] = trust * (least / QUIET_BIAS).sqrt() if least > LEAST**2 else 0
    at_levels = torch.zeros(LEVELS + 1, device="cpu")
    if known:
        most = min(MOST[0], MOST[1] * float(sigma[known].quantile(0.25)))
        at, values = torch.tensor(known, device="cpu") + 0.5, sigma[known].clamp(max=most)
        for level in range(1, LEVELS):
            right = int(torch.searchsorted(at, float(level)))
            low, high = max(right - 1, 0), min(right, len(at) - 1)
            t = (level - at[low]) / (at[high] - at[low]) if high > low else 0.0
            at_levels[level] = values[low] + t * (values[high] - values[low])
    return at_levels


def _correlation(residual: Tensor) -> tuple[Tensor, float]:
    """Mixing matrix and correlation of neighbours, of even blocks' residuals (C, n, BLOCK^2)."""
    channels = len(residual)
    size = residual.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-9)
    unit = residual / size
    together = torch.einsum("inp,jnp->ij", unit, unit) / unit[0].numel()
    together = 0.95 * together + 0.05 * torch.eye(channels, device="cpu").to(together)  # positive definite
    cells = unit.unflatten(-1, (BLOCK, BLOCK))
    lag = (cells[..., 1:] * cells[..., :-1]).mean() + (cells[..., 1:, :] * cells[..., :-1, :]).mean()
    return torch.linalg.cholesky(together).cpu(), float(lag / 2)


def _noise(grain: Grain) -> Tensor:
    """Noise of variance 1 with the grain's correlations: (C, TILE, TILE), seamless when it is repeated."""
    random = _random()[: len(grain.mixing)]
    noise = torch.einsum("ij,jyx->iyx", grain.mixing.to(random), random)
    lag = min(max(grain.lag, 0.0), 0.65)
    side = (1 - math.sqrt(1 - 2 * lag * lag)) / (2 * lag) if lag > 0.01 else 0.0  # neighbours' weight: [side, 1, side]
    for axis in (-2, -1):
        noise = noise + side * (noise.roll(1, axis) + noise.roll(-1, axis))
    return noise / (1 + 2 * side * side)


@lru_cache(maxsize=1)
def _random() -> Tensor:
    return _drawn(torch.randn, seed=1)


@lru_cache(maxsize=1)
def _dither() -> Tensor:
    """Evenly distributed in (-1/2, 1/2), less what rounding puts beside a level: even colours stay as they are."""
    return (_drawn(torch.rand, seed=2) - 0.5) * (1 - 8e-3)


def _drawn(draw: Callable[..., Tensor], seed: int) -> Tensor:
    """The same every time, whatever the default device and type of tensors."""
    random = torch.Generator("cpu").manual_seed(seed)
    return draw(3, TILE, TILE, generator=random, dtype=torch.float32, device="cpu")
