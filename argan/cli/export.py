"""argan export."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from argan.cli import _output


def export(
    checkpoint: Annotated[
        str | None, typer.Argument(help="A model's name or folder, or a run; default the shipped one.")
    ] = None,
    format: Annotated[
        Literal["onnx", "torchscript", "pt2"],
        typer.Option(help="ONNX opset 18, TorchScript (legacy, deprecated by PyTorch), or a torch.export program."),
    ] = "onnx",
    target: Annotated[
        Literal["generator", "depth", "render", "pipeline", "all"],
        typer.Option(
            help="generator: z, scale to deep, shallow, disparity. depth: image to disparity. "
            "render: image, disparity, blur, focus to image. "
            "pipeline: image, blur, focus to image, disparity. all: those the model has."
        ),
    ] = "all",
    output: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("argan-export"),
    device: Annotated[
        str, typer.Option(help="Where the files are verified: auto is the CPU; cpu, cuda or cuda:N.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was measured as JSON.")] = False,
) -> None:
    """Write a model for deployment: OUTPUT/<target>.onnx, .pt or .pt2, one self-contained file a target.

    Batch, height and width stay dynamic (any size from 16 up). Every file is run in its own runtime and compared with
    PyTorch at sizes that were not traced before it gets its name; if it differs, the exit code is 3.

    Examples:

        argan export                                                  the shipped model, as ONNX

        argan export runs/argan-64 --format torchscript --target generator --output deploy/
    """
    from argan.errors import UsageError

    if output.suffix in (".onnx", ".pt", ".pt2") or (output.exists() and not output.is_dir()):
        raise UsageError(f"--output {output}: a folder is expected", hint=f"try --output {output.parent}")

    # From here on it takes torch.
    from dataclasses import asdict

    from argan.devices import resolve_device
    from argan.export import export_target, targets_of
    from argan.models.hub import load

    model = load(checkpoint)
    targets = targets_of(model, target)
    where = resolve_device("cpu" if device == "auto" else device)
    _output.info(f"export: {model.config.name} to {format}; verified on: {where}")
    files = [export_target(one, format, output, where) for one in _output.track(targets, "export and verify")]
    rows = [
        {"file": file.path, "kB": round(file.bytes / 1000), "max error": file.max_abs, "relative": file.relative}
        for file in files
    ]
    details = [{**asdict(file), "relative": file.relative, "next": file.next_command} for file in files]
    _output.result(details, as_json=as_json, human=f"{_output.table(rows)}\nnext: {files[-1].next_command}")
