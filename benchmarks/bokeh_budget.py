"""What a render has to move and add up: bytes, launches, waits and taps, counted on any machine, and floors from them.

    python benchmarks/bokeh_budget.py [--megapixels 12] [--radii 50 100] [--dtype float32] [--json]

The steps of the Triton path are run on the CPU in the tiles of the GPU, and every tensor operation is counted: what it
reads and writes once, one launch each, and a wait where the processor needs a result. What Triton's kernels do is done
by the reference and counted as theirs. Instead of being spread, slabs stay where they are (what covers what is decided
by them, about as it would be), and the taps are counted. Times are bounds by arithmetic for an NVIDIA H200 by its data
sheet, not measurements: bytes at 4.8 TB/s, taps at one 128-byte line of level-1 cache a clock and multiprocessor,
launches at LAUNCH each if the GPU waits for them.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise

import torch
from scene import scene
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from argan.kernels.bokeh import Aperture, aperture, reference
from argan.kernels.bokeh.areas import Area, window
from argan.kernels.bokeh.layers import Composite, Sheets
from argan.kernels.bokeh.plan import BLOCK
from argan.kernels.bokeh.regions import Steps, render
from argan.kernels.bokeh.triton import TILE

BANDWIDTH = 4.8e12  # bytes a second
LINES = 132 * 1.755e9  # of 128 bytes, by level-1 caches a second: multiprocessors and clock
LAUNCH = 5e-6  # seconds
STEPS = ("unmix", "occurrences", "slab", "inpaint", "spread", "over", "behind", "add_group")  # the rest is "other"
WAITS = ("_local_scalar_dense", "nonzero", "equal")


@dataclass
class Cost:
    bytes: int = 0
    launches: int = 0
    waits: int = 0
    taps: int = 0
    tap_lines: float = 0.0  # of level-1 cache that taps read

    def seconds(self) -> dict[str, float]:
        return {
            "bytes": self.bytes / BANDWIDTH,
            "taps": self.tap_lines / LINES,
            "launches": self.launches * LAUNCH,
        }


class Counter(TorchDispatchMode):
    """Counts what every tensor operation moves, by the renderer's step that it belongs to."""

    def __init__(self) -> None:
        super().__init__()
        self.costs: dict[str, Cost] = defaultdict(Cost)
        self.paused = False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if self.paused or not (at := step()):
            return out
        cost = self.costs[at]
        cost.waits += name in WAITS
        if not function.is_view and name not in ("_local_scalar_dense", "detach", "empty", "new_empty", "empty_like"):
            tensors = {(t.data_ptr(), t.numel()): t for t in tensors_in((args, kwargs, out))}
            cost.bytes += sum(t.numel() * t.element_size() for t in tensors.values())
            cost.launches += 1
        return out


