"""The public operations of light field rendering: checked arguments, choice of implementation."""

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
    raise backend.BackendUnavailable("impl='triton' cannot run: warp_disparity has no Triton kernel in this version")


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
    if weights is None:
        weights = torch.ones(views.shape[0], device=views.device)
    backend.check_tensors(
        image=(image, "B C H W"), rays=(rays, "B V H W"), views=(views, "V 2"), weights=(weights, "V")
    )
    _check_views(views)
    weights = weights.to(backend.compute_dtype(image, rays, weights))
    weights = weights / weights.sum()
    if backend.resolve(impl, image.device) == "reference":
        return reference.render_light_field(image, rays, views, weights)
    raise backend.BackendUnavailable("impl='triton' cannot run: render_light_field has no Triton kernel in this version")


def _check_views(views: Tensor) -> None:
    if views.requires_grad:
        raise ValueError("views: aperture positions take no gradient; pass views.detach()")
