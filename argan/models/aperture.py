"""The aperture renderer R: a deep-focus image and its disparity become a shallow-focus image.

Srinivasan et al. (CVPR 2018) with the 5 x 5 light field of AR-GAN: the depth expansion network T turns the central
disparity into one ray-disparity map a view, M(x, u) = T(D)(x, u); the lens averages the views,
I_s(x) = sum_u A(u) I(x + u M(x, u)) / sum_u A(u).
"""

import torch
from torch import Tensor, nn

from argan.kernels import expand_rays, render_light_field, warp_disparity

SHARP = 0.25  # |D| up to which it is sharp, px per aperture step: two steps from the middle, discs are a pixel wide


def aperture_views(count: int = 5) -> Tensor:
    """The lens: a `count` x `count` grid over [-2, 2]^2 aperture steps, less the corners outside the disc: (V, 2).

    Five a side give the paper's 21 views; nine sample the same lens twice as densely, which large images need
    (neighbouring views further than about 1.5 px apart show as ghost copies).
    """
    if count < 1 or count % 2 == 0:
        raise ValueError(f"an aperture takes an odd number of views a side, so that one is central; got {count}")
    steps = torch.linspace(-2, 2, count) if count > 1 else torch.zeros(1)
    uy, ux = torch.meshgrid(steps, steps, indexing="ij")
    inside = ux**2 + uy**2 <= 5 + 1e-6  # (2, 1) is in, the corner (2, 2) is out
    return torch.stack([ux[inside], uy[inside]], dim=1)


class DepthExpansion(nn.Module):
    """T: bends the warped disparities where views see behind an edge; a residual that starts as the identity.

    Without biases or normalisation, so that T(0) = 0: what has no disparity has no blur.
    """

    def __init__(self, views: int, impl: str = "auto"):
        super().__init__()
        convs = [nn.Conv2d(views, views, 3, bias=False) for _ in range(3)]
        nn.init.zeros_(convs[-1].weight)
        self.convs = nn.ModuleList(convs)
        self.impl = impl

    def forward(self, rays: Tensor) -> Tensor:
        """(B, V, H, W) -> (B, V, H, W), px per aperture step."""
        return expand_rays(rays, [conv.get_parameter("weight") for conv in self.convs], impl=self.impl)


class ApertureRenderer(nn.Module):
    """R(I, s D).

    Args:
        views: views a side of the aperture; see `aperture_views`.
        expansion: whether T is learned; without it M(x, u) = D(x + u D(x)).
        impl: back end of the kernels: "auto", "reference" or "triton".
    """

    views: Tensor

    def __init__(self, views: int = 5, expansion: bool = True, impl: str = "auto"):
        super().__init__()
        self.register_buffer("views", aperture_views(views), persistent=False)
        self.expansion = DepthExpansion(len(self.views), impl) if expansion else None
        self.impl = impl

    def rays(self, disparity: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) -> the expanded ray disparities M and the merely warped ones, both (B, V, H, W)."""
        warped = warp_disparity(disparity, self.views, impl=self.impl)
        return (warped if self.expansion is None else self.expansion(warped)), warped

    def expansion_loss(self, expanded: Tensor, warped: Tensor) -> Tensor:
        """Srinivasan's regulariser of T, mean |M - D_warp|."""
        return (expanded - warped).abs().mean()

    def lens(self, deep: Tensor, rays: Tensor) -> Tensor:
        """deep (B, C, H, W) seen through the rays (B, V, H, W) and averaged over the aperture."""
        return render_light_field(deep, rays, self.views.to(deep.dtype), impl=self.impl)

    def forward(self, deep: Tensor, disparity: Tensor, scale: Tensor) -> Tensor:
        """deep (B, 3, H, W), disparity (B, 1, H, W), DoF scale s (B,) -> shallow (B, 3, H, W); s = 0 returns deep."""
        rays, _ = self.rays(scale[:, None, None, None] * disparity)
        return self.lens(deep, rays)


def rendered_rows(scale: Tensor, least: int = 0) -> Tensor:
    """Which of the samples with the DoF scales s (B,) are rendered, (N,): those with an open lens, s > 0.

    If they are fewer than `least`, some others too; rendering changes nothing of them, R(I, 0) = I.
    """
    opened = int((scale > 0).count_nonzero())
    return scale.argsort(descending=True, stable=True)[: max(opened, least)]


def render_mixture(
    renderer: ApertureRenderer, deep: Tensor, disparity: Tensor, scale: Tensor, rendered: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """R(I, s D) for s that is often 0, and the regulariser of T, a mean over open lenses.

    R(I, 0) = I, so only the samples with s > 0 are rendered: half the work under Bernoulli mixing.

    deep (B, 3, H, W), disparity (B, 1, H, W), s (B,); `rendered` from `rendered_rows`. Without it s is best on the CPU,
    where it is drawn: which samples are rendered is known there without waiting for a GPU.
    """
    rendered = rendered_rows(scale) if rendered is None else rendered
    if len(rendered) == 0:
        return deep, deep.new_zeros(())
    scale, rendered = (x.to(deep.device, non_blocking=True) for x in (scale, rendered))
    lens = scale.index_select(0, rendered)
    expanded, warped = renderer.rays(lens[:, None, None, None] * disparity.index_select(0, rendered))
    shallow = renderer.lens(deep.index_select(0, rendered), expanded)
    opened = (lens > 0).to(deep.dtype).mean().clamp(min=1 / len(lens))  # of what is rendered; closed ones have no loss
    return deep.index_copy(0, rendered, shallow), renderer.expansion_loss(expanded, warped) / opened
