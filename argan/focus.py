"""What people ask of a lens, read and checked: how much blur, and where it is sharp (numpy, no torch)."""

import numpy as np

from argan.errors import UsageError

Focus = str | float | tuple[float, float]
CENTRE_WIDTH = 0.15  # standard deviation of the centre's weight, in fractions of width and height
POINT_SIZE = 0.02  # side of the square whose median is the disparity at a point, in fractions of the long side


def check_blur(blur: float) -> None:
    if not 0 <= blur <= 100:
        raise UsageError(f"blur is a diameter in percent of the long side, from 0 to 100, not {blur}")


def resolve_focus(focus: Focus, disparity: np.ndarray, learned: float | None = None) -> float:
    """The disparity in focus: "auto", a point (x, y) in fractions of width and height, or a disparity itself.

    Args:
        disparity: (H, W) in [0, 1], 1 = nearest.
        learned: the focal plane that a model has learned: "auto" for its own maps. None: the centre-weighted median.
    """
    if isinstance(focus, str):
        if focus != "auto":
            raise UsageError(f"focus {focus!r}", hint='"auto", a point (x, y), or a disparity in [0, 1]')
        return centre_median(disparity) if learned is None else float(learned)
    if isinstance(focus, tuple | list):
        if len(focus) != 2 or not all(0 <= value <= 1 for value in focus):
            raise UsageError(f"a focus point is x, y in fractions of width and height, not {focus}")
        return disparity_at(disparity, *focus)
    if not 0 <= focus <= 1:
        raise UsageError(f"focus is a disparity in [0, 1], not {focus}")
    return float(focus)


def centre_median(disparity: np.ndarray) -> float:
    """Median of disparity (H, W), weighted towards the centre: what photographers focus on (AR-GAN's prior)."""
    step = max(1, min(disparity.shape) // 256)
    disparity = disparity[::step, ::step]
    y, x = (((np.arange(size) + 0.5) / size - 0.5) / CENTRE_WIDTH for size in disparity.shape)
    weight = np.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2)).ravel()
    order = disparity.ravel().argsort(kind="stable")
    total = weight[order].cumsum()
    return float(disparity.ravel()[order[np.searchsorted(total, total[-1] / 2)]])


def disparity_at(disparity: np.ndarray, x: float, y: float) -> float:
    """Median of disparity (H, W) in a small square around a point given in fractions of width and height."""
    height, width = disparity.shape
    reach = int(POINT_SIZE / 2 * max(height, width))
    row, column = min(int(y * height), height - 1), min(int(x * width), width - 1)
    square = disparity[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    return float(np.sort(square, axis=None)[(square.size - 1) // 2])
