"""Depth against truth, of estimators whose right answer is known."""

import pytest
import torch

from argan import metrics
from argan.evaluation.depth import depth_against_truth
from argan.evaluation.truth import held_out


def oracle(photos):
    """An estimator that knows the truth of these photographs."""
    truths = {photo.numpy().tobytes(): truth for photo, truth in photos}
    return lambda image: truths[image[0].numpy().tobytes()][None]


def test_depth_against_truth_knows_a_perfect_estimate_and_the_bare_prior():
    photos = list(held_out(16, 6))
    perfect = depth_against_truth(oracle(photos), photos)
    assert [round(row.value, 9) for row in perfect] == [1, 1, 0]
    assert all(row.count == 6 for row in perfect)
    reversed_order = depth_against_truth(lambda image: -oracle(photos)(image), photos)
    assert [round(row.value, 9) for row in reversed_order[:2]] == [-1, 0]
    prior = depth_against_truth(metrics.centre_prior, photos)
    assert [row.value for row in prior] == [pytest.approx(row.centre_prior) for row in perfect]
    assert all(row.low <= row.value <= row.high for row in prior)


def test_rows_say_whose_depth_they_are_measured_against_and_which_way_is_better():
    rows = depth_against_truth(metrics.centre_prior, held_out(16, 2), "measured")
    assert all("measured" in row.measure for row in rows)
    assert [row.better for row in rows] == ["higher", "higher", "lower"]


def test_pixels_whose_depth_is_unknown_do_not_count():
    photo, truth = next(iter(held_out(16, 1)))
    sparse = torch.where(torch.arange(16) % 2 == 0, truth, torch.nan)
    wrong_elsewhere = torch.where(sparse.isnan(), -truth, truth)
    rows = depth_against_truth(lambda image: wrong_elsewhere[None], [(photo, sparse)])
    assert [round(row.value, 9) for row in rows] == [1, 1, 0]
    assert depth_against_truth(lambda image: wrong_elsewhere[None], [(photo, truth)])[0].value < 0.9


def test_depth_maps_without_depth_are_left_out():
    (photo, truth), other = held_out(16, 2)
    flat, unknown = torch.full_like(truth, 0.5), torch.full_like(truth, torch.nan)
    with pytest.warns(UserWarning, match="no depth") as said:
        rows = depth_against_truth(metrics.centre_prior, [(photo, flat), other, (photo, unknown)])
    assert [row.count for row in rows] == [1, 1, 1]
    assert ["photograph 1 " in str(said[0].message), "photograph 3 " in str(said[1].message)] == [True, True]
