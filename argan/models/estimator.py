"""AR-GAN-DR's depth estimator: a compact U-Net on a small version of the photo, brought back to full size."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from argan.config import EncoderName
from argan.guided import guided_upsample, settle
from argan.kernels.sizes import plain
from argan.models.aperture import SHARP
from argan.models.encoder import FEATURES, STRIDE, Encoder
from argan.models.resize import enlarge, resize_short_side


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


class Pyramid(nn.ModuleList):
    """A U-Net's way down, learned from scratch: features of the image at its size, a half, a quarter and so on."""

    def __init__(self, widths: list[int]):
        super().__init__(ConvBlock(i, o) for i, o in zip([3, *widths], widths, strict=False))

    def forward(self, image: Tensor) -> list[Tensor]:
        x = 2 * image - 1
        features: list[Tensor] = []
        for block in self:
            x = block(_halved(x) if features else x)
            features.append(x)
        return features


def _halved(x: Tensor) -> Tensor:
    """The mean of every 2 x 2 pixels. PyTorch 2.11 exports its own only if it knows whether a size is even."""
    if torch.compiler.is_exporting() and any(isinstance(side, torch.SymInt) for side in x.shape):
        return F.conv2d(x, x.new_full((x.shape[1], 1, 2, 2), 0.25), stride=2, groups=x.shape[1])
    return F.avg_pool2d(x, 2)


class PretrainedPyramid(nn.Module):
    """What a frozen `argan.models.encoder` sees of the image at twice its size, beside features of the image itself.

    Two features at the image's size, then one at a half, a quarter and an eighth of it. The encoder learned from larger
    pictures than generators draw; twice as large, they show things at more of the sizes that it knows.
    """

    def __init__(self, width: int):
        super().__init__()
        self.own = ConvBlock(3, width)
        self.encoder = Encoder().requires_grad_(False)
        self.narrow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1), nn.GroupNorm(8, width), nn.LeakyReLU(0.1))
            for channels in FEATURES
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = (_nearest_multiple(2 * side, STRIDE) for side in image.shape[-2:])
        enlarged = enlarge(image, (height, width))
        features = self.encoder(enlarged)
        return [self.own(2 * image - 1), *(narrow(x) for narrow, x in zip(self.narrow, features, strict=True))]


def _nearest_multiple(size: int, of: int) -> int:
    return plain((size + of // 2) // of, least=2) * of


class DepthEstimator(nn.Module):
    """U-Net (Ronneberger et al. 2015): RGB to signed disparity, fully convolutional, any size.

    Args:
        width: channels at full size, a multiple of 8.
        levels: without an encoder, halvings; what lies beyond the reach of the smallest size is not seen. Channels
            double at each of the first three.
        encoder: what its way down is: "efficientnet-lite0", which has learned to tell things apart from ImageNet's
            photographs and stays as it is, or "none": learned from scratch.
    """

    def __init__(self, width: int = 16, levels: int = 3, encoder: EncoderName = "none"):
        super().__init__()
        self.down: Pyramid | PretrainedPyramid
        if encoder == "none":
            widths = [width * 2 ** min(level, 3) for level in range(levels + 1)]
            self.down = Pyramid(widths)
        else:
            self.down = PretrainedPyramid(width)
            widths = [width] * (1 + len(self.down.narrow))
        self.up = nn.ModuleList(ConvBlock(below + beside, beside) for beside, below in reversed([*pairwise(widths)]))
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W) in [0, 1] -> signed disparity (B, 1, H, W), px per aperture step of the generator."""
        *features, x = self.down(image)
        for block, beside in zip(self.up, reversed(features), strict=True):
            x = enlarge(x, beside.shape[-2:])
            x = block(torch.cat([x, beside], dim=1))
        return self.head(x)


class DepthPredictor(nn.Module):
    """A photo of any size to its disparity in [0, 1], 1 = nearest.

    The estimator works where it was trained, with the photo's short side at `resolution` px, and takes a second look at
    three quarters of that, where it sees more of the picture at once: photos that are no close-ups come out better
    (docs/learning.md). Its signed disparity is carried to [0, 1] by one affine map, (D - far) / (near - far), so the
    generator's focal plane D = 0 is known in the photo too. `argan.guided` then lays depth edges onto the photo's.

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

    @property
    def focus_range(self) -> float:
        """How wide in disparity, about the focal plane, the generator's images are sharp: |D| up to `SHARP`.

        Training could not tell depths within it apart: images of the generator's size show no blur there.
        """
        return min(1.0, 2 * SHARP / (self.near - self.far))

    def coarse(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W) -> disparity in [0, 1] at working size, the mean of both looks, with edges settled."""
        small, smaller = (resize_short_side(image, size) for size in (self.resolution, self.resolution * 3 // 4))
        signed = 0.5 * (self.look(small) + enlarge(self.look(smaller), small.shape[-2:]))
        return settle(((signed - self.far) / (self.near - self.far)).clamp(0, 1), small)

    def look(self, small: Tensor) -> Tensor:
        """A small photo (B, 3, h, w) -> signed disparity (B, 1, h, w), the mean of its own and its mirror image's."""
        return 0.5 * (self.estimator(small) + self.estimator(small.flip(3)).flip(3))

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W) display-encoded in [0, 1], H and W from 16 up -> disparity (B, 1, H, W) in [0, 1]."""
        return guided_upsample(self.coarse(image), image)
