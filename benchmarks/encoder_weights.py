"""The encoder's weights (`argan/weights/efficientnet-lite0.safetensors`) from those that are published.

    pip install "argan[metrics]"
    python benchmarks/encoder_weights.py

In float16. From one processor to another a number may differ in the last place.
"""

from collections.abc import Mapping

from safetensors.torch import save_file
from torch import Tensor

from argan.features import EfficientNetLite0
from argan.files import atomic_file
from argan.models.encoder import WEIGHTS, Encoder, InvertedResidual


def main() -> None:
    state = from_published(EfficientNetLite0().network.state_dict())
    with atomic_file(WEIGHTS) as temporary:
        save_file({name: weights.half() for name, weights in state.items()}, temporary)
    print(WEIGHTS)


def from_published(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of an `Encoder` from that of efficientnet-lite-pytorch: y = gamma (w x - mean) / sigma + beta."""

    def folded(convolution: str, norm: str) -> tuple[Tensor, Tensor]:
        mean, variance, gamma, beta = (
            published[f"{norm}.{what}"] for what in ("running_mean", "running_var", "weight", "bias")
        )
        gain = gamma / (variance + 1e-3).sqrt()
        return published[f"{convolution}.weight"] * gain.view(-1, 1, 1, 1), beta - mean * gain

    state: dict[str, Tensor] = {}

    def put(name: str, convolution: str, norm: str) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = folded(convolution, norm)

    put("stem", "_conv_stem", "_bn0")
    blocks = [name for name, module in Encoder().named_modules() if isinstance(module, InvertedResidual)]
    for number, ours in enumerate(blocks):
        theirs = f"_blocks.{number}"
        if f"{theirs}._expand_conv.weight" in published:
            put(f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
        put(f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        put(f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
    return state


if __name__ == "__main__":
    main()
