"""What a run tells of its steps: progress, `metrics.jsonl`, one line every few steps, and TensorBoard on request."""

import json
import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from argan import distributed
from argan.errors import MissingError
from argan.files import atomic_file


@dataclass
class Progress:
    """How far a run is, for whoever shows it: the steps that are done, and the means of the last ones."""

    step: int
    stats: dict[str, float]


class Log:
    """Means of the steps since the last line, with rates.

    Args:
        run: folder of the run; what lies beyond `step`, of a life that was lost, is dropped.
        tensorboard: also write event files to `run`/tensorboard.
        writes: false in a process that only counts, beside the one that writes.
    """

    def __init__(self, run: Path, step: int, tensorboard: bool = False, writes: bool = True):
        self.path, self.writes = run / "metrics.jsonl", writes
        self.writer = _tensorboard(run, step) if tensorboard and writes else None
        if writes:
            kept = [line for line in self._lines() if _is_of(line, step)]
            with atomic_file(self.path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in kept))
        self._clear()

    def _lines(self) -> list[str]:
        """Complete lines only: a killed run can leave half of one."""
        return self.path.read_text(errors="replace").split("\n")[:-1] if self.path.exists() else []

    def _clear(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.steps, self.images, self.began = 0, 0, time.perf_counter()

    def add(self, stats: dict[str, Tensor], images: int) -> None:
        """One step's losses; they stay on their device until a line is written."""
        for name, value in stats.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1
        self.steps, self.images = self.steps + 1, self.images + images

    def pending(self) -> dict[str, float]:
        """Means since the last line, of this process's share of every batch."""
        return {name: float(value) / self.counts[name] for name, value in self.sums.items()}

    def write(self, step: int) -> dict[str, float]:
        """Write a line and start anew; returns its means, over all processes, and rates."""
        means = distributed.average(self.pending())
        seconds = time.perf_counter() - self.began  # Windows' monotonic clock may stand still for a step
        means["steps_per_second"], means["images_per_second"] = self.steps / seconds, self.images / seconds
        if self.writes:
            with self.path.open("a") as file:
                known = {name: value if math.isfinite(value) else None for name, value in means.items()}
                file.write(json.dumps({"step": step, "time": round(time.time(), 3), **known}) + "\n")
        if self.writer is not None:
            for name, value in means.items():
                self.writer.add_scalar(name, value, step)
        self._clear()
        return means

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writer is not None:
            self.writer.close()


def _is_of(line: str, step: int) -> bool:
    """Whether a line is of that step or of one before it; one that is damaged is of none, and warned of."""
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, TypeError, KeyError):
        warnings.warn(f"a damaged line of metrics.jsonl is left out: {line[:40]!r}", stacklevel=4)
        return False


def _tensorboard(run: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingError("tensorboard is not installed", hint='pip install "argan[tensorboard]"') from error
    return SummaryWriter(run / "tensorboard", purge_step=step + 1)
