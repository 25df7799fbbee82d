"""Where photographs are sharp: what a lens has blurred lies off the plane that it was focused on, mostly behind it."""

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from argan.data.datasets import open_source
from argan.data.folder import load_square, opened, square_around, usable_cores
from argan.data.sources import Box

FINE = 8  # a map's pixel is found from FINE x FINE pixels of the photograph
LEAST = 6  # photographs of fewer than LEAST x LEAST pixels for each are too small to show their blur
SCALES = 1.0, 2.5  # pixels: detail finer than the first, and from there to the second
DETAIL = 0.01  # mean size of detail, in [0, 1], from which on what it says counts by half
FLAT = 0.002  # added to it, so that what has none is neither sharp nor blurred


def focus_maps(data: str, names: Iterable[str], resolution: int) -> Iterator[Tensor]:
    """How much sharper than elsewhere in it each place of a photograph is: (1, 1, S, S) float16 for each.

    Of the photographs called `names` in a folder, archive or data set, cropped as a `PhotoFolder` of S = `resolution`
    crops them. Positive where sharp, in standard deviations over the photograph; 0 where nothing is to be seen, and
    everywhere in squares of fewer than LEAST x S pixels a side.
    """
    with open_source(data, resolution) as source, ThreadPoolExecutor(min(8, usable_cores())) as pool:
        yield from pool.map(lambda name: focus_map(source.read(name), resolution, source.subject(name)), names)


def focus_map(file: bytes, resolution: int, subject: Box | None = None) -> Tensor:
    """That of one photograph, or of the square around its subject's box, (1, 1, S, S).

    The finest detail over somewhat coarser detail: blur takes the finest first, whatever is shown. (Edge widths are
    found in the same way: Zhuo and Sim, "Defocus map estimation from a single image", 2011.)
    """
    with opened(io.BytesIO(file)) as image:
        left, _, right, _ = square_around(subject or (0, 0, *image.size), image.size)
    if right - left < LEAST * resolution:
        return torch.zeros(1, 1, resolution, resolution, dtype=torch.float16)
    square = load_square(io.BytesIO(file), FINE * resolution, subject)
    grey = torch.from_numpy(square.mean(-1, dtype=np.float32) / 255)[None, None]
    smooth, smoother = (blurred(grey, sigma) for sigma in SCALES)
    fine, coarse = (around(F.avg_pool2d(x.abs(), FINE)) for x in (grey - smooth, smooth - smoother))
    sharpness = fine / (coarse + FLAT)
    spread = (sharpness - sharpness.mean()) / sharpness.std().clamp(min=1e-6)
    return (spread * coarse / (coarse + DETAIL)).half()


def blurred(x: Tensor, sigma: float) -> Tensor:
    """(1, 1, H, W) by a Gaussian."""
    reach = int(3 * sigma + 0.5)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).square())
    weights = weights / weights.sum()
    x = F.pad(x, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(x, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))


def around(x: Tensor) -> Tensor:
    """The mean of the 3 x 3 pixels around each."""
    return F.avg_pool2d(F.pad(x, (1,) * 4, mode="replicate"), 3, 1)
