"""CycleGAN's image-to-image network (Zhu et al., ICCV 2017): a photo becomes one of the other domain, at its size."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance normalisation, added to their input."""

    def __init__(self, channels: int):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.convs
        y = F.relu(F.instance_norm(first(reflect(x, 1))))
        return x + F.instance_norm(second(reflect(y, 1)))


class Translator(nn.Module):
    """The paper's residual generator: 7x7 convolution, two halvings, residual blocks, two doublings, 7x7 convolution.

    Fully convolutional, for any size from 16 px up. Doubling is nearest-neighbour upsampling and a 3x3 convolution in
    place of the transposed convolution, which leaves checkerboards.

    Args:
        width: channels at full size, doubled at each halving; the paper has 64.
        blocks: residual blocks; the paper has 6 for 128 px and 9 from 256 px on.
    """

    def __init__(self, width: int = 32, blocks: int = 6):
        super().__init__()
        self.first = nn.Conv2d(3, width, 7, bias=False)
        self.down = nn.ModuleList(nn.Conv2d(i, 2 * i, 3, stride=2, padding=1, bias=False) for i in (width, 2 * width))
        self.blocks = nn.ModuleList(ResidualBlock(4 * width) for _ in range(blocks))
        self.up = nn.ModuleList(nn.Conv2d(i, i // 2, 3, bias=False) for i in (4 * width, 2 * width))
        self.last = nn.Conv2d(width, 3, 7)

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W) in [0, 1] -> the same scene in the other domain, (B, 3, H, W) in [0, 1]."""
        x = F.relu(F.instance_norm(self.first(reflect(2 * image - 1, 3))))
        sizes = []
        for conv in self.down:
            sizes.append(x.shape[2:])
            x = F.relu(F.instance_norm(conv(x)))
        for block in self.blocks:
            x = block(x)
        for conv, size in zip(self.up, reversed(sizes), strict=True):
            x = F.interpolate(x, size=size, mode="nearest")
            x = F.relu(F.instance_norm(conv(reflect(x, 1))))
        return 0.5 + 0.5 * torch.tanh(self.last(reflect(x, 3)))


def reflect(x: Tensor, margin: int) -> Tensor:
    """Padding that continues a picture better than zeros do."""
    return F.pad(x, (margin, margin, margin, margin), mode="reflect")
