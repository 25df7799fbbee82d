"""A depth network of the user's own, from a file, as the stand-in for true depth that photographs do not come with."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from argan.errors import ArganError, UsageError
from argan.guided import resize

Input = Literal["unit", "imagenet"]
Kind = Literal["disparity", "distance"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class Surrogate:
    """An ONNX depth network: one photo in, one map out.

    Args:
        path: an .onnx file with an input (1, 3, H, W), float32. Where H and W are fixed in the file, photos are
            stretched to them.
        expects: "unit" for RGB in [0, 1] (as argan's own exports), "imagenet" for RGB normalised by ImageNet's mean
            and deviation (MiDaS, Depth Anything and most others).
        kind: what the map holds: "disparity", larger is nearer, or "distance".
        side: px to stretch photos to where the file leaves H and W open; 0 is the photo's own size.

    Raises:
        UsageError: the file is not an ONNX network with such an input.
    """

    def __init__(self, path: Path, expects: Input = "unit", kind: Kind = "disparity", side: int = 0):
        import onnxruntime

        self.name, self.expects, self.kind = path.name, expects, kind
        try:
            self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes, one for each kind of fault
            raise UsageError(f"{path} is not an ONNX network: {str(error).splitlines()[0]}") from None
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{value.name} {value.shape} {value.type}" for value in inputs)
            raise UsageError(f"{path} takes {found}", hint="a depth network takes one float image (1, 3, H, W)")
        self.input = inputs[0].name
        self.size = tuple(side if not isinstance(axis, int) else axis for axis in inputs[0].shape[2:])

    def __call__(self, image: Tensor) -> Tensor:
        """image (1, 3, H, W) in [0, 1] -> disparity (1, 1, H, W) of the network's own scale, larger is nearer."""
        height, width = image.shape[-2:]
        given = resize(image.float().cpu(), (self.size[0] or height, self.size[1] or width))
        if self.expects == "imagenet":
            mean, deviation = (torch.tensor(x).view(1, 3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_DEVIATION))
            given = (given - mean) / deviation
        try:
            found = np.squeeze(self.session.run(None, {self.input: given.numpy()})[0])
        except Exception as error:
            raise ArganError(f"{self.name} cannot take {tuple(given.shape)}: {str(error).splitlines()[0]}") from None
        if found.ndim != 2:
            raise ArganError(f"{self.name} gives {found.shape}, not one map")
        depth = resize(torch.from_numpy(found.astype(np.float32))[None, None], (height, width))
        return 1 / depth.clamp(min=1e-6) if self.kind == "distance" else depth
