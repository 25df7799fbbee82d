"""How far a file's outputs are from PyTorch's, and whether that is accepted."""

import math
from dataclasses import dataclass

from torch import Tensor

from argan.errors import VerificationError
from argan.export.precision import PRECISIONS
from argan.export.targets import EXACT, Target


@dataclass(frozen=True)
class Difference:
    """How far one output is from PyTorch's, in one case."""

    output: str
    case: str
    max_abs: float
    mean_abs: float
    relative: float
    """max|a - b| / max|b|."""
    relative_mean: float
    """mean|a - b| / max|b|."""
    relative_l2: float
    """|a - b| / |b|."""
    psnr: float
    """dB, of values in [0, 1] rounded to 8 bits; infinite where they are equal."""


def check(target: Target, differences: list[Difference]) -> None:
    """VerificationError, naming the worst, if one is above what its precision accepts or an identity does not hold."""
    accepted = PRECISIONS[target.precision]
    for measure, limit, what in (("relative", accepted.largest, ""), ("relative_mean", accepted.mean, " on average")):
        found, worst = max(((getattr(one, measure), one) for one in differences), key=_badness)
        if not found <= limit:
            raise VerificationError(
                f"{target.name} differs from PyTorch: {worst.output} by {found:.2g}{what} at {worst.case}, "
                f"and at most {limit:g} is accepted in {target.precision}"
            )
    for difference in differences:
        if difference.output == target.exact_output and EXACT in difference.case and difference.max_abs > 0:
            raise VerificationError(f"{target.name} changes pixels at {difference.case}, by {difference.max_abs:.2g}")


def compare_outputs(
    target: Target, case: str, actual: tuple[Tensor, ...], expected: tuple[Tensor, ...]
) -> list[Difference]:
    """Measure all outputs of a target; a wrong number of them is a VerificationError, as is what `compare` refuses."""
    if len(actual) != len(target.outputs):
        raise VerificationError(f"{len(actual)} outputs instead of {len(target.outputs)}")
    return [compare(output, case, a, b) for output, a, b in zip(target.outputs, actual, expected, strict=True)]


def compare(output: str, case: str, actual: Tensor, expected: Tensor) -> Difference:
    """Measure one output; a wrong shape or a value that is not finite is a VerificationError."""
    if actual.shape != expected.shape:
        raise VerificationError(f"{output} at {case} is {tuple(actual.shape)} instead of {tuple(expected.shape)}")
    if not actual.isfinite().all():
        raise VerificationError(f"{output} at {case} has values that are not finite")
    if not expected.isfinite().all():
        raise VerificationError(f"{output} at {case} has values in PyTorch that are not finite")
    difference, expected = (actual.double() - expected.double()).abs(), expected.double()
    return Difference(
        output=output,
        case=case,
        max_abs=difference.max().item(),
        mean_abs=difference.mean().item(),
        relative=_ratio(difference.max(), expected.abs().max()),
        relative_mean=_ratio(difference.mean(), expected.abs().max()),
        relative_l2=_ratio(difference.norm(), expected.norm()),
        psnr=_psnr(*((255 * x.double().clamp(0, 1)).round() / 255 for x in (actual, expected))),
    )


def _badness(found: tuple[float, Difference]) -> tuple[bool, float]:
    """What is no number is worse than any."""
    return math.isnan(found[0]), found[0]


def _psnr(a: Tensor, b: Tensor) -> float:
    error = (a - b).square().mean().item()
    return -10 * math.log10(error) if error > 0 else math.inf


def _ratio(error: Tensor, scale: Tensor) -> float:
    """error / scale, and the error itself where there is no scale."""
    return (error / scale if scale > 0 else error).item()
