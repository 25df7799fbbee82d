"""Export a target: write it under a temporary name, verify it there, and only then give it its name."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from argan.errors import VerificationError
from argan.export.compare import Difference
from argan.export.formats import FORMATS
from argan.export.metadata import size_text
from argan.export.targets import Target
from argan.export.verify import verify
from argan.files import atomic_file

EXPORT_LEVELS = ("as written", "all")
"""Of ONNX Runtime's optimisation: each takes seconds, and `argan verify` runs all of them."""


@dataclass(frozen=True)
class Exported:
    """A file that was written and verified.

    Attributes:
        size: "any", or the one that the file takes.
        nodes: of an ONNX graph.
        differences: from PyTorch in float32, one for each output, case and way of running the file.
    """

    target: str
    format: str
    precision: str
    size: str
    path: Path
    bytes: int
    nodes: int | None
    sha256: str
    differences: list[Difference]

    @property
    def relative(self) -> float:
        """The largest relative difference from PyTorch."""
        return max(difference.relative for difference in self.differences)

    @property
    def max_abs(self) -> float:
        return max(difference.max_abs for difference in self.differences)

    @property
    def losses(self) -> list[dict[str, str | float]]:
        """How far each output is from PyTorch in float32: the worst of all cases."""
        rows: list[dict[str, str | float]] = []
        for output in dict.fromkeys(one.output for one in self.differences):
            found = [one for one in self.differences if one.output == output]
            worst = {"max error": "max_abs", "mean error": "mean_abs", "relative": "relative"}
            row = {name: max(getattr(one, measure) for one in found) for name, measure in worst.items()}
            rows.append({"target": self.target, "output": output, **row, "dB": min(one.psnr for one in found)})
        return rows

    @property
    def next_command(self) -> str:
        """What to run next, to see what the file takes and gives."""
        return f"argan info {self.path}"


def export_target(target: Target, format: str, folder: Path, device: torch.device | str = "cpu") -> Exported:
    """Write `folder`/<target>.<suffix> and verify it on `device`, creating the folder where it is missing.

    Raises:
        VerificationError: the file does not compute what PyTorch does. No file is left under its name, not even an
            earlier one, which could be taken for this one.
        MissingError: the format's runtime cannot use `device`.
    """
    written = FORMATS[format]
    path = folder / f"{target.name}{written.suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_file(path) as temporary:
            written.write(target, temporary)
            report = verify(target, temporary, format, device, levels=EXPORT_LEVELS)
    except VerificationError:
        path.unlink(missing_ok=True)
        raise
    data = path.read_bytes()
    return Exported(
        target=target.name,
        format=format,
        precision=target.precision,
        size=size_text(target.size),
        path=path,
        bytes=len(data),
        nodes=written.count(path),
        sha256=hashlib.sha256(data).hexdigest(),
        differences=report.differences,
    )
