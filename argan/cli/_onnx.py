"""What `argan render` and `argan depth` do with a file that `argan export` wrote: ONNX Runtime works, without torch.

render.onnx and pipeline.onnx render by themselves. depth.onnx gives depth alone: `argan depth` writes it here, and
`argan render` hands it to argan's own renderer, as it does with depth models of others (`argan.models.onnx_depth`).
"""

import time
from pathlib import Path

import numpy as np
import typer

from argan import depth_maps, runtime
from argan.cli import _batch, _output
from argan.errors import UsageError
from argan.focus import Focus, resolve_focus
from argan.images import read_photo, write_photo

Renderer = runtime.RenderFile | runtime.PipelineFile

# The options of `argan render` that exported graphs have an answer to.
ANSWERED = {"photos", "blur", "focus", "focus_depth", "depth", "depth_kind", "model", "model_input", "save_depth"}
ANSWERED |= {"output", "overwrite", "device", "as_json"}


def open_estimator(model: str, device: str) -> runtime.DepthFile | runtime.PipelineFile | None:
    """The exported file, if it estimates depth; None for a depth model of somebody else's."""
    opened = runtime.load(model, device=device)
    if isinstance(opened, runtime.DepthModel):
        return None
    estimator = opened.depth if isinstance(opened, runtime.RenderFile) else opened
    if estimator is None:
        raise UsageError(f"{model} estimates no depth", hint="depth.onnx does, and pipeline.onnx")
    return estimator


def open_renderer(context: typer.Context, model: str, device: str) -> Renderer | None:
    """The file, if it renders; None if it gives depth alone.

    Raises:
        UsageError: an option was given that exported graphs do not have.
    """
    opened = runtime.load(model, device=device)
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
    photos: list[Path],
    outputs: list[Path],
    depth_outputs: list[Path | None],
    *,
    blur: float,
    focus: Focus,
    depth: Path | None,
    depth_kind: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """`argan render` in ONNX Runtime."""
    source = str(depth) if depth is not None else renderer.name
    _output.info(f"depth: {source}; device: {renderer.device}; renderer: {renderer.path}")

    def given(photo: Path) -> np.ndarray | None:
        if depth is None:
            return None
        disparity, note = depth_maps.read_depth(_batch.depth_file(depth, photo), depth_kind)
        if note:
            _output.info(note)
        return disparity

    def work(path: Path) -> _batch.Row:
        start = time.perf_counter()
        target, depth_target = outputs[photos.index(path)], depth_outputs[photos.index(path)]
        written = [file for file in (target, depth_target) if file is not None]
        _batch.check_new(written, overwrite)
        result = renderer.render(read_photo(path), blur=blur, focus=focus, depth=given(path))
        for file in written:
            _batch.make_folder(file.parent)
        write_photo(target, result.photo)
        if depth_target is not None:
            depth_maps.write_depth(depth_target, result.disparity)
        width, height = result.photo.size
        return {
            "photo": path,
            "files": written,
            "width": width,
            "height": height,
            "blur": blur,
            "focus": round(result.focus, 4),
            "depth": source,
            "device": renderer.device,
            "seconds": round(time.perf_counter() - start, 2),
        }

    _batch.run_batch(photos, "render", work, as_json)


def depth(
    estimator: runtime.DepthFile | runtime.PipelineFile,
    photos: list[Path],
    maps: list[Path],
    views: list[Path],
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """`argan depth` in ONNX Runtime."""
    _output.info(f"depth: {estimator.name}; device: {estimator.device}")

    def work(path: Path) -> _batch.Row:
        start = time.perf_counter()
        written = [maps[photos.index(path)], views[photos.index(path)]]
        _batch.check_new(written, overwrite)
        photo = read_photo(path)
        disparity = estimator.disparity(photo)
        _batch.make_folder(written[0].parent)
        depth_maps.write_depth(written[0], disparity)
        depth_maps.write_depth_view(written[1], disparity)
        width, height = photo.size
        return {
            "photo": path,
            "files": written,
            "width": width,
            "height": height,
            "focus": round(resolve_focus("auto", disparity, estimator.focus), 4),
            "least": round(float(disparity.min()), 4),
            "greatest": round(float(disparity.max()), 4),
            "model": estimator.name,
            "device": estimator.device,
            "seconds": round(time.perf_counter() - start, 2),
        }

    _batch.run_batch(photos, "depth", work, as_json)
