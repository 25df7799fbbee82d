"""What is in focus: a disparity found from a point, the subject or the centre, and the band about it."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from argan.errors import UsageError

if TYPE_CHECKING:
    from argan.models.hub import Model

Focus = str | float | tuple[float, float]
Range = float | tuple[float, float]  # of disparity: a width about the focus, or from where to where
Band = tuple[float, float]  # everything from the one disparity to the other is in focus

CENTRE_WIDTH = 0.15  # standard deviation of the centre's weight, in fractions of width and height
POINT_SIZE = 0.02  # side of the square whose median is the disparity at a point, in fractions of the long side


def resolve_focus(focus: Focus, disparity: Tensor, model: "Model | None" = None) -> float:
    """The disparity in focus. `disparity` (1, 1, H, W); `model` is what estimated it, None for a given depth map."""
    if isinstance(focus, str):
        if focus == "subject":
            return subject(disparity)
        if focus != "auto":
            raise UsageError(f"focus {focus!r}", hint='"auto", "subject", a point (x, y), or a disparity in [0, 1]')
        return float(model.depth.focus) if model is not None and model.depth is not None else centre_median(disparity)
    if isinstance(focus, tuple | list):
        if len(focus) != 2 or not all(0 <= value <= 1 for value in focus):
            raise UsageError(f"a focus point is x, y in fractions of width and height, not {focus}")
        return disparity_at(disparity, *focus)
    if not 0 <= focus <= 1:
        raise UsageError(f"focus is a disparity in [0, 1], not {focus}")
    return float(focus)


def focus_band(plane: float, around: Range) -> Band:
    """From where to where it is sharp: `around` as a width about `plane`, or as a band that takes its place."""
    if isinstance(around, tuple | list):
        if len(around) != 2 or not 0 <= around[0] <= around[1] <= 1:
            raise UsageError(f"a focus range is two disparities from 0 to 1, the lower one first, not {around}")
        return float(around[0]), float(around[1])
    if not 0 <= around <= 1:
        raise UsageError(f"a focus range is a width in disparity from 0 to 1, not {around}")
    return plane - around / 2, plane + around / 2


def centre_median(disparity: Tensor) -> float:
    """Median of disparity (1, 1, H, W), weighted towards the centre: what photographers focus on (AR-GAN's prior)."""
    return _median(*_weighted(disparity))


def subject(disparity: Tensor) -> float:
    """The disparity of the nearest thing about the centre.

    Disparity is split in two where that separates its values best (Otsu, "A threshold selection method from gray-level
    histograms", 1979), each pixel weighted by how near the centre it is; this is the median of the nearer part.
    """
    values, weight = _weighted(disparity)
    share, moment = weight.cumsum(0), (weight * values).cumsum(0)
    between = (moment[-1] * share - moment * share[-1]).square() / (share * (share[-1] - share)).clamp(min=1e-12)
    cut = int(between.argmax()) + 1 if len(values) > 1 and values[0] < values[-1] else 0
    return _median(values[cut:], weight[cut:])


def disparity_at(disparity: Tensor, x: float, y: float) -> float:
    """Median of disparity (1, 1, H, W) in a small square around a point given in fractions of width and height."""
    height, width = disparity.shape[2:]
    reach = int(POINT_SIZE / 2 * max(height, width))
    row, column = min(int(y * height), height - 1), min(int(x * width), width - 1)
    square = disparity[0, 0, max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    return float(square.median())


def _weighted(disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Values of disparity in rising order, and the centre's weight of each: (n,) float64."""
    step = max(1, min(disparity.shape[2:]) // 256)
    disparity = disparity[0, 0, ::step, ::step].detach().cpu()
    y, x = (((torch.arange(size) + 0.5) / size - 0.5) / CENTRE_WIDTH for size in disparity.shape)
    weight = torch.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2)).flatten()
    values, order = disparity.flatten().sort()
    return values.double(), weight[order].double()


def _median(values: Tensor, weight: Tensor) -> float:
    total = weight.cumsum(0)
    return float(values[int(torch.searchsorted(total, total[-1] / 2))])
