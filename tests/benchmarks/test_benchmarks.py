"""What the studies calculate themselves, on answers that are known; the training they do is tested elsewhere."""

import json
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import benchmarks
from argan.config import PRESETS, override
from benchmarks import cyclegan_study, real_depth, step, systems

# --- AR-GAN-DR beside CycleGAN ----------------------------------------------------------------------------------------


def test_lab_of_known_colours():
    colors = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1], [0.5, 0.5, 0.5]])
    known = torch.tensor([[100.0, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86], [53.39, 0, 0]])
    torch.testing.assert_close(cyclegan_study.lab(colors.T[:, :, None]).squeeze(2).T, known, atol=0.05, rtol=0)


def test_compare_sees_colours_and_blur_where_they_are():
    photo = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    focused = torch.zeros(32, 32, dtype=torch.bool)
    focused[8:24, 8:24] = True
    same = cyclegan_study.compare(photo, photo, focused)
    assert list(same.values()) == [0, 1, 1]
    blurred = torch.nn.functional.avg_pool2d(photo[None], 3, stride=1, padding=1, count_include_pad=False)[0]
    background = cyclegan_study.compare(photo, torch.where(focused, photo, blurred), focused)
    assert background["colour shift in focus"] == 0
    assert background["sharpness kept in focus"] == pytest.approx(1, abs=0.15)  # but for the rim
    assert background["sharpness left out of focus"] < 0.5
    tinted = cyclegan_study.compare(photo, photo * torch.tensor([0.8, 1.0, 1.0]).view(3, 1, 1), focused)
    assert tinted["colour shift in focus"] > 5


def test_study_reports_means_of_both_methods():
    scores = {
        method: [{"a": value, "b": 1.0} for value in values]
        for method, values in {"AR-GAN-DR": [1.0, 3.0], "CycleGAN": [5.0, 5.0]}.items()
    }
    text = cyclegan_study.report(scores, Namespace(data="photos.zip", masks=None), width=0.3)
    assert "2 photographs of photos.zip; in focus: disparity within 0.15 of the focus" in text
    assert "| AR-GAN-DR | 2 (1 to 3) | 1 (1 to 1) | yes |" in text
    assert "| CycleGAN | 5 (5 to 5) | 1 (1 to 1) | no |" in text


# --- the systems' table -----------------------------------------------------------------------------------------------


def test_every_system_starts_from_the_same_preset():
    arguments = Namespace(preset="argan-64", data="synthetic", steps=300, settings=["batch=8"])
    configs = {system: systems.run_config(arguments, system, seed=3) for system in systems.TITLES}
    assert {(c.steps, c.batch, c.seed, c.data) for c in configs.values()} == {(300, 8, 3, "synthetic")}
    assert len({c.name for c in configs.values()}) == len(systems.TITLES)
    assert configs["rgbd"].loss.consistency_start == 30


def test_runs_that_are_not_there_cannot_be_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["systems.py", "--measure", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="no runs of argan-64"):
        systems.main()
    assert not list(tmp_path.iterdir())


def test_table_has_a_column_a_system_and_says_what_is_missing(tmp_path):
    def score(value, prior=None):
        return {"value": value, "low": value - 1, "high": value + 1, "prior": prior}

    results = [
        *({"system": "gan", "seed": seed, "steps": 7 + 2 * seed, "steps_per_second": 2.0, "features": None,
           "scores": {"KID": score(4.0 + seed)}} for seed in (0, 1)),
        {"system": "argan", "seed": 0, "steps": 9, "steps_per_second": 1.0, "features": None,
         "scores": {"KID": score(3.0), "AUC": score(2.0, prior=1.5)}},
    ]  # fmt: skip
    arguments = Namespace(data="flowers.zip", preset="argan-64", seeds=2, num=10, device="cpu")
    text = systems.report(results, arguments)
    assert "| | GAN, 2 seeds | AR-GAN |" in text
    assert "| KID | 4.5 (4 to 5) | 3 (2 to 4) |" in text
    assert "| AUC | - | 2 (1 to 3); prior 1.5 |" in text
    assert "10 samples" in text
    assert "| steps | 8 | 9 |" in text
    document = tmp_path / "results.md"
    systems.write_between_marks(document, "first")
    document.write_text(document.read_text() + "\nAfter.\n")
    systems.write_between_marks(document, text)
    written = document.read_text()
    assert "first" not in written
    assert text in written
    assert written.endswith("After.\n")


# --- depth on real photographs ----------------------------------------------------------------------------------------


