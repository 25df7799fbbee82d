"""Model folders: saved, loaded, found, and refused when they are not whole."""

import json

import pytest
import torch

from argan.config import ModelConfig
from argan.errors import ArganError, UsageError
from argan.models import hub

SMALL = ModelConfig(resolution=16, z_dim=8, width=8)


def make_model() -> hub.Model:
    card = {"data": "none", "licence": "Apache-2.0"}
    config = hub.Config("tiny", SMALL, hub.DepthInfo(8, 16, -0.5, 0.2), mixture="deep", card=card)
    return hub.Model(config).eval()


def test_a_saved_model_loads_as_it_was(tmp_path):
    model = make_model()
    model.save(tmp_path / "tiny")
    loaded = hub.load(tmp_path / "tiny")
    assert loaded.config == model.config
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    z, photo = torch.randn(2, 8), torch.rand(1, 3, 20, 30)
    with torch.no_grad():
        for ours, theirs in zip(model.generator(z), loaded.generator(z), strict=True):
            assert torch.equal(ours, theirs)
        assert torch.equal(model.depth(photo), loaded.depth(photo))
    assert "Apache-2.0" in (tmp_path / "tiny" / "README.md").read_text()


def test_a_card_says_names_that_are_no_text_as_it_can(tmp_path):
    card = {"data": "photos\udce9/Blüten"}  # a folder's, as Linux gives it
    hub.Model(hub.Config("tiny", SMALL, card=card)).save(tmp_path / "tiny")
    assert hub.load(tmp_path / "tiny").config.card == card
    assert r"photos\udce9/Blüten" in (tmp_path / "tiny" / "README.md").read_text(encoding="utf-8")


def test_what_a_card_says_is_text_whatever_a_person_has_written(tmp_path):
    make_model().save(tmp_path / "tiny")
    config = tmp_path / "tiny" / "config.json"
    values = json.loads(config.read_text())
    for card, read in (
        ({"licence": None, "steps": 7, "data": ["a", "b"]}, {"steps": "7", "data": '["a", "b"]'}),
        (None, {}),
    ):
        config.write_text(json.dumps(values | {"card": card}))
        assert hub.load(tmp_path / "tiny").config.card == read


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path):
    model = make_model()
    model.save(tmp_path / "full")
    model.save(tmp_path / "half", half=True)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = hub.load(tmp_path / "half")
    assert all(p.dtype == torch.float32 for p in loaded.parameters())


def test_saving_again_replaces_the_folder_and_leaves_nothing_else(tmp_path):
    make_model().save(tmp_path / "tiny")
    make_model().save(tmp_path / "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_failed_save_leaves_the_old_model(tmp_path, monkeypatch):
    model = make_model()
    model.save(tmp_path / "tiny")
    before = (tmp_path / "tiny" / "model.safetensors").read_bytes()
    monkeypatch.setattr(hub, "model_card", lambda config: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        make_model().save(tmp_path / "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    assert (tmp_path / "tiny" / "model.safetensors").read_bytes() == before


def test_an_unknown_model_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no model"):
        hub.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "damage", ["truncated", "other network", "newer format", "newer setting", "no group", "not json", "a list"]
)
def test_a_damaged_model_is_one_clear_error(tmp_path, damage):
    folder = tmp_path / "tiny"
    make_model().save(folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage in ("not json", "a list"):
        config.write_text({"not json": "{", "a list": "[]"}[damage])
    else:
        values = json.loads(config.read_text())
        values |= {
            "other network": {"generator": {"resolution": 32}},
            "newer format": {"format": 99},
            "newer setting": {"generator": {"lightness": 1}},
            "no group": {"generator": 64},
        }[damage]
        config.write_text(json.dumps(values))
    with pytest.raises(ArganError, match="not a readable model"):
        hub.load(folder)


def test_shipped_models_load_and_estimate_depth():
    assert hub.DEFAULT in hub.shipped()
    for name in hub.shipped():
        model = hub.load(name)
        assert model.depth is not None
        disparity = model.depth(torch.rand(1, 3, 48, 72))
        assert disparity.shape == (1, 1, 48, 72)
        assert {"data", "licence", "command", "measured"} <= set(model.config.card)


def test_where_no_model_is_named_the_shipped_one_is_meant_whatever_lies_here(tmp_path, monkeypatch):
    make_model().save(tmp_path / hub.DEFAULT)
    monkeypatch.chdir(tmp_path)
    assert hub.find() == hub.WEIGHTS / hub.DEFAULT
    assert hub.load().config.name != "tiny"
    assert hub.load(hub.DEFAULT).config.name == "tiny"  # a folder that is named goes first
    monkeypatch.setattr(hub, "WEIGHTS", tmp_path / "none")
    with pytest.raises(UsageError, match="no model"):
        hub.load()


def test_checkpoints_are_in_order_of_their_steps_and_nothing_else(tmp_path):
    for name in ("step-10000000", "step-9999500", "step-0000002", "step-0000002.bak", "step-", "other"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert [path.name for path in hub.checkpoints(tmp_path)] == ["step-0000002", "step-9999500", "step-10000000"]
    assert hub.newest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-10000000"
    assert hub.newest_checkpoint(tmp_path / "none") is None
