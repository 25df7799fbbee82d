"""The whole report."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from argan import metrics
from argan.config import ModelConfig
from argan.depth_maps import write_depth
from argan.errors import UsageError
from argan.evaluation import run
from argan.evaluation.report import row_of_means
from argan.evaluation.run import evaluate_model
from argan.evaluation.samples import photo_batches
from argan.models.hub import Config, DepthInfo, Model


def tiny_model() -> Model:
    return Model(Config("tiny", ModelConfig(resolution=16, z_dim=4, width=4), DepthInfo(8, 16, levels=2)))


def values(rows):
    return {row.measure: row for row in rows}


def test_rows_leave_out_what_has_no_answer():
    row = row_of_means("x", [1.0, math.nan, 3.0], None, "higher")
    assert (row.value, row.count, row.centre_prior) == (2, 2, None)
    assert row_of_means("x", [1.0, math.nan], [0.25, math.nan], "higher").centre_prior == 0.25
    unanswered = row_of_means("x", [math.nan], None, "higher")
    assert math.isnan(unanswered.value)
    assert unanswered.count == 0


def test_what_nothing_answers_is_left_out_of_the_report(tmp_path):
    model = tiny_model()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 600, 3), np.uint8)).save(tmp_path / "a.png")
    write_depth(tmp_path / "a.depth.png", np.full((20, 600), 0.5))
    with pytest.warns(UserWarning, match="no depth in it"):
        report = evaluate_model(model, "synthetic", torch.device("cpu"), count=2, features="none", truth=tmp_path)
    measures = {row.measure for row in report.rows}
    assert "Spearman correlation with true disparity" in measures
    assert report.left_out["Spearman correlation with measured disparity"] == "nothing had an answer"
    assert all(row.count for row in report.rows)


def test_a_folder_without_depth_maps_is_refused_before_anything_is_measured(tmp_path):
    def never(*_arguments):
        raise AssertionError("it measures")

    with pytest.raises(UsageError, match="no depth maps"):
        evaluate_model(tiny_model(), "synthetic", torch.device("cpu"), truth=tmp_path, track=never)


def test_depth_that_was_never_learned_is_not_measured():
    flat = Model(replace(tiny_model().config, mixture="deep", depth=None))
    report = evaluate_model(flat, "synthetic", torch.device("cpu"), count=2, features="none")
    assert report.rows == []
    assert "without rendering" in report.left_out["depth of samples"]


def test_kid_and_fid_are_of_what_is_asked_for(monkeypatch, tmp_path):
    """With the mean colours as features, in the place of an extractor that is not installed."""

    class Colours:
        name = "colours"

        def __call__(self, images):
            return images.mean((2, 3)).double()

    monkeypatch.setattr(run, "feature_extractor", lambda name, device: Colours())
    for index in range(12):
        Image.new("RGB", (20, 20), (20 * index, 10, 255 - 20 * index)).save(tmp_path / f"{index}.png")

    def kid(**asked):
        torch.manual_seed(0)
        model = tiny_model().eval()
        report = evaluate_model(model, str(tmp_path), torch.device("cpu"), cache=False, **asked)
        return values(report.rows)["KID x 1000"]

    assert kid(count=8) == kid(count=8)
    assert kid(count=8) != kid(count=8, seed=1)
    assert kid(count=8, mixture="deep").value != kid(count=8, mixture="shallow").value
    assert kid(count=8).count == 8
    seeds, measure = [], metrics.kid
    monkeypatch.setattr(metrics, "kid", lambda *features, seed=0: seeds.append(seed) or measure(*features, seed=seed))
    draw = photo_batches
    monkeypatch.setattr(
        run,
        "photo_batches",
        lambda *given: seeds.append(given[3]) or draw(*given),  # data, side, count, seed
    )
    kid(count=8, seed=7)
    assert seeds == [7, 7]
