"""`render_bokeh` and `develop_bokeh`: checks, conventions and the choice of implementation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from argan.kernels import backend
from argan.kernels.bokeh import reference, regions
from argan.kernels.bokeh.aperture import Aperture, check_aperture


def render_bokeh(
    image: Tensor,
    disparity: Tensor,
    radius: float | Tensor,
    focus: float | Tensor = 0.0,
    *,
    aperture: Aperture | str | Tensor = "disk",
    impl: str = "auto",
) -> Tensor:
    """A photograph with shallow depth of field, (B,3,H,W), from an all-in-focus one and its disparity.

    image      (B,3,H,W) linear light, any range; float32 or float64 (half precision is computed in float32; Triton
               stores what discs are gathered from as float16 then)
    disparity  (B,1,H,W), larger is nearer
    radius     blur radius in pixels at |disparity - focus| = 1; a number, or a tensor of one or B values; >= 0
    focus      disparity in focus; a number, or a tensor of one or B values
    aperture   a name of `APERTURES`; an image of one: a 2-D tensor, 0 where closed, spanning the disc's square; or an
               `Aperture`, which has rotation, curved blades, anamorphic stretch, rim and cat's eyes too
    impl       "reference"; "triton", on CUDA devices; "numba", loops compiled for the CPU, without gradients; or
               "auto": Triton or Numba where they can run, the reference where gradients are recorded on the CPU

    Occlusion-aware and energy-preserving: README.md beside this file has the derivation. Radius 0 returns the pixels
    exactly; so does whatever is in focus and out of reach of blurred light. Gradients flow to image, disparity,
    radius and focus; they are those of the reference on either back end that has them (Triton has its own forward and
    backward gather).

    Raises TypeError and ValueError for bad shapes, types and values, `BackendUnavailable` if `impl` cannot run here:
    "numba" where a gradient would be recorded, too.
    """
    backend.check_tensors(image=(image, "B 3 H W"), disparity=(disparity, "B 1 H W"))
    aperture = check_aperture(aperture)
    recorded = torch.is_grad_enabled() and any(
        isinstance(x, Tensor) and x.requires_grad for x in (image, disparity, radius, focus)
    )
    if impl == "numba" and recorded:
        raise backend.BackendUnavailable("impl='numba' cannot run: it records no gradients (use torch.no_grad())")
    impl = backend.resolve(impl, image.device, numba=not recorded)
    dtype = backend.compute_dtype(image, disparity)
    radius, focus = (_per_picture(value, name, image, dtype) for value, name in ((radius, "radius"), (focus, "focus")))
    if bool((radius.detach() < 0).any()):
        raise ValueError("radius must not be negative")
    coc = radius * (disparity.to(dtype) - focus)
    _check_finite(image=image, disparity=coc)
    with backend.full_precision(image.device):
        pictures = zip(image.split(1), coc.split(1), strict=True)
        return torch.cat([_render(*picture, aperture, impl) for picture in pictures])


def develop_bokeh(
    light: regions.Light,
    coc: Tensor,
    develop: regions.Develop,
    *,
    aperture: Aperture | str | Tensor = "disk",
    white: float = math.inf,
    impl: str = "auto",
) -> Tensor:
    """`render_bokeh` for a photo whose linear light is too much to hold at once; without gradients.

    light      an `Area` of the photo -> its linear light (1,3,h,w); asked for by tiles and what lies around them, in
               several threads
    coc        (1,1,H,W) signed blur radii in pixels, positive in front of the focal plane, finite
    develop    rendered light (1,3,h,w) and the `Area` that it is of -> what is kept of it, (1,C,h,w)
    white      what is brighter is a lamp's, and does not go on behind nearer things

    Returns what was developed, (1,C,H,W). `aperture`, `impl` and errors as in `render_bokeh`.
    """
    backend.check_tensors(coc=(coc, "1 1 H W"))
    _check_finite(coc=coc)
    impl, aperture = backend.resolve(impl, coc.device, numba=True), check_aperture(aperture)
    coc = coc.to(backend.compute_dtype(coc))
    with torch.no_grad(), backend.full_precision(coc.device):
        return regions.render(light, coc, aperture, _steps(impl, coc.dtype), develop, white)


def _render(image: Tensor, coc: Tensor, aperture: Aperture, impl: str) -> Tensor:
    """One picture (1,3,H,W) with signed blur radii (1,1,H,W)."""
    if not bool(coc.detach().any()):
        return image + (0 * coc).to(image.dtype)  # the pixels as they are, and still differentiable
    storage = torch.float16 if image.dtype in (torch.float16, torch.bfloat16) else coc.dtype
    return regions.render(image.to(coc.dtype), coc, aperture, _steps(impl, storage)).to(image.dtype)


def _steps(impl: str, storage: torch.dtype) -> regions.Steps:
    """A back end's, imported no sooner than needed; Triton's stores what discs are gathered from as `storage`."""
    if impl == "triton":
        from argan.kernels.bokeh import triton

        return triton.steps(storage)
    if impl == "numba":
        from argan.kernels.bokeh import numba

        return numba.STEPS
    return reference.STEPS


def _check_finite(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if not all(math.isfinite(end) for end in tensor.detach().aminmax()):
            raise ValueError(f"{name} must be finite")


def _per_picture(value: float | Tensor, name: str, image: Tensor, dtype: torch.dtype) -> Tensor:
    value = torch.as_tensor(value, dtype=dtype, device=image.device)
    if value.numel() not in (1, image.shape[0]):
        raise ValueError(f"{name}: one value or one a picture ({image.shape[0]}), got {tuple(value.shape)}")
    if not bool(torch.isfinite(value.detach()).all()):
        raise ValueError(f"{name} must be finite")
    return value.reshape(-1, 1, 1, 1)
