"""The written file against PyTorch, in the file's own runtime, at sizes that were not traced."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from argan.errors import VerificationError
from argan.export.targets import Inputs, Target

Runtime = Callable[[Inputs], tuple[Tensor, ...]]
"""An opened file: inputs in their order to outputs in theirs, all on the CPU."""


@dataclass(frozen=True)
class Difference:
    """How far one output is from PyTorch's, in one case."""

    output: str
    case: str
    max_abs: float
    mean_abs: float
    relative: float
    """max|a - b| / max|b|: what the tolerance bounds."""
    relative_l2: float
    """|a - b| / |b|."""


def verify(target: Target, runtimes: Iterable[tuple[str, Runtime]]) -> list[Difference]:
    """Run every case of `target` in every runtime and in PyTorch.

    Raises:
        VerificationError: a wrong number of outputs or shape, a value that is not finite, or a difference above the
            target's tolerance; it names the worst.
    """
    with torch.no_grad():
        expected = {case: as_tuple(target(*inputs)) for case, inputs in target.cases().items()}
    differences = []
    for name, run in runtimes:
        for case, inputs in target.cases().items():
            actual = run(inputs)
            if len(actual) != len(target.outputs):
                raise VerificationError(f"{len(actual)} outputs instead of {len(target.outputs)}")
            for output, a, b in zip(target.outputs, actual, expected[case], strict=True):
                differences.append(compare(output, f"{case}, {name}", a, b))
    worst = max(differences, key=lambda difference: difference.relative)
    if worst.relative > target.tolerance:
        raise VerificationError(
            f"{target.name} differs from PyTorch: {worst.output} by {worst.relative:.2g} at {worst.case}, "
            f"and at most {target.tolerance:g} is accepted"
        )
    return differences


def compare(output: str, case: str, actual: Tensor, expected: Tensor) -> Difference:
    """Measure one output; a wrong shape or a value that is not finite is a VerificationError."""
    if actual.shape != expected.shape:
        raise VerificationError(f"{output} at {case} is {tuple(actual.shape)} instead of {tuple(expected.shape)}")
    if not actual.isfinite().all():
        raise VerificationError(f"{output} at {case} has values that are not finite")
    difference, expected = (actual.double() - expected.double()).abs(), expected.double()
    return Difference(
        output=output,
        case=case,
        max_abs=difference.max().item(),
        mean_abs=difference.mean().item(),
        relative=_ratio(difference.max(), expected.abs().max()),
        relative_l2=_ratio(difference.norm(), expected.norm()),
    )


def _ratio(error: Tensor, scale: Tensor) -> float:
    """error / scale, and the error itself where there is no scale."""
    return (error / scale if scale > 0 else error).item()


def as_tuple(value: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)
