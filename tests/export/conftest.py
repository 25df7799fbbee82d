"""A tiny model with every network that can be exported, and its files in every format, written once for all tests."""

import pytest
import torch

from argan.config import ModelConfig
from argan.export import FORMATS, TARGETS, export_target, targets_of
from argan.models.hub import Config, DepthInfo, Model

CARD = {"data": "pictures of nothing", "licence": "CC0-1.0"}


@pytest.fixture(scope="session")
def model():
    torch.manual_seed(0)
    config = Config(
        name="tiny",
        generator=ModelConfig(resolution=16, z_dim=8, width=8),
        depth=DepthInfo(width=16, resolution=16, levels=1),  # each halving makes torch.export reason for longer
        card=CARD,
    )
    model = Model(config).eval().requires_grad_(False)
    model.depth.estimator.head.bias.add_(0.4)  # untrained depth is all in focus otherwise
    return model


@pytest.fixture(scope="session")
def exported(model, tmp_path_factory):
    """target, format, precision, size -> what export_target returned; each is exported when it is first asked for."""
    done = {}

    def get(target, format, precision="fp32", size=None):
        key = (target, format, precision, size)
        if key not in done:
            (one,) = targets_of(model, target, precision, size)
            done[key] = export_target(one, format, tmp_path_factory.mktemp(f"{target}-{format}-{precision}"))
        return done[key]

    return get


MATRIX = [(target, format) for target in TARGETS for format in FORMATS]


def pytest_generate_tests(metafunc):
    if {"target", "format"} <= set(metafunc.fixturenames):
        metafunc.parametrize(("target", "format"), MATRIX)
    elif "target" in metafunc.fixturenames:
        metafunc.parametrize("target", TARGETS)
