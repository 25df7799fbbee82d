"""argan export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from argan.cli import _output

if TYPE_CHECKING:
    from argan.export import Exported


def export(
    checkpoint: Annotated[
        str | None, typer.Argument(help="A model's name or folder, a run, or a checkpoint; default flowers.")
    ] = None,
    format: Annotated[
        Literal["onnx", "torchscript", "pt2"],
        typer.Option(help="ONNX opset 18, TorchScript (legacy, deprecated by PyTorch), or a torch.export program."),
    ] = "onnx",
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="generator|depth|render|pipeline|all",
            help="One or several times. generator: z, scale to deep, shallow, disparity. depth: image to disparity. "
            "render: image, disparity, blur, focus to rendered. "
            "pipeline: image, blur, focus to rendered, disparity. all, the default: those the model has.",
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        typer.Option(
            help="fp16: networks and renderer in half precision. int8: the depth estimator's convolutions in 8 bits. "
            "Inputs and outputs are float32. What that costs is measured and printed."
        ),
    ] = "fp32",
    size: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT: one picture of this size alone, for phones and TensorRT. Default: any size."),
    ] = None,
    what_goes: Annotated[
        bool, typer.Option("--list", help="Say which targets come in which format, precision and size; write nothing.")
    ] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.")] = Path("argan-export"),
    device: Annotated[str, typer.Option(help="Where the files are verified: auto, cpu, cuda or cuda:N.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was measured as JSON.")] = False,
) -> None:
    """Write a model for deployment: OUTPUT/<target>.onnx, .pt or .pt2, one self-contained file a target.

    Batch, height and width stay dynamic (any size from 16 up), unless --size fixes them. Every file is run by its own
    runtime in a fresh process and compared with PyTorch before it gets its name; if it differs, the exit code is 3, and
    no file is left.

    Examples:

        argan export                                                  the shipped model, as ONNX

        argan export runs/argan-64 --format torchscript --target generator --output deploy/

        argan export --precision int8 --target depth --size 1024x768 --output phone/

        argan export --list
    """
    from argan.errors import UsageError

    if what_goes:
        _list(as_json)
        return
    fixed = None if size is None else _size(size)
    if output.suffix in (".onnx", ".pt", ".pt2") or (output.exists() and not output.is_dir()):
        raise UsageError(f"--output {output}: a folder is expected", hint=f"try --output {output.parent}")

    # From here on it takes torch.
    from argan.devices import resolve_device
    from argan.export import FORMATS, export_target, plan
    from argan.models.hub import load

    model = load(checkpoint)
    wanted = ["all"] if target is None or "all" in target else [*dict.fromkeys(target)]
    plans = [plan(model, format, one, precision, fixed) for one in wanted]
    where = resolve_device(device)
    form = " ".join([format, precision, *([] if size is None else [size])])
    _output.info(f"export: {model.config.name} to {form}; verified on: {where}")
    for name, why in ((name, why) for _, left_out in plans for name, why in left_out.items()):
        _output.info(f"left out: {name}: {why}")
    targets = [one for planned, _ in plans for one in planned]
    for path in (output / f"{one.name}{FORMATS[format].suffix}" for one in targets):
        if path.is_dir():
            raise UsageError(f"{path} is a folder, and a file is to be written there", hint="another --output")
    files = [export_target(one, format, output, where) for one in _output.track(targets, "export and verify")]
    _report(files, precision, as_json)


def _report(files: "list[Exported]", precision: str, as_json: bool) -> None:
    """What was written, how far it is from PyTorch, and what the precision costs."""
    from dataclasses import asdict

    rows = [
        {
            "file": file.path,
            "kB": round(file.bytes / 1000),
            "nodes": file.nodes,
            "max error": file.max_abs,
            "relative": file.relative,
        }
        for file in files
    ]
    human = _output.table(rows)
    if precision != "fp32":
        losses = [row for file in files for row in file.losses]
        human += f"\n\n{precision} against float32 in PyTorch, the worst of all cases:\n{_output.table(losses)}\n"
    details = [
        {**asdict(file), "losses": file.losses, "relative": file.relative, "next": file.next_command} for file in files
    ]
    _output.result(details, as_json=as_json, human=f"{human}\nnext: {files[-1].next_command}")


def _size(text: str) -> tuple[int, int]:
    from argan.errors import UsageError

    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise UsageError(f"--size {text}", hint="WIDTHxHEIGHT, such as 1024x768")
    return int(width), int(height)


def _list(as_json: bool) -> None:
    """The table of what goes with what, and the reasons for what does not."""
    from argan.export.formats import ANY, FIXED, FORMATS, LACKS, combinations
    from argan.export.precision import PRECISIONS
    from argan.export.targets import TARGETS

    found = list(combinations())
    there = {(one["target"], one["format"], one["precision"], one["size"]) for one in found if one["why_not"] is None}
    rows = [
        {
            "target": target,
            "format": format,
            **{
                precision: ", ".join(size for size in (ANY, FIXED) if (target, format, precision, size) in there) or "-"
                for precision in PRECISIONS
            },
        }
        for target in TARGETS
        for format in FORMATS
    ]
    notes = [
        f"{ANY}: batch, height and width are dynamic. {FIXED}: one picture, of --size WIDTHxHEIGHT.",
        *(f"{name}: {precision.what}" for name, precision in PRECISIONS.items()),
        *(f"no {lack.what}: {lack.why}" for lack in LACKS),
    ]
    _output.result(found, as_json=as_json, human="\n".join([_output.table(rows), "", *notes]))
