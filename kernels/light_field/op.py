"""The public operations of light field rendering, and the torch ops argan::… that stand for their Triton kernels.

The reference is called as a plain function: graphs that are exported or traced with it hold aten operations only, and
it can be differentiated twice. The torch ops are opaque to torch.compile and differentiable once.
"""

from typing import Any

import torch
from torch import Tensor

from argan.kernels import backend
from argan.kernels.light_field import reference


def warp_disparity(disparity: Tensor, views: Tensor, *, impl: str = "auto") -> Tensor:
    """The disparity seen along each aperture direction, D(x + u D(x)).

    disparity: (B, 1, H, W), signed, in pixels per aperture step (0 in focus, positive nearer).
    views: (V, 2), aperture positions u = (ux, uy) in steps; x + ux D runs along the width, y + uy D along the height.
    Returns (B, V, H, W) in the dtype of `disparity`. Sampling is bilinear; positions outside are clamped to the border.
    The gradient to `disparity` goes through the sampled values and through the positions; `views` has none.

    Source: Srinivasan et al., "Aperture Supervision for Monocular Depth Estimation", CVPR 2018 (ray depths); AR-GAN.
    """
    backend.check_tensors(disparity=(disparity, "B 1 H W"), views=(views, "V 2"))
    _check_views(views)
    if backend.resolve(impl, disparity.device) == "reference":
        return reference.warp_disparity(disparity, views)
    return _warp(disparity, views.to(backend.compute_dtype(disparity)))


def render_light_field(
    image: Tensor, rays: Tensor, views: Tensor, weights: Tensor | None = None, *, impl: str = "auto"
) -> Tensor:
    """The picture that an aperture takes of a deep image, sum_u A(u) I(x + u M(x, u)) / sum_u A(u).

    image: (B, C, H, W), the all-in-focus image I.
    rays: (B, V, H, W), the signed disparity M(x, u) of the ray through pixel x and view u, in pixels per aperture step.
    views: (V, 2), aperture positions u = (ux, uy) in steps.
    weights: (V,), transmission A(u); None means all ones. Their sum must not be zero (the result would be inf or nan).
    Returns (B, C, H, W) in the dtype of `image`. Sampling is bilinear; positions outside are clamped to the border.
    Gradients go to `image`, `rays` and `weights`; `views` has none.

    Source: Srinivasan et al., CVPR 2018 (light field aperture rendering); Kaneko, "Unsupervised Learning of Depth and
    Depth-of-Field Effect From Natural Images With Aperture Rendering Generative Adversarial Networks", CVPR 2021.
    """
    tensors = {"image": (image, "B C H W"), "rays": (rays, "B V H W"), "views": (views, "V 2")}
    if weights is None:
        backend.check_tensors(**tensors)
        compute = backend.compute_dtype(image, rays)
        weights = views.new_full((views.shape[0],), 1 / views.shape[0], dtype=compute)
    else:
        backend.check_tensors(**tensors, weights=(weights, "V"))
        compute = backend.compute_dtype(image, rays, weights)
        weights = weights.to(compute)
        weights = weights / weights.sum()
    _check_views(views)
    if backend.resolve(impl, image.device) == "reference":
        with backend.full_precision(image.device):
            return reference.render_light_field(image, rays, views, weights)
    return _render(image, rays, views.to(compute), weights)


def _check_views(views: Tensor) -> None:
    if views.requires_grad:
        raise ValueError("views: aperture positions take no gradient; pass views.detach()")


# The ops take views and weights in the dtype to calculate in, and weights that sum to one. Kernels are imported when
# one is launched, so that this module needs no Triton.


@torch.library.custom_op("argan::warp_disparity", mutates_args=())
def _warp(disparity: Tensor, views: Tensor) -> Tensor:
    from argan.kernels.light_field import triton as kernels

    return kernels.warp_forward(disparity, views)


@torch.library.custom_op("argan::warp_disparity_backward", mutates_args=())
def _warp_backward(grad: Tensor, disparity: Tensor, views: Tensor) -> Tensor:
    from argan.kernels.light_field import triton as kernels

    return kernels.warp_backward(grad, disparity, views)


@torch.library.custom_op("argan::render_light_field", mutates_args=())
def _render(image: Tensor, rays: Tensor, views: Tensor, weights: Tensor) -> Tensor:
    from argan.kernels.light_field import triton as kernels

    return kernels.render_forward(image, rays, views, weights)


@torch.library.custom_op("argan::render_light_field_backward", mutates_args=())
def _render_backward(
    grad: Tensor,
    image: Tensor,
    rays: Tensor,
    views: Tensor,
    weights: Tensor,
    need_image: bool,
    need_rays: bool,
    need_weights: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    from argan.kernels.light_field import triton as kernels

    return kernels.render_backward(grad, image, rays, views, weights, need_image, need_rays, need_weights)


@_warp.register_fake
def _(disparity: Tensor, views: Tensor) -> Tensor:
    batch, _, height, width = disparity.shape
    return disparity.new_empty(batch, views.shape[0], height, width)


@_warp_backward.register_fake
def _(grad: Tensor, disparity: Tensor, views: Tensor) -> Tensor:
    return disparity.new_empty(disparity.shape)


@_render.register_fake
def _(image: Tensor, rays: Tensor, views: Tensor, weights: Tensor) -> Tensor:
    return image.new_empty(image.shape)


@_render_backward.register_fake
def _(
    grad: Tensor,
    image: Tensor,
    rays: Tensor,
    views: Tensor,
    weights: Tensor,
    need_image: bool,
    need_rays: bool,
    need_weights: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        image.new_empty(image.shape if need_image else 0),
        rays.new_empty(rays.shape if need_rays else 0),
        weights.new_empty(weights.shape if need_weights else 0),
    )


def _differentiate_warp(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return _warp_backward(grad, *ctx.saved_tensors), None


def _differentiate_render(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    image, rays, _, weights = ctx.needs_input_grad
    grad_image, grad_rays, grad_weights = _render_backward(grad, *ctx.saved_tensors, image, rays, weights)
    return grad_image if image else None, grad_rays if rays else None, None, grad_weights if weights else None


_warp.register_autograd(_differentiate_warp, setup_context=backend.save_inputs)
_render.register_autograd(_differentiate_render, setup_context=backend.save_inputs)
_warp_backward.register_autograd(backend.refuse_to_differentiate)
_render_backward.register_autograd(backend.refuse_to_differentiate)
