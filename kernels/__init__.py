"""argan.kernels: differentiable aperture rendering, written once and run by PyTorch, Triton or Numba.

Every operation is a function of tensors with `impl="auto" | "reference" | "triton"`, the photo renderer's with "numba"
too. The reference is plain PyTorch: it is the definition, what gradients are taken of on the CPU, and what an exported
graph contains. Triton and Numba are imported when they are needed.
"""

if "." not in __name__:  # the folder at the repository root, imported by its bare name
    raise ImportError("import argan.kernels, not kernels: the same operations would be registered twice")

from argan.kernels.backend import BackendUnavailable, resolve, why_not_numba, why_not_triton
from argan.kernels.bokeh import render_bokeh
from argan.kernels.expansion import expand_rays
from argan.kernels.light_field import render_light_field, warp_disparity

__all__ = [
    "BackendUnavailable",
    "expand_rays",
    "render_bokeh",
    "render_light_field",
    "resolve",
    "warp_disparity",
    "why_not_numba",
    "why_not_triton",
]