def step() -> str:
    """The renderer's step that is running, from the stack of calls; "" for what is done on the processor."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == aperture.__file__:
            return ""
        if frame.f_code.co_name in STEPS:
            return frame.f_code.co_name
        frame = frame.f_back
    return "other"


def tensors_in(values) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = list(values.values())
    return [t for value in values for t in tensors_in(value)] if isinstance(values, list | tuple) else []


def count(image: Tensor, coc: Tensor, lens: Aperture, tap_bytes: int) -> dict[str, Cost]:
    """The costs of one render by its steps, (1,3,H,W) with signed radii (1,1,H,W) in pixels."""
    counter = Counter()

    @contextmanager
    def as_kernels(step: str, launches: int) -> Iterator[Cost]:
        counter.paused = True
        yield counter.costs[step]
        counter.costs[step].launches += launches
        counter.paused = False

    def weigh(
        sheets: Sheets,
        what: str,
        k: int,
        area: Area,
        level: int,
        part: Area | None = None,
    ) -> Tensor:
        _, far_place = sheets.far_planes
        with as_kernels("slab", 1) as cost:
            out = reference.weigh(sheets, what, k, part or area, level)
            places = [x[(part or area).index()] for x in (sheets.place, far_place)]
            used = sum(int((reference.WEIGHTS[what](place, k) > 0).sum()) for place in places)
            cost.bytes += out.nbytes + sum(place.nbytes for place in places) + 4 * used * out.shape[1]
        return reference.within_zeros(out, part or area, area, level)

    def inpaint(layer: Tensor, known: Tensor, levels: int, wanted: Area) -> Tensor:
        with as_kernels("inpaint", 2 * levels) as cost:
            out = reference.inpaint(layer, known, levels, wanted)
            sizes = [5 * known.nbytes / 4**level for level in range(levels + 1)]  # RGBA and weight
            down = sum(finer + coarser for finer, coarser in pairwise(sizes))
            up = sum(2 * finer + coarser for finer, coarser in pairwise(sizes[1:]))
            cost.bytes += round(down + up + 2.25 * out.nbytes)
        return out

    def over(front: Composite, layer: Tensor, radius: float, area: Area) -> None:
        with as_kernels("over", 1) as cost:
            reference.over(front, layer, radius, area)
            cost.bytes += 4 * (layer[0, 0].numel() * (4 + 8 + 3 + 2 * front.radial.shape[1]) + front.through.numel())

    def behind(front: Composite, group: Composite) -> None:
        with as_kernels("behind", 1) as cost:
            reference.behind(front, group)
            cost.bytes += 4 * (front.through.numel() * (8 + 2 + 1) + 6 * group.through.numel())

    def spread(layer: Tensor, area: Area, visible: Tensor, kernels: Tensor) -> Tensor:
        n = kernels.shape[-1] // 2
        if not n:
            return window(layer, area)
        with as_kernels("spread", 3) as cost:  # which blocks are busy, the layer as it is gathered, the gather
            source, (height, width) = window(layer, area.grown(n)), visible.shape[-2:]
            shown = source[..., n : n + height, n : n + width]
            windows = reference.block_windows(source[:, 3], (height, width), 2 * n + 1, BLOCK)
            taps = int(reference.busy_blocks(windows, visible, BLOCK).sum()) * BLOCK**2 * kernels.numel()
            cost.bytes += source[:, 3].nbytes + visible.nbytes + source.nbytes + shown.nbytes
            cost.bytes += 2 * source.numel() * tap_bytes // 4
            cost.taps += taps
            cost.tap_lines += taps * tap_bytes / 128
        return shown

    steps = Steps(reference.unmix, weigh, partial(reference.fill, inpaint), spread, over, behind, TILE)
    with counter, torch.no_grad():
        render(image, coc, lens, steps)
    return dict(counter.costs)


def total(costs: dict[str, Cost]) -> Cost:
    return Cost(*(sum(values) for values in zip(*(asdict(cost).values() for cost in costs.values()), strict=True)))


def table(costs: dict[str, Cost]) -> str:
    lines = ["step              GB launches  waits 10^9 taps  ms for bytes   taps launches"]
    for name, cost in {**costs, "all": total(costs)}.items():
        ms = {what: 1e3 * seconds for what, seconds in cost.seconds().items()}
        lines.append(
            f"{name:12} {cost.bytes / 1e9:7.2f} {cost.launches:8} {cost.waits:6} {cost.taps / 1e9:9.2f} "
            f"{ms['bytes']:13.2f} {ms['taps']:6.2f} {ms['launches']:8.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--radii", type=float, nargs="+", default=[50, 100])
    parser.add_argument("--focus", type=float, default=0.7)
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32", help="what taps are stored in")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    image, disparity = scene(options.megapixels)
    tap_bytes = 16 if options.dtype == "float32" else 8
    reports = {}
    for radius in options.radii:
        costs = count(image, radius * (disparity - options.focus), Aperture(), tap_bytes)
        reports[radius] = {name: asdict(cost) for name, cost in costs.items()}
        if not options.json:
            height, width = image.shape[-2:]
            print(f"{width} x {height}, radius {radius:g}, focus {options.focus:g}\n{table(costs)}\n")
    if options.json:
        print(json.dumps(reports, indent=1))


if __name__ == "__main__":
    main()
