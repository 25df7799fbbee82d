"""The public operation, and the torch ops argan::… that stand for its Triton kernels.

The reference is PyTorch's own: graphs that are exported or traced with it hold aten operations only, and it can be
differentiated twice. The torch ops are opaque to torch.compile and differentiable once.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.kernels import backend

GROUP = 32  # channels: how many the kernels' own images are stored and multiplied by


def expand_rays(rays: Tensor, weights: Sequence[Tensor], *, impl: str = "auto") -> Tensor:
    """The depth expansion network T without biases, M + w_L * elu(... elu(w_1 * M)).

    rays: (B, V, H, W), the disparity M(x, u) of the ray through pixel x and view u.
    weights: at least one (V, V, 3, 3); `w * M` is a convolution by 3 x 3 taps from all views to all, with zeros beyond
        the border: sum_uij w(v,u,i,j) M(u, y+i-1, x+j-1).
    Returns (B, V, H, W) in the dtype of `rays`. Gradients go to both.

    On GPUs it multiplies as PyTorch's convolutions do, in TF32 unless torch.backends.cudnn.conv.fp32_precision (or
    its elder allow_tf32) says otherwise, and adds up in float32. torch.autocast does not reach it. Raises TypeError and
    ValueError for bad types and shapes.

    Source: Srinivasan et al., "Aperture Supervision for Monocular Depth Estimation", CVPR 2018 (the depth expansion
    network), made smaller.
    """
    if not weights:
        raise ValueError("weights: expected at least one (V, V, 3, 3), got none")
    named = {f"weights[{index}]": (taps, "V V 3 3") for index, taps in enumerate(weights)}
    backend.check_tensors(rays=(rays, "B V H W"), **named)
    compute, given = backend.compute_dtype(rays, *weights), rays.dtype
    rays, weights = rays.to(compute), [taps.to(compute) for taps in weights]
    if backend.resolve(impl, rays.device) == "reference":
        with backend.full_precision(rays.device):
            return _reference(rays, weights).to(given)
    return _expand(rays, torch.stack(weights))[0].to(given)


def _reference(rays: Tensor, weights: Sequence[Tensor]) -> Tensor:
    x = rays
    for taps in weights[:-1]:
        x = F.elu(F.conv2d(x, taps, padding=1))
    return rays + F.conv2d(x, weights[-1], padding=1)


# The ops take both in the dtype to calculate in, and all weights as one (L, V, V, 3, 3). Kernels are imported when one
# is launched, so that this module needs no Triton.


@torch.library.custom_op("argan::expand_rays", mutates_args=())
def _expand(rays: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The expanded rays, and what each convolution saw, as the kernels store it."""
    from argan.kernels.expansion import triton as kernels

    seen = rays.new_empty(_seen_shape(rays, weights))
    return kernels.expand(rays, weights, seen), seen


@torch.library.custom_op("argan::expand_rays_backward", mutates_args=())
def _backward(
    grad: Tensor, seen: Tensor, weights: Tensor, need_rays: bool, need_weights: bool
) -> tuple[Tensor, Tensor]:
    from argan.kernels.expansion import triton as kernels

    return kernels.gradients(grad, seen, weights, need_rays, need_weights)


def _seen_shape(rays: Tensor, weights: Tensor) -> tuple[int, ...]:
    """Images in a frame of zeros, a pixel's channels side by side, rounded up to whole groups."""
    batch, channels, height, width = rays.shape
    return weights.shape[0], batch, height + 2, width + 2, -(-channels // GROUP) * GROUP


@_expand.register_fake
def _(rays: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return rays.new_empty(rays.shape), rays.new_empty(_seen_shape(rays, weights))


@_backward.register_fake
def _(grad: Tensor, seen: Tensor, weights: Tensor, need_rays: bool, need_weights: bool) -> tuple[Tensor, Tensor]:
    return grad.new_empty(grad.shape if need_rays else 0), weights.new_empty(weights.shape if need_weights else 0)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # of what was seen, which has none: as many zeros would be written at every step
    ctx.save_for_backward(output[1], inputs[1])


def _differentiate(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad
    if grad is None:
        return None, None
    grads = _backward(grad, *ctx.saved_tensors, *needs)
    return tuple(value if need else None for value, need in zip(grads, needs, strict=True))


_expand.register_autograd(_differentiate, setup_context=_save)
_backward.register_autograd(backend.refuse_to_differentiate)
