"""The rows of a report: a figure each, with its interval and what the bare centre prior reaches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from statistics import fmean

from argan import metrics
from argan.config import Mixture


@dataclass(frozen=True)
class Row:
    """One figure of the report; `low` to `high` is its 95 % bootstrap interval over `count` photographs or samples."""

    measure: str
    value: float
    low: float | None
    high: float | None
    centre_prior: float | None
    better: str
    count: int

    def as_cells(self) -> dict[str, object]:
        """For people: the interval in one cell."""
        interval = None if self.low is None else f"{self.low:.4g} … {self.high:.4g}"
        return {
            "measure": self.measure,
            "value": self.value,
            "95 % interval": interval,
            "centre prior": self.centre_prior,
            "better": self.better,
            "of": self.count,
        }


@dataclass
class Report:
    """All that was measured, how, and what was left out and why."""

    model: str
    data: str
    seed: int
    features: str | None
    mixture: Mixture
    rows: list[Row]
    left_out: dict[str, str]


def row_of_means(measure: str, values: Sequence[float], prior: Sequence[float] | None, better: str) -> Row:
    """The mean over photographs with its bootstrap interval; those without an answer, NaN, are in neither mean."""
    answered = [not math.isnan(value) for value in values]
    known = list(compress(values, answered))
    mean = metrics.mean_interval(known) if known else metrics.Interval(math.nan, math.nan, math.nan)
    centre = fmean(compress(prior, answered)) if prior and known else None
    return Row(measure, *mean, centre, better, len(known))
