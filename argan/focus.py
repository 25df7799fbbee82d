"""What people ask of a lens, read and checked: how much blur, and what is sharp (numpy, no torch)."""

from numbers import Real

import numpy as np

from argan.errors import UsageError

Focus = str | float | tuple[float, float]
Range = float | tuple[float, float]  # of disparity: a width about the focus, or from where to where
Band = tuple[float, float]  # everything from the one disparity to the other is in focus

BLUR = 2.0  # percent of the long side, where nothing is asked for
CENTRE_WIDTH = 0.15  # standard deviation of the centre's weight, in fractions of width and height
SUBJECT_WIDTH = 0.25  # the same when a subject is looked for: it may stand at a third of the picture
SHARP_BAND = 0.1  # of disparity, that is looked at as sharp together
POINT_SIZE = 0.02  # side of the square whose median is the disparity at a point, in fractions of the long side
NO_MAP = np.zeros((1, 1), np.float32)  # where the plane in focus is known without one


def blur_radius(blur: float, long_side: float) -> float:
    """In pixels, at disparity difference 1: `blur` is a diameter in percent of the photo's long side, in pixels."""
    return blur / 200 * long_side


def check_number(name: str, value: object, wanted: str = "a number") -> None:
    """TypeError, which names the argument and what is `wanted`, for no number of Python's, numpy's or torch's."""
    if not isinstance(value, Real) and getattr(value, "ndim", None) != 0:
        raise TypeError(f"{name} is {wanted}, not {type(value).__name__}")


def check_blur(blur: float) -> None:
    check_number("blur", blur)
    if not 0 <= blur <= 100:
        raise UsageError(f"blur is a diameter in percent of the long side, from 0 to 100, not {blur}")


def resolve_focus(focus: Focus, disparity: np.ndarray, learned: float | None = None) -> float:
    """The disparity in focus: "auto", "subject", a point (x, y) in fractions of the size, or a disparity itself.

    "face" takes the photo too: `argan.faces.at_face` makes it one of these.

    Args:
        disparity: (H, W) in [0, 1], 1 = nearest.
        learned: the focal plane that a model has learned: "auto" for its own maps. None: the centre-weighted median.
    """
    if isinstance(focus, str):
        if focus == "subject":
            return subject(disparity)
        if focus != "auto":
            raise UsageError(
                f"focus {focus!r}", hint='"auto", "subject", "face", a point (x, y), or a disparity in [0, 1]'
            )
        return centre_median(disparity) if learned is None else float(learned)
    if isinstance(focus, tuple | list):
        for value in focus:
            check_number("each coordinate of focus", value)
        if len(focus) != 2 or not all(0 <= value <= 1 for value in focus):
            raise UsageError(f"a focus point is x, y in fractions of width and height, not {focus}")
        return disparity_at(disparity, *focus)
    check_number("focus", focus, 'a word such as "auto", a point (x, y), or a number')
    if not 0 <= focus <= 1:
        raise UsageError(f"focus is a disparity in [0, 1], not {focus}")
    return float(focus)


def resolve_range(focus_range: Range | str, focus: Focus, learned: float | None = None) -> Range:
    """A range "auto" as the width, in disparity, of what the model has learned to see sharp; others as they are.

    Maps that are given are taken at their word, and so is a disparity that is asked for: 0.

    Args:
        focus: what is to be sharp, as in `resolve_focus`.
        learned: `focus_range` of the model; None for a given map.
    """
    if not isinstance(focus_range, str):
        return focus_range
    if focus_range != "auto":
        raise UsageError(f"focus range {focus_range!r}", hint='"auto", a width in disparity, or two disparities')
    return learned if learned is not None and isinstance(focus, str | tuple | list) else 0.0


def focus_band(plane: float, around: Range) -> Band:
    """From where to where it is sharp: `around` as a width about `plane`, or as a band that takes its place."""
    if isinstance(around, tuple | list):
        if len(around) != 2 or not 0 <= around[0] <= around[1] <= 1:
            raise UsageError(f"a focus range is two disparities from 0 to 1, the lower one first, not {around}")
        return float(around[0]), float(around[1])
    check_number("focus_range", around)
    if not 0 <= around <= 1:
        raise UsageError(f"a focus range is a width in disparity from 0 to 1, not {around}")
    return plane - around / 2, plane + around / 2


def centre_median(disparity: np.ndarray) -> float:
    """Median of disparity (H, W), weighted towards the centre: what photographers focus on (AR-GAN's prior)."""
    return _median(*_weighted(disparity, CENTRE_WIDTH))


def subject(disparity: np.ndarray) -> float:
    """The plane that keeps most of the nearest thing about the centre sharp.

    Disparity is split in two where that separates its values best (Otsu, "A threshold selection method from gray-level
    histograms", 1979), each pixel weighted by how near the centre it is. The plane is the middle of the band of
    SHARP_BAND that holds most of the nearer part: its median would be drawn to what stands behind it.
    """
    values, weight = _weighted(disparity, SUBJECT_WIDTH)
    share, moment = weight.cumsum(), (weight * values).cumsum()
    apart = (moment[-1] * share - moment * share[-1]) ** 2 / np.maximum(share * (share[-1] - share), 1e-12)
    cut = int(apart.argmax()) + 1 if values[0] < values[-1] else 0
    values, below = values[cut:], np.append(0, weight[cut:].cumsum())
    first = np.searchsorted(values, values - SHARP_BAND / 2)
    end = np.searchsorted(values, values + SHARP_BAND / 2, side="right")
    return float(values[(below[end] - below[first]).argmax()])


def disparity_at(disparity: np.ndarray, x: float, y: float) -> float:
    """Median of disparity (H, W) in a small square around a point given in fractions of width and height."""
    height, width = disparity.shape
    reach = int(POINT_SIZE / 2 * max(height, width))
    row, column = min(int(y * height), height - 1), min(int(x * width), width - 1)
    square = disparity[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    return float(np.sort(square, axis=None)[(square.size - 1) // 2])


def _weighted(disparity: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Values of disparity in rising order, and the centre's weight of each, `width` wide: (n,) float64."""
    step = max(1, min(disparity.shape) // 256)
    disparity = disparity[::step, ::step]
    y, x = (((np.arange(size) + 0.5) / size - 0.5) / width for size in disparity.shape)
    weight = np.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2)).ravel()
    order = disparity.ravel().argsort(kind="stable")
    return disparity.ravel()[order].astype(np.float64), weight[order]


def _median(values: np.ndarray, weight: np.ndarray) -> float:
    total = weight.cumsum()
    return float(values[np.searchsorted(total, total[-1] / 2)])
