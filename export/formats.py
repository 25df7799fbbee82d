"""The formats that targets can be written in, and what goes with what: all of the exporter reads it here."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from argan.errors import UsageError
from argan.export.onnx import count_nodes, write_onnx
from argan.export.precision import PRECISIONS
from argan.export.pt2 import write_pt2
from argan.export.targets import SMALLEST, TARGETS, Size, Target, names_of, targets_of
from argan.export.torchscript import write_torchscript
from argan.models.hub import Model


@dataclass(frozen=True)
class Format:
    """How a format is written; alone.py knows how it is run.

    Attributes:
        suffix: of its files.
        write: target, path -> None.
        count: path -> the number of the graph's nodes, where the format has such a thing.
    """

    suffix: str
    write: Callable[[Target, Path], None]
    count: Callable[[Path], int | None] = lambda path: None


FORMATS = {
    "onnx": Format(".onnx", write_onnx, count_nodes),
    "torchscript": Format(".pt", write_torchscript),
    "pt2": Format(".pt2", write_pt2),
}


ANY, FIXED = "any", "fixed"
"""Sizes of a file: batch, height and width dynamic, or one picture of one size."""

Names = Collection[str]


@dataclass(frozen=True)
class Lack:
    """A combination that is not to be had: where all of its parts meet; None stands for every one."""

    why: str
    targets: Names | None = None
    formats: Names | None = None
    precisions: Names | None = None
    sizes: Names | None = None

    @property
    def parts(self) -> tuple[Names | None, ...]:
        return self.targets, self.formats, self.precisions, self.sizes

    @property
    def what(self) -> str:
        """The parts that meet, such as "render, int8"."""
        return ", ".join(" or ".join(part) for part in self.parts if part is not None)

    def holds(self, *asked: str) -> bool:
        """Whether a target, format, precision and size meet in it."""
        return all(part is None or one in part for part, one in zip(self.parts, asked, strict=True))


LACKS = (
    Lack(
        "int8 is ONNX Runtime's: PyTorch's files keep floating point",
        formats=("torchscript", "pt2"),
        precisions=["int8"],
    ),
    Lack("it has no learned weights, and discs in 8 bits would show", targets=["render"], precisions=["int8"]),
    Lack(
        "its weights are computed in the graph: a file in 8 bits is no smaller",
        targets=["generator"],
        precisions=["int8"],
    ),
    Lack("its size is the model's own", targets=["generator"], sizes=[FIXED]),
    Lack("a TorchScript file takes every size", formats=["torchscript"], sizes=[FIXED]),
)


def why_not(target: str, format: str, precision: str, size: str) -> str | None:
    """Why there is no such file, `size` being ANY or FIXED; None where there is one."""
    return next((lack.why for lack in LACKS if lack.holds(target, format, precision, size)), None)


def combinations() -> Iterator[dict[str, str | None]]:
    """Every target, format, precision and size, and why there is no such file, or None."""
    for row in product(TARGETS, FORMATS, PRECISIONS, (ANY, FIXED)):
        yield {**dict(zip(("target", "format", "precision", "size"), row, strict=True)), "why_not": why_not(*row)}


def plan(
    model: Model, format: str, wanted: str = "all", precision: str = "fp32", size: Size | None = None
) -> tuple[list[Target], dict[str, str]]:
    """The targets to write, and those of "all" that do not come in this form, with the reason.

    Raises:
        UsageError: the target that was named, or every one, does not come in this form; or what `targets_of` refuses.
    """
    if size is not None and min(size) < SMALLEST:
        raise UsageError(f"a size of {size[0]}x{size[1]}", hint=f"{SMALLEST} px or more each way")
    names = names_of(model) if wanted == "all" else [wanted]
    left_out = {}
    for name in names:
        if (why := why_not(name, format, precision, ANY if size is None else FIXED)) is not None:
            left_out[name] = why
    if len(left_out) == len(names):
        name, why = next(iter(left_out.items()))
        form = " ".join([format, precision, *([] if size is None else ["of one size"])])
        raise UsageError(f"there is no {name} as {form}: {why}", hint="argan export --list says what goes with what")
    written = [one for name in names if name not in left_out for one in targets_of(model, name, precision, size)]
    return written, left_out
