"""The discriminator C: real photographs against rendered ones."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from argan.models.generator import channels_at


class Discriminator(nn.Module):
    """Strided 4x4 convolutions down to 4x4, then one linear layer; no normalisation, so that R1 is well defined.

    Args:
        resolution: side S of the images, a power of two from 8 up.
        width: channels at 32 px, as in the generator.
    """

    def __init__(self, resolution: int = 64, width: int = 64):
        super().__init__()
        sizes = [2**k for k in range(resolution.bit_length() - 2, 1, -1)]
        channels = [3, *(channels_at(size, width) for size in sizes)]
        # Named by their output size, so that a larger discriminator can take a smaller one's blocks over.
        convs = [nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in itertools.pairwise(channels)]
        self.blocks = nn.ModuleDict({str(size): conv for size, conv in zip(sizes, convs, strict=True)})
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
        for conv in self.blocks.values():
            x = F.leaky_relu(conv(x), 0.2)
        # The batch's own spread as one more feature keeps samples diverse (Karras et al. 2018, section 3).
        spread = x.std(dim=0, correction=0).mean().expand(len(x), 1)
        return self.logit(torch.cat([x.flatten(1), spread], dim=1)).squeeze(1)