def test_a_pair_of_focus_says_which_side_is_nearer(tmp_path):
    sharp = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    soft = np.asarray(Image.fromarray(sharp).resize((32, 32), Image.Resampling.BOX).resize((256, 256)))
    left, right = np.s_[:, :128], np.s_[:, 128:]
    near, far = sharp.copy(), sharp.copy()
    near[right], far[left] = soft[right], soft[left]
    (tmp_path / "multifocus").mkdir()
    for name, pixels in {"near": near, "far": far, "aif": sharp}.items():
        Image.fromarray(pixels).save(tmp_path / "multifocus" / f"01-{name}.jpg", quality=95)
    ((name, photo, truth),) = real_depth.pairs(tmp_path)
    assert (name, photo.shape) == ("01", (3, 256, 256))
    assert (truth[:, :116] == 1).all()
    assert (truth[:, 140:] == 0).all()
    left_nearer = torch.linspace(1, 0, 256).expand(1, 1, 256, 256)
    assert real_depth.judge(lambda image: left_nearer[..., : image.shape[3]], tmp_path, kinds=("pairs",)) == {
        "pairs": {"01": pytest.approx(1.0)}
    }


def test_lead_on_pairs_of_focus_has_an_interval(monkeypatch):
    monkeypatch.syspath_prepend(Path(benchmarks.__path__[0]))  # as for a script, whose neighbours are at hand
    from benchmarks import bokeh_light_field

    scores = {"gather": [30.0, 31.0, 32.0], "argan": [30.5, 31.5, 32.5], "layers": [31.0, 31.0, 33.0]}
    rows = [{"renderer": who, "whole_db": value} for who, values in scores.items() for value in values]
    gather, layers = bokeh_light_field.lead(rows)
    assert gather.endswith(" +0.50 dB, +0.50 to +0.50; ahead on 3 of 3")
    assert layers.endswith(" -0.17 dB, -0.50 to +0.50; ahead on 1 of 3")
    assert list(bokeh_light_field.lead(rows[:3])) == []


def test_taps_and_launches_of_a_render_are_counted(monkeypatch):
    """One plane, all of it blurred by 2 pixels: every pixel of a block gathers the square about the one disc."""
    from argan.kernels.bokeh import Aperture, aperture_kernel

    monkeypatch.syspath_prepend(Path(benchmarks.__path__[0]))  # as for a script, whose neighbours are at hand
    from benchmarks import bokeh_budget as budget

    costs = budget.count(torch.rand(1, 3, 64, 64), torch.full((1, 1, 64, 64), -2.0), Aperture(), tap_bytes=16)
    taps = 64 * 64 * aperture_kernel("disk", -2.0).numel()  # zeros in its corners too
    assert costs["spread"].taps == budget.total(costs).taps == taps
    assert costs["spread"].tap_lines == taps / 8
    assert costs["over"].bytes > 4 * 64 * 64 * 10  # the layer, and RGBA and what passes read and written
    assert costs["over"].launches > 0
    assert "inpaint" not in costs  # nothing hides anything


def test_parts_of_a_step_are_timed(monkeypatch, capsys):
    tiny = ["batch=2", "synthetic_photos=4", "model.resolution=16", "model.z_dim=4", "model.width=8"]
    tiny += ["model.discriminator_width=8"]
    settings = [word for setting in tiny for word in ("--set", setting)]
    monkeypatch.setattr(sys, "argv", ["step.py", "--preset", "synthetic-cpu", "--repeats", "1", *settings])
    step.main()
    result = json.loads(capsys.readouterr().out)
    assert 0 < result["ms"]["render, forward and backward"] < result["step_ms"]
    assert result["images_per_second"] == pytest.approx(2000 / result["step_ms"])


def test_the_gpu_that_works_is_the_one_that_is_waited_for(monkeypatch):
    """PyTorch waits for the current one, the first, if it is told of none."""
    second, asked = torch.device("cuda:1"), []
    for name in ("synchronize", "reset_peak_memory_stats", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device=None: asked.append(device) or 0)
    monkeypatch.syspath_prepend(Path(benchmarks.__path__[0]))
    from benchmarks import bokeh

    monkeypatch.setattr(bokeh, "render_bokeh", lambda *_, **__: None)
    step.seconds(lambda: None, 1, second)
    bokeh.measure(SimpleNamespace(is_cuda=True, device=second), None, 1.0, 0.5, "auto", 1)
    assert asked == [second] * 6


@pytest.mark.parametrize("system", ["gan", "rgbd"])
def test_steps_of_a_system_are_timed(system):
    small = {"batch": 2, "steps": 10, "model": {"resolution": 16, "z_dim": 4, "width": 8, "discriminator_width": 8}}
    config = systems.with_system(override(PRESETS["synthetic-cpu"], small), system, system)
    assert systems.time_steps(config, 2, "cpu") > 0
