"""A tiny, untrained model exported as the examples need it, and a photo."""

import numpy as np
import pytest
import torch
from PIL import Image

from argan.export import FORMATS, targets_of
from argan.models.hub import Config, DepthInfo, Model


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder of depth.onnx, render.onnx, pipeline.onnx and pipeline.pt. They are verified in tests/export."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(3)
    depth = DepthInfo(width=8, resolution=16, far=-2.0, near=2.0, levels=2)
    model = Model(Config(name="tiny", depth=depth, card={"licence": "CC0-1.0"})).eval().requires_grad_(False)
    model.depth.estimator.head.weight.mul_(10)  # so that untrained depth has a range, some of it out of focus
    for name, format in [("depth", "onnx"), ("render", "onnx"), ("pipeline", "onnx"), ("pipeline", "torchscript")]:
        (target,) = targets_of(model, name)
        FORMATS[format].write(target, folder / f"{name}{FORMATS[format].suffix}")
    return folder


@pytest.fixture(scope="session")
def photo(tmp_path_factory):
    """A PNG of 203 x 151 px with smooth shading, hard edges and fine detail."""
    y, x = np.mgrid[:151, :203] / 151
    shading = np.stack([0.3 + 0.4 * x, 0.8 - 0.6 * y, 0.2 + 0.3 * x * y], axis=2)
    shading[(x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.05] = (0.9, 0.7, 0.1)
    shading += 0.15 * (np.sin(60 * x) * np.sin(75 * y))[:, :, None]
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray((255 * np.clip(shading, 0, 1) + 0.5).astype(np.uint8)).save(path)
    return path


def psnr(a, b):
    """Of two pictures with 8 bits, in dB."""
    error = np.mean((np.asarray(a, np.float64)[:, :, :3] - np.asarray(b, np.float64)[:, :, :3]) ** 2)
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)
