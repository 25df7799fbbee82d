"""What is measured: depth against truth or figure masks, samples against photographs, deep against shallow images.

Everything here is a pure function of tensors (or arrays), computed in float64 on the device of its input, and returns
plain floats. Depth is compared by order wherever possible, because a disparity learned without labels is known up to a
monotone map only: `spearman`, `area_under_roc` and `ordinal_accuracy` do not change when the estimate goes through any
increasing function. Where a figure hangs on a choice (a margin, a positive mapping, a feature extractor), the choice is
stated, and the extractor's name belongs in every report of KID and FID.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from argan.light import luminance
from argan.models.aperture import SHARP

QUANTILES = torch.tensor([0.025, 0.975], dtype=torch.double)
RESAMPLES = 2000  # of values, for the interval of their mean
FLOOR = 0.1  # what the least disparity becomes before its logarithm is taken
CHUNK = 1024  # features that are compared with all others at a time


class Interval(NamedTuple):
    """A figure with its 95 % bootstrap interval [`low`, `high`]."""

    value: float
    low: float
    high: float


def mean_interval(values: Sequence[float] | Tensor) -> Interval:
    """The mean of one value per photograph, and the 2.5 to 97.5 percentile of the means of bootstrap resamples."""
    values = torch.as_tensor(values, dtype=torch.double)
    resamples = torch.randint(len(values), (RESAMPLES, len(values)), generator=torch.Generator().manual_seed(0))
    low, high = values[resamples].mean(1).quantile(QUANTILES.to(values))
    return Interval(float(values.mean()), float(low), float(high))


# --- depth ------------------------------------------------------------------------------------------------------------


def average_ranks(values: Tensor) -> Tensor:
    """Ranks 1 … N of the flattened values, float64; equal values share the average of their ranks.

    Raises ValueError on NaN, which has no place in an order.
    """
    values = torch.as_tensor(values).flatten()
    if values.isnan().any():
        raise ValueError("values to rank contain NaN")
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()  # the highest rank in each group of equal values
    return (last - (counts - 1) / 2)[place]


def spearman(estimate: Tensor, truth: Tensor) -> float:
    """Spearman's rank correlation of two maps of the same shape: the Pearson correlation of their average ranks.

    1: the same order everywhere; -1: reversed; 0: no agreement, which is also what a constant map is given, since it
    states no order (the correlation itself is undefined there).
    """
    _same_shape(estimate, truth)
    a, b = average_ranks(estimate), average_ranks(truth).to(torch.as_tensor(estimate).device)
    a, b = a - a.mean(), b - b.mean()
    norm = (a.square().sum() * b.square().sum()).sqrt()
    return float((a * b).sum() / norm) if norm > 0 else 0.0


def area_under_roc(score: Tensor, mask: Tensor) -> float:
    """Is the figure nearer than the ground: P(score of a figure pixel > score of a ground pixel), ties counting half.

    Exact, from the sum R of the figure's average ranks: AUC = (R - F (F + 1) / 2) / (F G) with F figure and G ground
    pixels (Mann and Whitney 1947; Hanley and McNeil 1982).

    Args:
        score: disparity, any shape, larger is nearer.
        mask: the same shape, true (or > 0.5) on the figure.

    Raises:
        ValueError: the shapes differ, or the mask holds no figure or no ground.
    """
    _same_shape(score, mask)
    figure = (torch.as_tensor(mask) > 0.5).flatten()
    size, ground = int(figure.sum()), int((~figure).sum())
    if not size or not ground:
        raise ValueError("the mask must hold both figure and ground")
    rank_sum = average_ranks(score)[figure].sum()
    return float((rank_sum - size * (size + 1) / 2) / (size * ground))


def rim(disparity: Tensor, mask: Tensor) -> float:
    """How much nearer a figure's contour is than its inside, as a fraction of how far it stands out from the ground.

    0: solid; positive: a rim, what is inside lies back; negative: a bulge. Contour and inside are pixels by their
    (chessboard) distance from the ground: up to a quarter of the largest, less 2 px where masks are unsure, and beyond
    six tenths of it.

    Args:
        disparity: (H, W), larger is nearer.
        mask: (H, W), true (or > 0.5) on the figure.

    Returns:
        NaN where the figure is too thin to have an inside, or does not stand out by a twentieth of the map's range.
    """
    _same_shape(disparity, mask)
    disparity = torch.as_tensor(disparity).double()
    figure = torch.as_tensor(mask) > 0.5
    depth_inside = torch.zeros_like(disparity)
    left = figure
    while left.any() and not left.all():
        depth_inside += left
        ground = torch.nn.functional.pad((~left).float()[None, None], (1, 1, 1, 1))
        left = torch.nn.functional.max_pool2d(ground, 3, 1)[0, 0] == 0
    way = depth_inside.max()
    contour, inside = (depth_inside > 2) & (depth_inside <= way / 4 + 2), depth_inside > 0.6 * way
    contrast = (disparity[figure].mean() - disparity[~figure].mean()).abs()
    if not contour.any() or way < 10 or contrast < 0.05 * (disparity.max() - disparity.min()):
        return float("nan")
    return float((disparity[contour].mean() - disparity[inside].mean()) / contrast)


def spill(disparity: Tensor, mask: Tensor) -> float:
    """How far each side's disparity leans towards the other's near a figure's outline, as a fraction of the step.

    0: a step on the outline; nearly 1/4: a ramp as wide as what is judged, 1/32 of the short side on either side, less
    1 px where masks are unsure. Each side's own disparity is its mean beyond that, up to three times as far.

    Args:
        disparity: (H, W), larger is nearer.
        mask: (H, W), true (or > 0.5) on the figure.

    Returns:
        NaN where a side is too thin, or the figure does not stand out by a twentieth of the map's range.
    """
    _same_shape(disparity, mask)
    disparity = torch.as_tensor(disparity).double()
    figure = torch.as_tensor(mask) > 0.5
    reach = max(2, min(figure.shape) // 32)
    ways = []
    for side, sign in ((figure, 1), (~figure, -1)):
        other = (~side).float()[None, None]
        unsure, beside, beyond = (
            torch.nn.functional.max_pool2d(other, 2 * n + 1, 1, n)[0, 0] > 0 for n in (1, reach, 3 * reach)
        )
        beside, beyond = side & beside & ~unsure, side & beyond & ~beside
        if not beside.any() or not beyond.any():
            return float("nan")
        own = disparity[beyond].mean()
        ways.append((own, (sign * (own - disparity[beside])).clamp(min=0).mean()))
    (near, near_way), (far, far_way) = ways
    if near - far < 0.05 * (disparity.max() - disparity.min()):
        return float("nan")
    return float((near_way + far_way) / 2 / (near - far))


def ordinal_accuracy(estimate: Tensor, truth: Tensor, *, pairs: int = 50_000, margin: float = 0.05) -> float:
    """The fraction of random pixel pairs whose near/far order is right; a tie in the estimate counts half.

    Only pairs whose true disparities differ by more than `margin` of the truth's range count, so that noise and flat
    regions do not (after the ordinal error of Chen et al. 2016, "Single-Image Depth Perception in the Wild", with a
    margin on disparity in place of their ratio of depths). 0.5 is chance.

    NaN where no pair of the sample differs by more than the margin. ValueError: the shapes differ.
    """
    _same_shape(estimate, truth)
    estimate, truth = torch.as_tensor(estimate).flatten().double(), torch.as_tensor(truth).flatten().double()
    draw = torch.Generator().manual_seed(0)
    first, second = torch.randint(truth.numel(), (2, pairs), generator=draw).to(truth.device)
    true_step = truth[first] - truth[second]
    asked = true_step.abs() > margin * (truth.max() - truth.min())
    if not asked.any():
        return math.nan
    step = (estimate[first] - estimate[second]).sign()
    return float((1 + step * true_step.sign())[asked].mean() / 2)


def positive(disparity: Tensor) -> Tensor:
    """The mapping under which `side` takes logarithms: minimum to FLOOR, maximum to 1, linear between.

    A constant map becomes 1 everywhere.
    """
    disparity = torch.as_tensor(disparity).double()
    low, high = disparity.min(), disparity.max()
    return FLOOR + (1 - FLOOR) * (disparity - low) / (high - low) if high > low else torch.ones_like(disparity)


def side(estimate: Tensor, truth: Tensor) -> float:
    """Scale-invariant depth error of Eigen et al. 2014: sqrt(mean(e^2) - mean(e)^2) with e = log d - log d*.

    Logarithms need positive values and the disparities here are signed, so both maps first go through `positive`;
    as log depth = -log disparity, the error of disparities is the error of depths. 0 is perfect. It hangs on FLOOR and
    on the extremes of both maps: read it beside `spearman`.
    """
    _same_shape(estimate, truth)
    error = positive(estimate).log() - positive(truth).log()
    return float(error.var(correction=0).sqrt())


def centre_prior(image: Tensor, *, radius: float = 0.25) -> Tensor:
    """The centre focus prior at a slope of 1, as the estimate for every photo: -max(r - R, 0), (1, 1, H, W), px.

    r is the distance from the centre and R = `radius` x width (AR-GAN's prior: in focus and nearest within R, receding
    outside). Whoever claims to have learned depth must beat it.

    Args:
        image: (…, H, W), of which nothing is seen but its size.
    """
    height, width = image.shape[-2:]
    y = torch.arange(height, device=image.device) - (height - 1) / 2
    x = torch.arange(width, device=image.device) - (width - 1) / 2
    return -torch.clamp(torch.hypot(x[None, :], y[:, None]) - radius * width, min=0)[None, None]


# --- samples against photographs --------------------------------------------------------------------------------------


def kid(
    features_a: Tensor,
    features_b: Tensor,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    bootstrap: int = 400,
    seed: int = 0,
) -> Interval:
    """Kernel Inception distance (Binkowski et al. 2018): squared MMD with the kernel k(x, y) = (x . y / d + 1)^3.

    The unbiased estimate

        mean_{i != j} k(a_i, a_j) + mean_{i != j} k(b_i, b_j) - 2 mean_{i, j} k(a_i, b_j)

    is averaged over random subsets of both sets, drawn without replacement (all of a set that is smaller than
    `subset_size`). It can be negative. The interval is the 2.5 to 97.5 percentile of the same estimate over bootstrap
    resamples of both whole sets; a sample drawn twice is never paired with itself, which keeps the estimate unbiased.
    Near a distance of 0, where this U-statistic is degenerate, the interval is about twice too wide: conservative.

    Args:
        features_a, features_b: (N, d) and (M, d), N and M at least 2.

    Returns:
        Interval(value, low, high), not yet times 1000.
    """
    a, b = _features(features_a, features_b)
    draw = torch.Generator().manual_seed(seed)
    # Subsets and resamples are the same thing: each a column of weights, how often it holds each sample.
    weights_a, weights_b = (
        torch.cat(
            [_subset_weights(len(x), subsets, subset_size, draw), _bootstrap_weights(len(x), bootstrap, draw)], dim=1
        ).to(x)
        for x in (a, b)
    )
    estimates = (
        _mean_kernel(a, a, weights_a, weights_a, itself=True)
        + _mean_kernel(b, b, weights_b, weights_b, itself=True)
        - 2 * _mean_kernel(a, b, weights_a, weights_b, itself=False)
    )
    value = estimates[:subsets].mean()
    low, high = estimates[subsets:].nanquantile(QUANTILES.to(estimates))
    return Interval(float(value), float(low), float(high))


def _mean_kernel(x: Tensor, y: Tensor, weights_x: Tensor, weights_y: Tensor, itself: bool) -> Tensor:
    """Weighted mean of k(x_i, y_j), one for each column of weights (N, R), (M, R); without i = j if y is x itself."""
    total = torch.zeros(weights_x.shape[1]).to(x)
    for rows, row_weights in zip(x.split(CHUNK), weights_x.split(CHUNK), strict=True):
        total += (row_weights * (polynomial_kernel(rows, y) @ weights_y)).sum(0)
    pairs = weights_x.sum(0) * weights_y.sum(0)
    if itself:
        total -= (weights_x.square() * (x.square().mean(1, keepdim=True) + 1) ** 3).sum(0)
        pairs -= weights_x.square().sum(0)
    return torch.where(pairs > 0, total / pairs, torch.nan)  # a sample that is drawn alone has no pairs


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x . y / d + 1)^3 of (N, d) and (M, d): (N, M)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _subset_weights(count: int, subsets: int, size: int, draw: torch.Generator) -> Tensor:
    chosen = torch.rand(count, subsets, generator=draw).argsort(0) < min(size, count)
    return chosen.double()


def _bootstrap_weights(count: int, resamples: int, draw: torch.Generator) -> Tensor:
    drawn = torch.randint(count, (count, resamples), generator=draw)
    return torch.zeros(count, resamples, dtype=torch.double).scatter_add_(0, drawn, torch.ones_like(drawn).double())


def fid(features_a: Tensor, features_b: Tensor) -> float:
    """Fréchet distance of two feature sets taken as Gaussians (Heusel et al. 2017), in float64:

        |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))

    The trace of the root is the sum of the square roots of the eigenvalues of S_a^(1/2) S_b S_a^(1/2), which is
    symmetric. The estimate is biased upwards, strongly so with fewer samples than a few times d: compare only figures
    of equal counts, and prefer `kid` for small sets.

    Args:
        features_a, features_b: (N, d) and (M, d), N and M at least 2.
    """
    a, b = _features(features_a, features_b)
    cov_a, cov_b = torch.cov(a.T).reshape(a.shape[1], -1), torch.cov(b.T).reshape(b.shape[1], -1)
    root_a = _symmetric_root(cov_a)
    mean_term = (a.mean(0) - b.mean(0)).square().sum()
    cross = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp(min=0).sqrt().sum()
    return float(mean_term + cov_a.trace() + cov_b.trace() - 2 * cross)


def _symmetric_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _features(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    a, b = torch.as_tensor(a).double(), torch.as_tensor(b).double()
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features must be (N, d) and (M, d), N and M at least 2, not {(*a.shape,)} and {(*b.shape,)}")
    return a, b


class Coverage(NamedTuple):
    """Which samples lie among the photographs, and which photographs among the samples."""

    precision: Tensor
    recall: Tensor


def precision_and_recall(fake: Tensor, real: Tensor, *, neighbors: int = 3) -> Coverage:
    """Fidelity and diversity apart (Kynkäänniemi et al., NeurIPS 2019).

    A set's manifold is the union of balls around its members that just reach their k-th nearest neighbours in the set.
    Precision is the share of samples on the photographs' manifold, recall the share of photographs on the samples':
    samples that are all alike have little recall however good each is.

    Args:
        fake, real: features (N, d) and (M, d), more than `neighbors` of each.

    Returns:
        Coverage(precision (N,), recall (M,)), bool, one answer a sample and a photograph; their means are the measures.
    """
    fake, real = _features(fake, real)
    if min(len(fake), len(real)) <= neighbors:
        raise ValueError(f"{neighbors} neighbours need more than {min(len(fake), len(real))} features")
    return Coverage(_covered(fake, real, neighbors), _covered(real, fake, neighbors))


def _covered(points: Tensor, members: Tensor, neighbors: int) -> Tensor:
    """Whether each point lies in the ball of any member."""
    radii = torch.cat(
        [torch.cdist(part, members).kthvalue(neighbors + 1, dim=1).values for part in members.split(CHUNK)]
    )  # the nearest neighbour of a member is itself
    return torch.cat([(torch.cdist(part, members) <= radii).any(dim=1) for part in points.split(CHUNK)])


# --- deep against shallow ---------------------------------------------------------------------------------------------


class Sharpness(NamedTuple):
    """Sharpness of the shallow image over that of the deep one, in and out of focus; NaN without such a region, and
    where the deep image is flat all over it."""

    in_focus: float
    out_of_focus: float


def sharpness_consistency(deep: Tensor, shallow: Tensor, disparity: Tensor) -> Sharpness:
    """Has the shallow image lost detail exactly where its disparity says so?

    Sharpness of a region is the mean squared gradient of the luminance (central differences) over its pixels. The
    answers are sharpness(shallow) / sharpness(deep) where |D| <= SHARP (in focus: 1 is right) and where |D| > SHARP
    (out of focus: below 1 is right, the smaller the more blur).

    Args:
        deep, shallow: (3, H, W), display-encoded RGB in [0, 1].
        disparity: (H, W) or (1, H, W), signed, in pixels per aperture step.
    """
    in_focus = torch.as_tensor(disparity).reshape(deep.shape[-2:])[1:-1, 1:-1].abs() <= SHARP
    deep_energy, shallow_energy = gradient_energy(deep), gradient_energy(shallow)

    def ratio(region: Tensor) -> float:
        deep, shallow = float(deep_energy[region].mean()), float(shallow_energy[region].mean())
        return shallow / deep if deep else math.nan

    return Sharpness(ratio(in_focus), ratio(~in_focus))


def gradient_energy(image: Tensor) -> Tensor:
    """Squared luminance gradient at the inner pixels of (3, H, W): (H - 2, W - 2), float64."""
    y = luminance(image.double())[0]
    dx = (y[1:-1, 2:] - y[1:-1, :-2]) / 2
    dy = (y[2:, 1:-1] - y[:-2, 1:-1]) / 2
    return dx.square() + dy.square()


def _same_shape(a: Tensor, b: Tensor) -> None:
    if tuple(a.shape) != tuple(b.shape):
        raise ValueError(f"the maps differ in shape: {tuple(a.shape)} and {tuple(b.shape)}")
