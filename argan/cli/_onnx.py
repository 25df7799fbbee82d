"""What `argan render` and `argan depth` do with a file that `argan export` wrote: ONNX Runtime works, without torch.

render.onnx and pipeline.onnx render by themselves. depth.onnx gives depth alone: `argan depth` takes it from here, and
`argan render` hands it to argan's own renderer, as it does with depth models of others (`argan.models.onnx_depth`).
"""

import time
from dataclasses import dataclass
from pathlib import Path

import typer

from argan import depth_maps, runtime
from argan.cli import _batch, _options, _output
from argan.errors import UsageError
from argan.focus import Focus
from argan.images import Photo, read_photo, write_photo

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


def render(
    renderer: Renderer,
    photos: _batch.Photos,
    outputs: dict[Path, Path],
    depth_outputs: dict[Path, Path],
    *,
    blur: float,
    focus: Focus,
    depth: Path | None,
    depth_kind: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """`argan render` in ONNX Runtime."""
    source = str(depth) if depth is not None else renderer.name
    _output.info(f"depth: {source}; device: {renderer.device}; renderer: {renderer.path}")

    @dataclass
    class Job:
        photo: Photo
        given: depth_maps.DepthMap | None
        start: float
        result: runtime.Rendering | None = None

    def read(path: Path) -> Job:
        start = time.perf_counter()
        _batch.check_new([file for file in (outputs[path], depth_outputs.get(path)) if file is not None], overwrite)
        return Job(read_photo(path), _options.given_depth(depth, path, photos[path], depth_kind), start)

    def work(path: Path, job: Job) -> Job:
        _options.say_depth(job.given)
        focused = _options.focus_in(path, focus, job.photo)
        given = job.given.disparity if job.given is not None else None
        job.result = renderer.render(job.photo, blur=blur, focus=focused, depth=given)
        return job

    def write(path: Path, job: Job) -> _batch.Row:
        assert job.result is not None
        written = [outputs[path]]
        _batch.make_folder(outputs[path].parent)
        write_photo(outputs[path], job.result.photo)
        if path in depth_outputs:
            _batch.make_folder(depth_outputs[path].parent)
            depth_maps.write_depth(depth_outputs[path], job.result.disparity)
            written.append(depth_outputs[path])
        return _batch.row(
            path,
            job.result.photo,
            written,
            job.start,
            blur=blur,
            focus=round(job.result.focus, 4),
            depth=source,
            device=renderer.device,
        )

    _batch.run_batch(photos, "render", read, work, write, as_json)
