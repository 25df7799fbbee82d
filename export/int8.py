"""8 bits: the depth estimator's convolutions quantised by ONNX Runtime, with ranges from pictures that argan draws.

Weights are quantised by channel and without sign, what goes through them by tensor (QuantizeLinear and
DequantizeLinear, which every runtime folds into integer convolutions where it has them). Of an encoder only the
coarsest level is, which has 92 % of its weights: with the finer ones in 8 bits as well, depth is wrong by 0.03 to 0.06.
Where it limits a convolution's results to 6, they are quantised after that, or all beyond 6 would cost precision.
Normalisation, the guided filter and the renderer are left in float32.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from argan.data.synthetic import draw_photo
from argan.export.targets import Target
from argan.models.encoder import LEVELS
from argan.models.resize import resize

PICTURES = 12  # for calibration
COARSEST = f"/levels.{len(LEVELS) - 1}/"  # of an encoder, in the names of nodes


def quantised(model: onnx.ModelProto, target: Target) -> onnx.ModelProto:
    """The graph with the convolutions of `target.in_int8` in 8 bits."""
    # Imported here: it takes a second.
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Pictures(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = calibration(target)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    chosen = [node.name for node in model.graph.node if node.op_type in ("Conv", "Clip") and chooses(target, node.name)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantised.onnx"
        quantize_static(
            model,
            path,
            Pictures(),
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=chosen,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QUInt8,  # of QInt8, x86 processors without VNNI add products in 16 bits
            extra_options={"WeightSymmetric": True},
        )
        return onnx.load(path)


def chooses(target: Target, node: str) -> bool:
    """Whether 8 bits are enough for a node of this name."""
    return target.in_int8 in node and ("/encoder/" not in node or COARSEST in node)


def calibration(target: Target) -> Iterator[dict[str, np.ndarray]]:
    """Inputs such as the file will see, the same ones every time."""
    for picture in pictures(target):
        inputs: dict[str, Any] = {"image": picture, "blur": torch.tensor([2.0]), "focus": torch.tensor([0.5])}
        yield {name: inputs[name].numpy() for name in target.inputs}


def pictures(target: Target) -> Iterator[torch.Tensor]:
    """Synthetic photographs (1, 3, H, W), of the target's size where it has one."""
    assert target.model_config.depth is not None
    rng, resolution = np.random.default_rng(0), target.model_config.depth.resolution
    for _ in range(PICTURES):
        picture = torch.from_numpy(draw_photo(resolution, rng)[0]).float()[None]
        yield picture if target.size is None else resize(picture, target.size[::-1])
