"""What the studies calculate themselves, on answers that are known; the training they do is tested elsewhere."""

import importlib.util
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def systems():
    return script("systems")


@pytest.fixture(scope="module")
def study():
    return script("cyclegan_study")


# --- AR-GAN-DR beside CycleGAN ----------------------------------------------------------------------------------------


def test_lab_of_known_colours(study):
    colors = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1], [0.5, 0.5, 0.5]])
    known = torch.tensor([[100.0, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86], [53.39, 0, 0]])
    torch.testing.assert_close(study.lab(colors.T[:, :, None]).squeeze(2).T, known, atol=0.05, rtol=0)


def test_compare_sees_colours_and_blur_where_they_are(study):
    photo = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    focused = torch.zeros(32, 32, dtype=torch.bool)
    focused[8:24, 8:24] = True
    same = study.compare(photo, photo, focused)
    assert list(same.values()) == [0, 1, 1]
    blurred = torch.nn.functional.avg_pool2d(photo[None], 3, stride=1, padding=1, count_include_pad=False)[0]
    background = study.compare(photo, torch.where(focused, photo, blurred), focused)
    assert background["colour shift in focus"] == 0
    assert background["sharpness kept in focus"] == pytest.approx(1, abs=0.15)  # but for the rim
    assert background["sharpness left out of focus"] < 0.5
    tinted = study.compare(photo, photo * torch.tensor([0.8, 1.0, 1.0]).view(3, 1, 1), focused)
    assert tinted["colour shift in focus"] > 5


def test_study_reports_means_of_both_methods(study):
    scores = {
        method: [{"a": value, "b": 1.0} for value in values]
        for method, values in {"AR-GAN-DR": [1.0, 3.0], "CycleGAN": [5.0, 5.0]}.items()
    }
    text = study.report(scores, Namespace(data="photos.zip", masks=None))
    assert "2 photographs of photos.zip" in text
    assert "| AR-GAN-DR | 2 (1 to 3) | 1 (1 to 1) | yes |" in text
    assert "| CycleGAN | 5 (5 to 5) | 1 (1 to 1) | no |" in text


# --- the systems' table -----------------------------------------------------------------------------------------------


def test_scenes_come_with_their_disparity_and_without_what_is_unknown(systems, tmp_path):
    Image.new("RGB", (40, 20), (10, 20, 30)).save(tmp_path / "scene.jpg")
    depth = np.full((20, 40), 30000, np.uint16)
    depth[:, 20:] = 0
    Image.fromarray(depth).save(tmp_path / "scene.inv.png")
    ((photo, truth),) = systems.scenes_with_depth(tmp_path, side=32)
    assert photo.shape == (3, 16, 32)
    assert truth.shape == (1, 16, 32)
    assert truth[0, :, 16:].isnan().all()
    torch.testing.assert_close(truth[0, :, :16], torch.full((16, 16), 30000 / 65535))


def test_every_system_starts_from_the_same_preset(systems):
    arguments = Namespace(preset="argan-64", data="synthetic", steps=300, settings=["batch=8"])
    configs = {system: systems.run_config(arguments, system, seed=3) for system in systems.TITLES}
    assert {(c.steps, c.batch, c.seed, c.data) for c in configs.values()} == {(300, 8, 3, "synthetic")}
    assert len({c.name for c in configs.values()}) == len(systems.TITLES)
    assert configs["rgbd"].loss.consistency_start == 30


def test_table_has_a_column_a_system_and_says_what_is_missing(systems, tmp_path):
    def score(value, prior=None):
        return {"value": value, "low": value - 1, "high": value + 1, "prior": prior}

    results = [
        *({"system": "gan", "seed": seed, "steps": 9, "steps_per_second": 2.0, "features": None,
           "scores": {"KID": score(4.0 + seed)}} for seed in (0, 1)),
        {"system": "argan", "seed": 0, "steps": 9, "steps_per_second": 1.0, "features": None,
         "scores": {"KID": score(3.0), "AUC": score(2.0, prior=1.5)}},
    ]  # fmt: skip
    arguments = Namespace(data="flowers.zip", preset="argan-64", seeds=2, num=10, device="cpu")
    text = systems.report(results, arguments)
    assert "| | GAN | AR-GAN |" in text
    assert "| KID | 4.5 (3 to 5) | 3 (2 to 4) |" in text
    assert "| AUC | - | 2 (1 to 3); prior 1.5 |" in text
    assert "9 steps, 2 seeds" in text
    document = tmp_path / "results.md"
    systems.write_between_marks(document, "first")
    document.write_text(document.read_text() + "\nAfter.\n")
    systems.write_between_marks(document, text)
    written = document.read_text()
    assert "first" not in written
    assert text in written
    assert written.endswith("After.\n")
