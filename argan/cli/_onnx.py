"""What `argan render` and `argan depth` do with a file that `argan export` wrote: ONNX Runtime works, without torch.

render.onnx and pipeline.onnx render by themselves. depth.onnx gives depth alone: `argan depth` takes it from here, and
`argan render` hands it to argan's own renderer, as it does with depth models of others (`argan.models.onnx_depth`).
"""

from pathlib import Path

import typer

from argan import runtime
from argan.cli import _batch, _options, _output
from argan.cli._results import Files
from argan.cli._scene import Arrived
from argan.errors import UsageError
from argan.focus import Focus

Renderer = runtime.RenderFile | runtime.PipelineFile

# The options of `argan render` that exported graphs have an answer to.
ANSWERED = {"photos", "blur", "focus", "focus_depth", "depth", "depth_kind", "model", "model_input", "save_depth"}
ANSWERED |= {"output", "overwrite", "device", "as_json"}


def open_estimator(
    model: str, settings: dict[str, str], device: str
) -> runtime.DepthFile | runtime.PipelineFile | None:
    """The exported file, if it estimates depth; None for a depth model of somebody else's."""
    opened = runtime.load(model, device=device, settings=settings)
    if isinstance(opened, runtime.DepthModel):
        return None
    estimator = opened.depth if isinstance(opened, runtime.RenderFile) else opened
    if estimator is None:
        raise UsageError(f"{model} estimates no depth", hint="depth.onnx does, and pipeline.onnx")
    return estimator


def open_renderer(context: typer.Context, model: str, settings: dict[str, str], device: str) -> Renderer | None:
    """The file, if it renders; None if it gives depth alone.

    Raises:
        UsageError: an option was given that exported graphs do not have.
    """
    opened = runtime.load(model, device=device, settings=settings)
    if isinstance(opened, runtime.Estimator):
        return None
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in ANSWERED and source is not None and source.name == "COMMANDLINE":
            raise UsageError(
                f"--{name.replace('_', '-')} is not in exported files",
                hint="leave out --model, or give depth.onnx: argan's own renderer has it",
            )
    return opened


def render(renderer: Renderer, files: Files, *, blur: float, focus: Focus, as_json: bool) -> None:
    """`argan render` in ONNX Runtime."""
    source = str(files.depth) if files.depth is not None else renderer.name
    _output.info(f"depth: {source}; device: {renderer.device}; renderer: {renderer.path}")

    def work(path: Path, arrived: Arrived) -> tuple[float, runtime.Rendering]:
        start, photo, given = arrived
        _options.say_depth(given)
        focused = _options.focus_in(path, focus, photo)
        depth = given.disparity if given is not None else None
        return start, renderer.render(photo, blur=blur, focus=focused, depth=depth)

    def write(path: Path, done: tuple[float, runtime.Rendering]) -> _batch.Row:
        start, result = done
        written = files.write(path, result.photo, lambda: result.disparity)
        return _batch.row(
            path,
            result.photo,
            written,
            start,
            blur=blur,
            focus=round(result.focus, 4),
            depth=source,
            device=renderer.device,
        )

    _batch.run_batch(files.photos, "render", files.read, work, write, as_json)
