"""CycleGAN's translator: any size, and what a model folder of it holds."""

import pytest
import torch

from argan.config import TranslatorConfig
from argan.models import hub
from argan.models.translator import Translator


@pytest.mark.parametrize("size", [(16, 16), (19, 30), (33, 17), (64, 40)])
def test_translator_keeps_the_size_and_the_range(size):
    photo = torch.rand(2, 3, *size)
    made = Translator(width=4, blocks=1)(photo)
    assert made.shape == photo.shape
    assert made.min() >= 0
    assert made.max() <= 1


def test_a_saved_translator_loads_as_it_was(tmp_path):
    model = hub.Model(hub.Config("cycle", translator=TranslatorConfig(width=4, blocks=1))).eval()
    model.save(tmp_path / "cycle")
    loaded = hub.load(tmp_path / "cycle")
    assert loaded.config == model.config
    assert loaded.generator is None
    assert loaded.depth is None
    photo = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        assert torch.equal(loaded.translator(photo), model.translator(photo))
