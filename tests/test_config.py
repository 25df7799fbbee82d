"""Settings: precedence, checks, and errors that name the setting."""

import json
from dataclasses import replace

import pytest

from argan.config import PRESETS, TrainConfig, override, parse_settings, resolve_config, to_dict, with_system
from argan.errors import UsageError


def test_later_sources_win(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("steps = 11\nbatch = 7\n[loss]\nprior = 0.5\nr1 = 3\n")
    config = resolve_config("argan-64", file, ["batch=9", "loss.prior=0.25"], {"steps": 13})
    assert (config.steps, config.batch, config.loss.prior, config.loss.r1) == (13, 9, 0.25, 3.0)
    assert config.model.resolution == 64


def test_json_files_and_round_trip(tmp_path):
    file = tmp_path / "run.json"
    file.write_text(json.dumps(to_dict(PRESETS["argan-128"])))
    assert resolve_config(None, file, [], {}) == PRESETS["argan-128"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["nothing=1"], "no setting nothing"),
        (["loss.nothing=1"], "no setting loss.nothing"),
        (["steps=many"], "steps takes int"),
        (["steps=1.5"], "steps takes int"),
        (["batch=true"], "batch takes int"),
        (["loss.mixture=sometimes"], "loss.mixture is one of bernoulli, uniform, deep, shallow"),
        (["steps"], "key=value"),
        (["loss=1"], "loss"),
        (["loss=1", "loss.prior=2"], "loss is set to a value"),
    ],
)
def test_wrong_settings_are_named(settings, said):
    with pytest.raises(UsageError, match=said):
        override(TrainConfig(), parse_settings(settings))


def test_systems_are_presets_of_the_same_sizes():
    for size in (64, 128):
        base = PRESETS[f"argan-{size}"]
        for system in ("gan", "rgbd", "argan-rgbd", "modern"):
            preset = PRESETS[f"{system}-{size}"]
            assert preset.name == f"{system}-{size}"
            assert (preset.steps, preset.batch, preset.data) == (base.steps, base.batch, base.data)
            same = {"resolution": size, "width": base.model.width, "z_dim": base.model.z_dim}
            assert {name: getattr(preset.model, name) for name in same} == same
    assert PRESETS["cyclegan"].players == "cycle"
    assert PRESETS["rgbd-64"].loss.consistency_start == 2_000
    short = replace(PRESETS["argan-64"], steps=300)
    assert with_system(short, "rgbd", "short").loss.consistency_start == 30
    assert with_system(short, "argan-rgbd", "short").loss.consistency_start == 150
    assert with_system(PRESETS["argan-64"], "argan", "x") == replace(PRESETS["argan-64"], name="x")
    assert [PRESETS[f"{name}-64"].model.viewpoints for name in ("gan", "argan", "rgbd", "argan-rgbd")] == [
        *(False, False, True, True)
    ]


def test_text_needs_no_quotes():
    assert parse_settings(["data=photos/my folder"]) == {"data": "photos/my folder"}
    assert parse_settings(['name="x"', "loss.r1=1"]) == {"name": "x", "loss": {"r1": 1}}


def test_unknown_presets_and_broken_files(tmp_path):
    with pytest.raises(UsageError, match="no preset"):
        resolve_config("best", None, [], {})
    (tmp_path / "broken.toml").write_text("steps = ")
    with pytest.raises(UsageError, match="not valid TOML"):
        resolve_config(None, tmp_path / "broken.toml", [], {})
    (tmp_path / "list.JSON").write_text("[1, 2]")
    with pytest.raises(UsageError, match="holds no settings"):
        resolve_config(None, tmp_path / "list.JSON", [], {})
    (tmp_path / "bytes.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(UsageError, match="not valid TOML"):
        resolve_config(None, tmp_path / "bytes.toml", [], {})
    (tmp_path / "notepad.toml").write_bytes("steps = 7".encode("utf-8-sig"))
    assert resolve_config(None, tmp_path / "notepad.toml", [], {}).steps == 7


def test_data_and_name_are_not_empty():
    for name in ("data", "name"):
        with pytest.raises(UsageError, match=f"{name} is empty"):
            resolve_config(None, None, [f'{name}=""'], {})


def test_consistency_sets_in_after_the_same_share_of_a_shorter_run():
    def start(preset: str, *settings: str) -> int:
        return resolve_config(preset, None, list(settings), {}).loss.consistency_start

    assert start("argan-rgbd-64", "steps=4000") == 2_000
    assert start("rgbd-64", "steps=1500") == 30
    assert start("rgbd-64", "steps=5000", "loss.consistency_start=2000") == 2_000  # the preset's, and asked for
    assert start("argan-rgbd-64", "steps=4000", "loss.consistency_start=100") == 100
    with pytest.raises(UsageError, match="consistency") as caught:
        start("argan-rgbd-64", "steps=4000", "loss.consistency_start=4000")
    assert "consistency_start=2000" in caught.value.hint


@pytest.mark.parametrize(
    "setting", ["batch=0", "log_every=0", "keep_checkpoints=-1", "loss.r1_interval=0", "model.width=0", "steps=0"]
)
def test_settings_that_no_run_can_have(setting):
    with pytest.raises(UsageError, match="at least 1"):
        resolve_config("synthetic-cpu", None, [setting], {})


@pytest.mark.parametrize("setting", ["loss.prior=-1", "generator_lr=-1", "seed=-1", "model.max_disparity=-0.1"])
def test_no_number_is_negative(setting):
    with pytest.raises(UsageError, match="at least 0"):
        resolve_config("synthetic-cpu", None, [setting], {})


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        *(("loss.prior=nan", "finite"), ("ema_images=inf", "finite"), ('name=""', "name")),
        (f"loss.prior={10**400}", "loss.prior takes no number as large"),
    ],
)
def test_what_is_no_number_and_no_name(setting, said):
    with pytest.raises(UsageError, match=said):
        resolve_config("synthetic-cpu", None, [setting], {})


@pytest.mark.parametrize(
    "setting",
    ["loss.r2=0.5", "loss.augment=0.5", "loss.adversarial=relativistic", "loss.mixture=deep", "loss.prior=0.1"]
    + ["loss.consistency=1", "model.views=7", "model.width=32", "model.depth_stride=2"],
)
def test_settings_that_cyclegan_has_no_use_for(setting):
    with pytest.raises(UsageError, match=f"CycleGAN has no {setting.partition('=')[0]}"):
        resolve_config("cyclegan", None, [setting], {})


@pytest.mark.parametrize(
    "setting", ["model.resolution=64", "model.discriminator_width=16", "loss.cycle=5", "loss.r1=1"]
)
def test_settings_that_cyclegan_uses(setting):
    assert resolve_config("cyclegan", None, [setting], {}) != PRESETS["cyclegan"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [("translator.width=16", "CycleGAN's"), ("loss.cycle=5", "CycleGAN's"), ("loss.identity=1", "CycleGAN's")]
    + [("loss.consistency=1", "viewpoints"), ("loss.geometry=1", "viewpoints"), ("loss.augment=7", "probability")],
)
def test_settings_that_an_aperture_alone_has_no_use_for(setting, said):
    with pytest.raises(UsageError, match=said):
        resolve_config("argan-64", None, [setting], {})


def test_viewpoints_use_consistency():
    config = resolve_config("argan-64", None, ["loss.consistency=1", "loss.geometry=1", "model.yaw=0.3"], {})
    assert config.loss.consistency == config.loss.geometry == 1
