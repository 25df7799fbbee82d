"""argan verify."""

from pathlib import Path
from typing import Annotated

import typer

from argan.cli import _output


def verify(
    file: Annotated[Path, typer.Argument(help="An exported file: .onnx, .pt or .pt2.")],
    model: Annotated[
        str | None, typer.Option(help="The model it was exported from, where that does not ship with argan.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the file is run: auto, cpu, cuda or cuda:N.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that was measured as JSON.")] = False,
) -> None:
    """Prove that an exported file computes what PyTorch computes.

    The file is run by its own runtime, in a process that loads nothing of argan, on one and on several pictures, at odd
    sizes, without blur and with much, and at every level of optimisation. The exit code is 3 if it is damaged, was made
    from other weights or computes something else, and 4 if DEVICE is not what runs it.

    Nothing is unpickled but tensors; yet a .pt2 can hold code that PyTorch runs when it loads it: verify those of
    people whom you trust alone.

    Examples:

        argan verify argan-export/pipeline.onnx

        argan verify deploy/depth.onnx --model runs/argan-64 --device cuda --json
    """
    from dataclasses import asdict

    from argan.devices import resolve_device
    from argan.export import verify_file
    from argan.models.hub import load

    where = resolve_device(device)
    report = verify_file(file, None if model is None else load(model), where)
    rows = [
        {
            "output": one.output,
            "case": one.case,
            "max error": one.max_abs,
            "mean": one.mean_abs,
            "relative L2": one.relative_l2,
            "dB": one.psnr,
        }
        for one in report.differences
    ]
    ways = [{**way, "nodes": _placement(way.get("nodes"))} for way in report.ways]
    verdict = f"{file} computes what PyTorch does, as far as {report.precision} can: {report.target} of {report.model}"
    verdict += "" if report.size == "any" else f", {report.size} px"
    human = f"{_output.table(rows)}\n\n{_output.table(ways)}\n\n{verdict}"
    _output.result({"file": file, **asdict(report)}, as_json=as_json, human=human)


def _placement(nodes: dict[str, int] | None) -> str:
    return "not said" if not nodes else ", ".join(f"{count} on {name}" for name, count in nodes.items())
