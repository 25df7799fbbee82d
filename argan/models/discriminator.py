"""The discriminator C: real photographs against rendered ones."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from argan.distributed import batch_std
from argan.models.generator import block_sizes, channels_at


class ResidualDownBlock(nn.Module):
    """A 3x3 and a strided 4x4 convolution with a shortcut around both (He et al. 2016): halves the size."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.down = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        coarse = self.down(F.leaky_relu(self.conv(x), 0.2))
        return (coarse + self.shortcut(F.avg_pool2d(x, 2))) * 0.5**0.5


def down_block(blocks: str, in_channels: int, out_channels: int) -> nn.Module:
    """What halves the size in a "plain" or "residual" discriminator."""
    if blocks == "residual":
        return ResidualDownBlock(in_channels, out_channels)
    return nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1)


class Discriminator(nn.Module):
    """Strided 4x4 convolutions down to 4x4, then one linear layer; no normalisation, so that R1 is well defined.

    Args:
        resolution: side S of the images, a power of two from 8 up.
        width: channels at 32 px, as in the generator.
        blocks: "plain" or "residual".
    """

    def __init__(self, resolution: int = 64, width: int = 64, blocks: str = "plain"):
        super().__init__()
        sizes = [size // 2 for size in reversed(block_sizes(resolution))]
        channels = [3, *(channels_at(size, width) for size in sizes)]
        # Named by their output size, so that a larger discriminator can take a smaller one's blocks over.
        halvings = [down_block(blocks, i, o) for i, o in itertools.pairwise(channels)]
        self.blocks = nn.ModuleDict({str(size): block for size, block in zip(sizes, halvings, strict=True)})
        self.logit = nn.Linear(channels[-1] * 16 + 1, 1)
        # He et al. (2015): features keep their size through the layers. PyTorch's default shrinks them, and the
        # discriminator then takes hundreds of steps to say anything.
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, a=0.2)
                nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, S, S) in [0, 1] -> logits (B,), larger = more like a photograph."""
        x = 2 * image - 1
        for block in self.blocks.values():
            x = F.leaky_relu(block(x), 0.2)
        # The batch's own spread as one more feature keeps samples diverse (Karras et al. 2018, section 3).
        spread = batch_std(x).mean().expand(len(x), 1)
        return self.logit(torch.cat([x.flatten(1), spread], dim=1)).squeeze(1)
