"""The metrics against their definitions, written out without thought for speed, and against known values."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from argan import metrics

# Few distinct values, so that ties are the rule.
maps = st.lists(st.integers(-3, 3), min_size=2, max_size=40).map(lambda values: torch.tensor(values).float())
pairs_of_maps = st.integers(2, 40).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(-3, 3), min_size=n, max_size=n).map(torch.tensor)] * 2)
)
INCREASING = [lambda x: 3 * x - 7, torch.exp, lambda x: x**3, lambda x: x.atan()]


def random_map(seed, *size, dtype=torch.float32):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- ranks, Spearman --------------------------------------------------------------------------------------------------


@given(maps)
def test_average_ranks_are_the_mean_place_among_equals(values):
    less = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    assert torch.equal(metrics.average_ranks(values), less + (equal + 1) / 2.0)


def test_average_ranks_refuse_nan():
    with pytest.raises(ValueError, match="NaN"):
        metrics.average_ranks(torch.tensor([1.0, math.nan]))


@given(pairs_of_maps)
def test_spearman_equals_scipy(maps):
    a, b = maps
    if a.unique().numel() == 1 or b.unique().numel() == 1:
        assert metrics.spearman(a, b) == 0  # a constant map states no order
    else:
        assert metrics.spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("increasing", INCREASING)
def test_spearman_sees_order_only(increasing, dtype):
    truth = random_map(0, 1, 9, 13, dtype=dtype)
    estimate = truth + random_map(1, 1, 9, 13, dtype=dtype)
    assert metrics.spearman(increasing(truth), truth) == pytest.approx(1)
    assert metrics.spearman(-increasing(truth), truth) == pytest.approx(-1)
    assert metrics.spearman(increasing(estimate), truth) == pytest.approx(metrics.spearman(estimate, truth))
    assert 0.5 < metrics.spearman(estimate, truth) < 0.9


def test_spearman_takes_views_that_are_not_contiguous():
    a, b = random_map(0, 12, 8), random_map(1, 8, 12)
    assert metrics.spearman(a.T, b) == pytest.approx(metrics.spearman(a.T.contiguous(), b))


@pytest.mark.parametrize("measure", [metrics.spearman, metrics.side, metrics.ordinal_accuracy, metrics.area_under_roc])
def test_maps_of_different_shape_are_refused(measure):
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        measure(torch.rand(2, 3), torch.rand(3, 2))


# --- figure and ground ------------------------------------------------------------------------------------------------


@given(pairs_of_maps)
def test_area_under_roc_is_the_probability_by_its_definition(maps):
    score, mask = maps[0], maps[1] > 0
    if mask.all() or not mask.any():
        with pytest.raises(ValueError, match="both figure and ground"):
            metrics.area_under_roc(score, mask)
        return
    step = score[mask][:, None] - score[~mask][None]
    expected = ((step > 0).double() + (step == 0).double() / 2).mean()
    assert metrics.area_under_roc(score, mask) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("increasing", INCREASING)
def test_area_under_roc_sees_order_only(increasing):
    score, mask = random_map(0, 11, 7), random_map(1, 11, 7) > 0.4
    assert metrics.area_under_roc(increasing(score), mask) == pytest.approx(metrics.area_under_roc(score, mask))
    assert metrics.area_under_roc(-score, mask) == pytest.approx(1 - metrics.area_under_roc(score, mask))


def test_area_under_roc_known_values():
    mask = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert metrics.area_under_roc(torch.tensor([4.0, 3.0, 2.0, 1.0]), mask) == 1
    assert metrics.area_under_roc(torch.tensor([1.0, 1.0, 1.0, 1.0]), mask) == 0.5
    assert metrics.area_under_roc(torch.tensor([4.0, 1.0, 2.0, 3.0]), mask) == 0.5
    assert metrics.area_under_roc(torch.tensor([1.0, 2.0, 3.0, 4.0]), mask) == 0


# --- ordinal accuracy, SIDE -------------------------------------------------------------------------------------------


def test_ordinal_accuracy_equals_all_pairs_of_a_small_map():
    truth = random_map(0, 6, 5)
    estimate = (truth + random_map(1, 6, 5)).round()  # rounding makes ties
    right = asked = 0.0
    for i in range(30):
        for j in range(30):
            step = float(truth.flatten()[i] - truth.flatten()[j])
            if abs(step) > 0.1 * float(truth.max() - truth.min()):
                asked += 1
                guess = float(estimate.flatten()[i] - estimate.flatten()[j])
                right += 0.5 if guess == 0 else float((guess > 0) == (step > 0))
    sampled = metrics.ordinal_accuracy(estimate, truth, pairs=200_000, margin=0.1)
    assert sampled == pytest.approx(right / asked, abs=0.01)


def test_ordinal_accuracy_known_values():
    truth = random_map(0, 16, 16)
    assert metrics.ordinal_accuracy(truth.exp(), truth) == 1
    assert metrics.ordinal_accuracy(-truth, truth) == 0
    assert metrics.ordinal_accuracy(torch.zeros(16, 16), truth) == 0.5
    assert math.isnan(metrics.ordinal_accuracy(truth, torch.ones(16, 16)))


def test_side_by_its_formula():
    estimate, truth = random_map(0, 7, 9), random_map(1, 7, 9)
    stretch = lambda x: 0.1 + 0.9 * (x - x.min()) / (x.max() - x.min())  # noqa: E731
    e = np.log(stretch(estimate.double().numpy())) - np.log(stretch(truth.double().numpy()))
    assert metrics.side(estimate, truth) == pytest.approx(math.sqrt((e**2).mean() - e.mean() ** 2))


def test_side_ignores_scale_and_shift_and_nothing_else():
    truth = random_map(0, 7, 9)
    assert metrics.side(5 * truth - 3, truth) == pytest.approx(0, abs=1e-5)
    assert metrics.side(truth**3, truth) > 0.1
    assert metrics.side(-truth, truth) > metrics.side(truth + 0.3 * random_map(1, 7, 9), truth)
    assert math.isfinite(metrics.side(torch.zeros(7, 9), truth))


# --- the centre prior -------------------------------------------------------------------------------------------------


def test_centre_prior_is_a_plateau_and_a_cone():
    prior = metrics.centre_prior(torch.zeros(3, 9, 13))[0, 0]
    assert prior.shape == (9, 13)
    for y, x in [(4, 6), (0, 0), (4, 12), (8, 3)]:
        r = math.hypot(y - 4, x - 6)
        assert prior[y, x] == pytest.approx(-max(r - 13 / 4, 0), abs=1e-6)
    assert torch.equal(prior, prior.flip(0))
    assert torch.equal(prior, prior.flip(1))


# --- KID and FID ------------------------------------------------------------------------------------------------------


def kid_by_definition(a, b):
    k = lambda x, y: (float(x @ y) / len(x) + 1) ** 3  # noqa: E731
    same = lambda s: sum(k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j) / len(s) / (len(s) - 1)  # noqa: E731
    return same(a) + same(b) - 2 * sum(k(x, y) for x in a for y in b) / len(a) / len(b)


def test_kid_equals_its_definition():
    a, b = random_map(0, 12, 5, dtype=torch.float64), random_map(1, 9, 5, dtype=torch.float64) + 0.5
    kid = metrics.kid(a, b, subsets=3, subset_size=100)  # sets smaller than the subset are taken whole
    assert kid.value == pytest.approx(kid_by_definition(a, b), rel=1e-10)


def test_kid_of_subsets_is_the_mean_of_their_kids():
    a, b = random_map(0, 6, 4, dtype=torch.float64), random_map(1, 6, 4, dtype=torch.float64) + 1
    value = metrics.kid(a, b, subsets=4000, subset_size=4).value
    assert value == pytest.approx(kid_by_definition(a, b), rel=0.05)  # a U-statistic: subsets have the same mean
    assert value == metrics.kid(a, b, subsets=4000, subset_size=4).value
    assert value != metrics.kid(a, b, subsets=4000, subset_size=4, seed=1).value


def test_kid_does_not_depend_on_the_chunks_it_is_computed_in(monkeypatch):
    a, weights = random_map(0, 10, 3, dtype=torch.float64), torch.rand(10, 2, dtype=torch.float64)
    whole = metrics._mean_kernel(a, a, weights, weights, itself=True)
    monkeypatch.setattr(metrics, "CHUNK", 3)
    parts = metrics._mean_kernel(a, a, weights, weights, itself=True)
    torch.testing.assert_close(whole, parts)


def test_kid_interval_covers_zero_for_equal_distributions_and_not_for_different_ones():
    covered, values = 0, []
    for trial in range(40):
        kid = metrics.kid(random_map(2 * trial, 60, 8), random_map(2 * trial + 1, 60, 8), subsets=1)
        values.append(kid.value)
        covered += kid.low <= 0 <= kid.high
    assert abs(sum(values) / 40) < 0.05  # unbiased: small on average, either sign
    assert min(values) < 0 < max(values)
    assert covered >= 32
    far = metrics.kid(random_map(0, 60, 8), random_map(1, 60, 8) + 0.7, subsets=1)
    assert 0 < far.low < far.value < far.high


def test_kid_is_as_unsure_as_the_smaller_set_whichever_that_is():
    few, many, others = random_map(0, 12, 8), random_map(1, 200, 8), random_map(2, 200, 8) + 0.7
    left, right, sure = (
        kid.high - kid.low
        for kid in (metrics.kid(few, others), metrics.kid(others, few), metrics.kid(many, others, subsets=1))
    )
    assert left == pytest.approx(right, rel=0.3)
    assert left > 1.4 * sure


@pytest.mark.parametrize("count", [2, 3, 5])
def test_kid_of_few_samples_has_an_interval(count):
    """A resample may hold one of them alone, which has no pairs."""
    a, b = (torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    kid = metrics.kid(a, b)
    assert -math.inf < kid.low <= kid.high < math.inf


def test_fid_equals_the_matrix_square_root_form():
    a, b = random_map(0, 40, 6, dtype=torch.float64), random_map(1, 30, 6, dtype=torch.float64) * 1.5 + 1
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(cov_a @ cov_b).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert metrics.fid(a, b) == pytest.approx(float(expected), rel=1e-9)


def test_fid_known_values():
    a = random_map(0, 50, 4)
    assert metrics.fid(a, a) == pytest.approx(0, abs=1e-9)
    assert metrics.fid(a, a + 2) == pytest.approx(16, rel=1e-6)  # equal covariances: the squared shift of the mean
    one = random_map(0, 500, 1, dtype=torch.float64)
    assert metrics.fid(one, 3 * one) == pytest.approx(float((2 * one.mean()) ** 2 + (2 * one.std()) ** 2))
    few, more = random_map(1, 5, 30), random_map(2, 7, 30)  # fewer samples than dimensions: singular covariances
    assert metrics.fid(few, more) == pytest.approx(metrics.fid(more, few))


@pytest.mark.parametrize("measure", [metrics.kid, metrics.fid])
@pytest.mark.parametrize(("a", "b"), [((4, 3), (4, 2)), ((1, 3), (4, 3)), ((4,), (4,))])
def test_features_of_wrong_shape_are_refused(measure, a, b):
    with pytest.raises(ValueError, match="features must be"):
        measure(torch.rand(a), torch.rand(b))


# --- deep against shallow ---------------------------------------------------------------------------------------------


def blur(image, times):
    for _ in range(times):
        image = torch.nn.functional.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
    return image


def test_sharpness_consistency_tells_right_rendering_from_wrong():
    deep = torch.rand(3, 24, 30, generator=torch.Generator().manual_seed(0))
    disparity = torch.linspace(-2, 2, 30).expand(1, 24, 30)
    shallow = torch.where(disparity.abs() <= 0.3, deep, blur(deep, 2))
    right = metrics.sharpness_consistency(deep, shallow, disparity)
    assert right.in_focus > 0.6  # the border of the region sees the blur beside it
    assert right.out_of_focus < 0.1
    wrong = metrics.sharpness_consistency(deep, torch.where(disparity.abs() > 0.3, deep, blur(deep, 2)), disparity)
    assert wrong.in_focus < 0.3 < wrong.out_of_focus
    same = metrics.sharpness_consistency(deep, deep, disparity)
    assert same == (1, 1)
    assert math.isnan(metrics.sharpness_consistency(deep, deep, disparity * 0).out_of_focus)


def test_sharpness_of_what_was_flat_is_unknown():
    deep = torch.rand(3, 24, 30, generator=torch.Generator().manual_seed(0))
    deep[:, :, :15] = 0.5
    disparity = (torch.arange(30) < 14).float().expand(24, 30)  # out of focus, all of it flat
    found = metrics.sharpness_consistency(deep, torch.rand(3, 24, 30), disparity)
    assert math.isnan(found.out_of_focus)
    assert math.isfinite(found.in_focus)


@settings(max_examples=20)
@given(st.floats(-1, 1), st.floats(-1, 1))
def test_gradient_energy_of_a_ramp_is_its_slope(slope_x, slope_y):
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    ramp = (slope_x * x + slope_y * y).expand(3, 5, 7)
    energy = metrics.gradient_energy(ramp)
    assert energy.shape == (3, 5)
    torch.testing.assert_close(energy, torch.full((3, 5), slope_x**2 + slope_y**2).double(), atol=1e-5, rtol=1e-5)


def test_precision_and_recall_of_sets_whose_answer_is_known():
    draw = torch.Generator().manual_seed(0)
    real = torch.randn(200, 4, generator=draw)
    same = metrics.precision_and_recall(real, real)
    assert same.precision.all()
    assert same.recall.all()
    far = metrics.precision_and_recall(real + 100, real)
    assert not far.precision.any()
    assert not far.recall.any()
    collapsed = metrics.precision_and_recall(real[:1] + 0.01 * torch.randn(50, 4, generator=draw), real)
    assert collapsed.precision.double().mean() > 0.9
    assert collapsed.recall.double().mean() < 0.05
    assert collapsed.precision.shape == (50,)
    assert collapsed.recall.shape == (200,)
    with pytest.raises(ValueError, match="neighbours"):
        metrics.precision_and_recall(real[:3], real)


# --- rims -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slope", "expected"), [(0.0, 0.0), (-0.5, 1.0), (0.5, -1.0)])
def test_a_rim_is_a_contour_nearer_than_the_inside(slope, expected):
    """A square whose disparity falls or rises towards its middle, on a ground at 0."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    from_middle = torch.maximum((x - 31.5).abs(), (y - 31.5).abs())
    mask = from_middle < 24
    disparity = mask * (1 + slope * (24 - from_middle) / 24)
    rim = metrics.rim(disparity, mask)
    if expected == 0:
        assert rim == pytest.approx(0, abs=1e-9)
    else:
        assert rim * expected > 0.1
    assert metrics.rim(3 * disparity + 1, mask) == pytest.approx(rim)


