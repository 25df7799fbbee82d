"""The public operation, and the torch ops argan::… that stand for its Triton kernels.

The reference is PyTorch's own: graphs that are exported or traced with it hold aten operations only, and it can be
differentiated twice. The torch ops are opaque to torch.compile and differentiable once.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.kernels import backend


def convolve(image: Tensor, weights: Tensor, *, impl: str = "auto") -> Tensor:
    """A convolution by 3 x 3 taps at every pixel, zeros beyond the border: sum_cij w(k,c,i,j) I(c, y+i-1, x+j-1).

    image: (B, C, H, W).
    weights: (K, C, 3, 3).
    Returns (B, K, H, W) in the dtype of `image`. Gradients go to both.

    For as few channels as an aperture has views, 21, for which cuDNN has no kernels that suit (benchmarks/h200.md). On
    GPUs it multiplies as PyTorch's convolutions do, in TF32 unless torch.backends.cudnn.allow_tf32 is False, and adds
    up in float32. Raises TypeError and ValueError for bad types and shapes.
    """
    backend.check_tensors(image=(image, "B C H W"), weights=(weights, "K C 3 3"))
    compute = backend.compute_dtype(image, weights)
    weights = weights.to(compute)
    if backend.resolve(impl, image.device) == "reference":
        return F.conv2d(image.to(compute), weights, padding=1).to(image.dtype)
    return _convolve(image, weights)


# The ops take weights in the dtype to calculate in. Kernels are imported when one is launched, so that this module
# needs no Triton.


@torch.library.custom_op("argan::convolve", mutates_args=())
def _convolve(image: Tensor, weights: Tensor) -> Tensor:
    from argan.kernels.convolution import triton as kernels

    return kernels.convolve(image, weights)


@torch.library.custom_op("argan::convolve_backward", mutates_args=())
def _backward(
    grad: Tensor, image: Tensor, weights: Tensor, need_image: bool, need_weights: bool
) -> tuple[Tensor, Tensor]:
    from argan.kernels.convolution import triton as kernels

    # A pixel's gradient comes from where its light went: the same taps, backwards.
    back = weights.flip(2, 3).transpose(0, 1)
    return (
        kernels.convolve(grad, back) if need_image else image.new_empty(0),
        kernels.of_weights(grad, image, weights.dtype) if need_weights else weights.new_empty(0),
    )


@_convolve.register_fake
def _(image: Tensor, weights: Tensor) -> Tensor:
    batch, _, height, width = image.shape
    return image.new_empty(batch, weights.shape[0], height, width)


@_backward.register_fake
def _(grad: Tensor, image: Tensor, weights: Tensor, need_image: bool, need_weights: bool) -> tuple[Tensor, Tensor]:
    return image.new_empty(image.shape if need_image else 0), weights.new_empty(weights.shape if need_weights else 0)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad
    grads = _backward(grad, *ctx.saved_tensors, *needs)
    return tuple(value if need else None for value, need in zip(grads, needs, strict=True))


_convolve.register_autograd(_differentiate, setup_context=backend.save_inputs)
_backward.register_autograd(backend.refuse_to_differentiate)
