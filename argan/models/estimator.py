"""AR-GAN-DR's depth estimator: a compact U-Net on a small version of the photo, brought back to full size."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from argan.guided import guided_upsample
from argan.models.resize import resize_short_side


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions with group normalisation."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.GroupNorm(8, out_channels),
            nn.LeakyReLU(0.1),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.GroupNorm(8, out_channels),
            nn.LeakyReLU(0.1),
        )


class DepthEstimator(nn.Module):
    """U-Net (Ronneberger et al. 2015): RGB to signed disparity, fully convolutional, any size.

    Args:
        width: channels at full size, a multiple of 8, doubled at each of the first three halvings.
        levels: halvings; what lies beyond the reach of the smallest size is not seen.
    """

    def __init__(self, width: int = 16, levels: int = 3):
        super().__init__()
        widths = [width * 2 ** min(level, 3) for level in range(levels + 1)]
        self.down = nn.ModuleList(ConvBlock(i, o) for i, o in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(
            ConvBlock(widths[level + 1] + widths[level], widths[level]) for level in reversed(range(levels))
        )
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W) in [0, 1] -> signed disparity (B, 1, H, W), px per aperture step of the generator."""
        x = 2 * image - 1
        skips: list[Tensor] = []
        for block in self.down:
            x = block(F.avg_pool2d(x, 2) if skips else x)
            skips.append(x)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skip], dim=1))
        return self.head(x)


class DepthPredictor(nn.Module):
    """A photo of any size to its disparity in [0, 1], 1 = nearest.

    The estimator works where it was trained, with the photo's short side at `resolution` px; its signed disparity is
    carried to [0, 1] by one affine map, (D - far) / (near - far), so the generator's focal plane D = 0 is known in the
    photo too; the guided filter then lays depth edges onto the photo's edges.

    Args:
        estimator: signed disparity from images.
        resolution: working size, px of the short side.
        far, near: signed disparities that become 0 and 1.
    """

    def __init__(self, estimator: DepthEstimator, resolution: int, far: float, near: float):
        super().__init__()
        if not far < 0 < near:
            raise ValueError(f"the focal plane 0 must lie between far and near, got {far} and {near}")
        self.estimator = estimator
        self.resolution, self.far, self.near = resolution, far, near

    @property
    def focus(self) -> float:
        """The learned focal plane, as a disparity in [0, 1]."""
        return self.far / (self.far - self.near)

    def coarse(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W) -> disparity in [0, 1] at working size, the mean of the photo's and its mirror image's."""
        small = resize_short_side(image, self.resolution)
        mirrored = self.estimator(small.flip(3)).flip(3)
        signed = 0.5 * (self.estimator(small) + mirrored)
        return ((signed - self.far) / (self.near - self.far)).clamp(0, 1)

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W) display-encoded in [0, 1], H and W from 16 up -> disparity (B, 1, H, W) in [0, 1]."""
        return guided_upsample(self.coarse(image), image)
