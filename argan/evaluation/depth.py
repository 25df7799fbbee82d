"""Depth against what is known of photographs.

Every score stands beside the score of the bare centre prior on the same photographs (`argan.metrics.centre_prior`):
what knows nothing but where the middle is.
"""

import warnings
from collections.abc import Callable, Iterable

from torch import Tensor

from argan import metrics
from argan.evaluation.report import Row, row_of_means

Depth = Callable[[Tensor], Tensor]  # image (1, 3, H, W) in [0, 1] -> disparity (1, 1, H, W), larger is nearer
LEAST_DEPTH = 0.05  # of disparity, from the farthest to the nearest: what ordinal accuracy tells apart
TRUTH_MEASURES = {
    "Spearman correlation with {truth} disparity": (metrics.spearman, "higher"),
    "ordinal accuracy{against}": (metrics.ordinal_accuracy, "higher"),
    "scale-invariant depth error (SIDE){against}": (metrics.side, "lower"),
}


def depth_against_truth(depth: Depth, photos: Iterable[tuple[Tensor, Tensor]], truth: str = "true") -> list[Row]:
    """Depth of photographs whose true disparity is known.

    Args:
        depth: the estimator.
        photos: pairs of photograph (3, H, W) and true disparity (1, H, W), NaN where it is unknown.
        truth: whose disparity that is: "true", or what it is called where there is another.
    """
    against = "" if truth == "true" else f" against {truth}"
    estimated, prior = scores_against_truth(photos, depth, metrics.centre_prior)
    return [
        row_of_means(name.format(truth=truth, against=against), estimated[name], prior[name], better)
        for name, (_, better) in TRUTH_MEASURES.items()
    ]


def scores_against_truth(photos: Iterable[tuple[Tensor, Tensor]], *estimators: Depth) -> list[dict[str, list[float]]]:
    """For each estimator every measure of `TRUTH_MEASURES`, one value a photograph; one pass over the photographs.

    Args:
        photos: pairs of photograph (3, H, W) and true disparity (1, H, W), NaN where it is unknown.
    """
    scores: list[dict[str, list[float]]] = [{name: [] for name in TRUTH_MEASURES} for _ in estimators]
    for number, (photo, disparity) in enumerate(photos, 1):
        known = ~disparity.isnan()
        if not known.any() or float(disparity[known].max() - disparity[known].min()) <= LEAST_DEPTH:
            warnings.warn(f"the depth map of photograph {number} has no depth in it and was left out", stacklevel=2)
            continue
        for depth, values in zip(estimators, scores, strict=True):
            estimate = depth(photo[None])[0].cpu()[known]
            for name, (measure, _) in TRUTH_MEASURES.items():
                values[name].append(measure(estimate, disparity[known]))
    return scores


def depth_against_masks(depth: Depth, pairs: Iterable[tuple[Tensor, Tensor]]) -> list[Row]:
    """Is the figure nearer than the ground: area under the ROC curve, averaged over photographs.

    Args:
        depth: the estimator.
        pairs: photograph (3, S, S) and figure mask (S, S) bool.
    """
    estimated, prior = [], []
    for photo, mask in pairs:
        estimated.append(metrics.area_under_roc(depth(photo[None])[0, 0].cpu(), mask))
        prior.append(metrics.area_under_roc(metrics.centre_prior(photo)[0, 0].cpu(), mask))
    return [row_of_means("figure nearer than ground (AUC)", estimated, prior, "higher")]
