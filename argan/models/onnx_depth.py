"""Depth from an ONNX file in the place of a `DepthPredictor`: any depth model that a user has serves `argan.render`."""

from __future__ import annotations  # naming `runtime.Estimator` alone would load ONNX Runtime

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from argan import runtime
from argan.errors import UsageError
from argan.guided import fit


class OnnxDepth(nn.Module):
    """A photo of any size to its disparity in [0, 1], 1 = nearest, by ONNX Runtime.

    Args:
        path: depth.onnx of `argan export`, or a depth model of somebody else's.
        settings: how that takes a picture, see `argan.runtime.depth_models.Convention`.

    Attributes:
        auto: whether nobody has named a device: the CPU then works for pictures on a GPU, where ONNX Runtime has none.

    Raises:
        UsageError: the file renders too: that takes `argan.runtime`, and no model of PyTorch's.
    """

    auto = False

    def __init__(self, path: Path, settings: Mapping[str, str] | None = None):
        super().__init__()
        self.path, self.settings = path, dict(settings or {})
        self._opened: dict[str, runtime.Estimator] = {}
        self.estimator = self._open("cpu")

    @property
    def name(self) -> str:
        return self.estimator.name

    @property
    def focus(self) -> float | None:
        """The learned focal plane, as a disparity in [0, 1]; None where the model has none."""
        return self.estimator.focus

    @property
    def focus_range(self) -> float | None:
        """What the model has learned to see sharp, a width in disparity; None where nothing says."""
        return self.estimator.focus_range

    @property
    def resolution(self) -> int:
        """Px of the short side that the model works at."""
        return self.estimator.resolution

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W) display-encoded in [0, 1] -> disparity (B, 1, H, W) in [0, 1].

        A map that is coarser than the picture gets its edges from it: see `argan.guided`.
        """
        return torch.cat([self._one(picture) for picture in image.split(1)])

    def _one(self, image: Tensor) -> Tensor:
        estimator, array = self._open(self.place(image.device)), image.detach().cpu().numpy()
        if isinstance(estimator, runtime.DepthFile):
            return torch.from_numpy(estimator.disparity_of(array))[None, None].to(image)
        return fit(torch.from_numpy(estimator.coarse(array))[None, None].to(image), image)

    def place(self, device: torch.device) -> str:
        """Where ONNX Runtime is to work for a picture on `device`."""
        return "auto" if self.auto and device.type != "cpu" else str(device)

    def _open(self, device: str) -> runtime.Estimator:
        """The file on `device`, opened once."""
        if device not in self._opened:
            opened = runtime.load(self.path, device=device, settings=self.settings)
            if not isinstance(opened, runtime.Estimator):
                raise UsageError(
                    f"{self.path} renders by itself", hint="argan render --model takes it, or argan.runtime.load"
                )
            self._opened[device] = opened
        return self._opened[device]
