"""A tiny model with every network that can be exported, and its files in every format, written once for all tests."""

import pytest
import torch

from argan.config import ModelConfig
from argan.export import FORMATS, export_target, targets_of
from argan.models.hub import Config, DepthInfo, Model

CARD = {"data": "pictures of nothing", "licence": "CC0-1.0"}


@pytest.fixture(scope="session")
def model():
    torch.manual_seed(0)
    config = Config(
        name="tiny",
        generator=ModelConfig(resolution=16, z_dim=8, width=8),
        depth=DepthInfo(width=8, resolution=16),
        card=CARD,
    )
    return Model(config).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def exported(model, tmp_path_factory):
    """(target, format) -> what export_target returned; each pair is exported when it is first asked for."""
    done = {}

    def get(target, format):
        if (target, format) not in done:
            (one,) = targets_of(model, target)
            done[target, format] = export_target(one, format, tmp_path_factory.mktemp(f"{target}-{format}"))
        return done[target, format]

    return get


@pytest.fixture(params=FORMATS)
def format(request):
    return request.param


@pytest.fixture(params=["generator", "depth"])
def target(request):
    return request.param
