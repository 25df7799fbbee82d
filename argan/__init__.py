"""argan: depth and depth-of-field learned from unlabelled photographs, rendered on real photos, exported anywhere.

    argan.render(image, blur=2.0) -> image              shallow depth-of-field on a photo
    argan.estimate_depth(image) -> disparity            1 = nearest
    argan.Aperture("hexagon", rotation=15)              blades, anamorphic, rim, cat's eyes, to render with
    argan.load("flowers") -> model                      generator, renderer, depth estimator
    argan.kernels                                       the differentiable rendering operations
    argan.export                                        ONNX, TorchScript and torch.export, each file verified
    argan.runtime                                       exported files at work, without torch

Everything is imported when it is first used, so that `import argan` itself takes no time and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argan.kernels.bokeh import Aperture
    from argan.models.hub import load
    from argan.photo import estimate_depth, render

__version__ = "0.1.0"
__all__ = ["Aperture", "__version__", "estimate_depth", "load", "render"]

_HOMES = {
    "Aperture": "argan.kernels.bokeh",
    "estimate_depth": "argan.photo",
    "load": "argan.models.hub",
    "render": "argan.photo",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in ("kernels", "export", "runtime"):
        return import_module(f"argan.{name}")
    raise AttributeError(f"module 'argan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "export", "kernels", "runtime"])