def test_a_thin_or_unseen_figure_has_no_rim():
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[30:34] = True
    assert math.isnan(metrics.rim(mask.float(), mask))
    mask[10:50] = True
    assert math.isnan(metrics.rim(torch.linspace(0, 1, 64).expand(64, 64), mask))


@pytest.mark.parametrize(("width", "expected"), [(0, 0), (16, 0.5 - 4.5 / 16), (8, (2.5 + 1.5 + 0.5) / 8 / 7)])
def test_spill_is_how_far_a_ramp_goes(width, expected):
    """A ramp across the outline, as wide as what is judged or half of that: 256 px, 8 px to each side."""
    x = torch.arange(256) - 127.5
    disparity = (0.5 - x / width if width else (x < 0).double()).clamp(0, 1).expand(256, 256)
    mask = (x < 0).expand(256, 256)
    assert metrics.spill(disparity, mask) == pytest.approx(expected)
    assert metrics.spill(3 * disparity + 1, mask) == pytest.approx(metrics.spill(disparity, mask))


def test_no_outline_and_no_step_have_no_spill():
    mask = torch.arange(64).expand(64, 64) < 32
    assert math.isnan(metrics.spill(torch.rand(64, 64), torch.ones(64, 64)))
    assert math.isnan(metrics.spill(torch.zeros(64, 64), mask))
    assert math.isnan(metrics.spill((~mask).float(), mask))  # inside out


def test_intervals_of_means_are_those_of_the_normal_distribution_and_always_the_same():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    interval = metrics.mean_interval(values)
    half = 1.96 * float(values.std()) / 20
    assert interval.value == pytest.approx(float(values.mean()))
    assert interval.high - interval.value == pytest.approx(half, rel=0.1)
    assert interval.value - interval.low == pytest.approx(half, rel=0.1)
    assert metrics.mean_interval(values) == interval


def test_intervals_are_found_where_the_values_are():
    """On a device without memory all operations are checked, and at the end there is no number."""
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta tensors"):
        metrics.mean_interval(torch.empty(8, dtype=torch.double, device="meta"))


@pytest.mark.gpu
def test_intervals_are_alike_on_a_gpu():
    values = random_map(0, 20, dtype=torch.double)
    assert metrics.mean_interval(values.cuda()) == pytest.approx(metrics.mean_interval(values), rel=1e-9)
