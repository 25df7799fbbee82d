"""argan info."""

from pathlib import Path
from typing import Annotated

import typer

from argan.cli import _output


def info(
    file: Annotated[Path, typer.Argument(help="An exported file: .onnx, .pt or .pt2.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """What an exported file says of itself: tensors, conventions, licence, training data, version and checksums.

    Examples:

        argan info argan-export/pipeline.onnx

        argan info deploy/depth.pt --json
    """
    from argan.export.reading import describe

    facts = describe(file)
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{name}:", *(f"    {key}: {text}" for key, text in value.items())]
        else:
            lines.append(f"{name}: {value}")
    _output.result(facts, as_json=as_json, human="\n".join(lines))
