"""argan.runtime: ONNX files at work on photographs, with numpy, Pillow and ONNX Runtime alone; torch is not imported.

    from pathlib import Path
    from argan import runtime
    from argan.images import read_photo, write_photo

    model = runtime.load("argan-export/pipeline.onnx")
    result = model.render(read_photo(Path("photo.jpg")), blur=2.0, focus=(0.3, 0.6))
    write_photo(Path("photo.bokeh.jpg"), result.photo)

files.py          which file does what
session.py        a file in ONNX Runtime, on the device that was asked for
exported.py       what argan export writes: depth.onnx, render.onnx, pipeline.onnx
depth_models.py   depth models of others: MiDaS, DPT, Depth Anything and their like
pixels.py         photographs to tensors and back: curves, alpha, grey, sizes
tiles.py          large photographs in tiles

ONNX Runtime is imported when the first of these is used.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argan.runtime.depth_models import DepthModel
    from argan.runtime.exported import DepthFile, PipelineFile, RenderFile, Rendering
    from argan.runtime.files import Estimator, load

__all__ = ["DepthFile", "DepthModel", "Estimator", "PipelineFile", "RenderFile", "Rendering", "is_onnx", "load"]

_HOMES = {
    "load": "files",
    "Estimator": "files",
    "DepthModel": "depth_models",
    **dict.fromkeys(("DepthFile", "PipelineFile", "RenderFile", "Rendering"), "exported"),
}


def is_onnx(model: object) -> bool:
    """Whether a model's name is that of an ONNX file."""
    return isinstance(model, str | Path) and Path(model).suffix.lower() == ".onnx"


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"argan.runtime.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'argan.runtime' has no attribute {name!r}")
