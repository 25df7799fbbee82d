"""Where a photo is in focus: disparities found in a disparity map (numpy, no torch)."""

import numpy as np

CENTRE_WIDTH = 0.15  # standard deviation of the centre's weight, in fractions of width and height
POINT_SIZE = 0.02  # side of the square whose median is the disparity at a point, in fractions of the long side


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
