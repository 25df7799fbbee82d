"""The photo renderer as a graph: the export form of `reference.py`, for ONNX, TorchScript and torch.export.

It takes the reference's steps (README.md), arranged so that a fixed list of convolutions, pooling, resizing and
arithmetic renders any picture with any blur at the same cost:

- *Slabs* lie at fixed radii, RADII at full size and OCTAVE an octave at 1/2, 1/4, ... of it. A level's slabs are worked
  at once, side by side as channels: all their reds, greens, blues, alphas (4n), each near to far.
- *Light* goes up a pyramid until it meets slabs of its blur radius. What a level keeps is taken out of what it passes
  on, so all light is spread exactly once. On its way up it is kept apart only by its side of the focal plane.
- Where the reference looks at the picture to leave work out, the graph does it everywhere.

Blur radii beyond the coarsest level's, LARGEST pixels, are drawn as large as that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from argan.kernels.bokeh.aperture import aperture_kernel
from argan.kernels.bokeh.reference import EPS, TRUST

LEVELS = 7  # of the pyramid: 1, 1/2, ... 1/64 of the size
RADII = [1.0, 2.0, 3.0, 4.1]  # of the slabs at full size, in front of and behind the one in focus; pixels
FIRST = 5.2  # radius of the smallest slab at half the size
OCTAVE = 3  # slabs an octave from there on
FILL = 3  # hidden surfaces are filled in at 1/2 of a level's size, where little is known also at 1/4, and so on

CELL = 2 ** (LEVELS - 1)  # pictures are worked in whole cells of the coarsest level
LARGEST = FIRST * 2 ** (LEVELS - 1 - 1 / OCTAVE)


class BokehGraph(nn.Module):
    """Linear light (B,3,H,W) and signed blur radii (B,1,H,W) in pixels -> linear light (B,3,H,W) through a disc.

    float32; batch, height and width may be symbolic. Radii of 0 give the picture back to within rounding.
    """

    def __init__(self) -> None:
        super().__init__()
        for level in range(LEVELS):
            self.register_buffer(f"discs_{level}", discs(level))
        self.register_buffer("cuts", cuts())
        for level in range(1, LEVELS):
            self.register_buffer(f"cuts_before_{level}", cuts_before(level))
            self.register_buffer(f"cuts_behind_{level}", cuts_behind(level))
        tent = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("tent", torch.outer(tent, tent))

    def forward(self, image: Tensor, coc: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        around = (0, whole_cells(width) - width, 0, whole_cells(height) - height)
        padded = F.pad(torch.cat([image, coc], 1), around, mode="replicate")
        focal, light = self.full_size(padded[:, :3], padded[:, 3:])
        fronts, backs = [], []
        for level in range(1, LEVELS):
            front, back, light = self.smaller(self.halved(light), level)
            fronts.append(front)
            backs.append(back)
        rgba = composite(fronts, focal, backs)
        return (rgba[:, :3] / rgba[:, 3:].clamp(min=EPS))[..., :height, :width]

    def full_size(self, image: Tensor, coc: Tensor) -> tuple[Tensor, Tensor]:
        """The spread slabs (B,4n,H,W) around the focal plane, and the `light` that they do not hold."""
        rgba, c2 = torch.cat([image, torch.ones_like(coc)], 1), coc * coc.abs()
        nearer = ramps(c2, self.cuts)  # [j]: 1 from slab j - 2 on, falling to 0 at slab j - 1
        seen = layers([(nearer[:, 2:] - nearer[:, 1:-1], rgba)])
        slabs = filled(seen, 1 - nearer[:, 1:-1], nearer[:, :-2], FILL)
        rest = torch.cat([rgba, c2.abs()], 1)
        light = torch.cat([rest * nearer[:, 1:2], rest * (1 - nearer[:, -1:]), nearer[:, -2:-1]], 1)
        return spread(slabs, self.discs_0), light

    def smaller(self, light: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor]:
        """A level's spread slabs (B,4n,h,w) in front of the focal plane and behind it, and the `light` left.

        `light` (B,11,h,w) is what no finer level holds: premultiplied RGBA and alpha c^2 in front of the focal plane,
        the same behind it, and what hides the first slab behind.
        """
        before, behind, hides = light.split([5, 5, 1], 1)
        alpha, one = before[:, 3:4], torch.ones_like(hides)
        nearer = ramps(before[:, 4:] / alpha.clamp(min=EPS), getattr(self, f"cuts_before_{level}"))
        front, share = torch.cat([nearer[:, 2:], one], 1) - nearer[:, 1:], alpha * nearer
        known, hidden = [1 - share[:, 1:]], [share[:, :-1]]

        alpha = behind[:, 3:4]
        farther = ramps(behind[:, 4:] / alpha.clamp(min=EPS), getattr(self, f"cuts_behind_{level}"))
        farther = torch.cat([one, farther], 1)  # [k]: 0 up to slab k - 1, rising to 1 at slab k
        back, share = farther[:, :-1] - farther[:, 1:], alpha * farther
        known, hidden = [*known, share[:, :-1]], [*hidden, hides, 1 - share[:, :-2]]

        seen = layers([(front, before), (back, behind)])
        slabs = filled(seen, torch.cat(known, 1), torch.cat(hidden, 1), min(FILL, LEVELS - 1 - level))
        slabs = spread(slabs, getattr(self, f"discs_{level}"))
        front, back = parted(slabs)
        light = torch.cat([before * nearer[:, 1:2], behind * farther[:, -1:], 1 - share[:, -2:-1]], 1)
        return front, back, light

    def halved(self, light: Tensor) -> Tensor:
        """Half the size; every pixel is shared by the two nearest in each direction, so light keeps its place."""
        channels = light.shape[1]
        weight = self.tent.expand(channels, 1, -1, -1)
        return F.conv2d(F.pad(light, (1, 1, 1, 1), mode="replicate"), weight, stride=2, groups=channels)


def radii(level: int) -> list[float]:
    """Blur radii of a level's slabs on one side of the focal plane, in pixels of the photo, ascending."""
    return RADII if level == 0 else [FIRST * 2 ** (level - 1 + step / OCTAVE) for step in range(OCTAVE)]


def cuts() -> Tensor:
    """`ramps` between the slabs at full size, near to far, from two slabs before the first to one behind the last."""
    before = [r * r for r in (*RADII, *radii(1)[:2])]
    return between([*reversed(before), 0.0, *(-c2 for c2 in before[:-1])])


def cuts_before(level: int) -> Tensor:
    """`ramps` in c^2 between a level's slabs in front of the focal plane, near to far, from two slabs before the first."""
    ramp = between([r * r for r in reversed([*radii(level), *radii(level + 1)[:2]])])
    if level == LEVELS - 1:
        ramp[:, :2] = 0  # no slab is nearer
    return ramp


def cuts_behind(level: int) -> Tensor:
    """`ramps` in c^2 between a level's slabs behind the focal plane, near to far, to one behind the last."""
    ramp = between([r * r for r in (*radii(level), radii(level + 1)[0])])
    if level == LEVELS - 1:
        ramp[:, -1] = 0  # no slab is farther
    return ramp


def between(cuts: list[float]) -> Tensor:
    """Factors and offsets (2,n,1,1) of straight lines that are 0 at one cut and 1 at its neighbour: 1 at the larger."""
    pairs = [(min(pair), max(pair)) for pair in zip(cuts, cuts[1:], strict=False)]
    return torch.tensor([[1 / (b - a) for a, b in pairs], [-a / (b - a) for a, b in pairs]])[:, :, None, None]


def ramps(c2: Tensor, cuts: Tensor) -> Tensor:
    return (c2 * cuts[0] + cuts[1]).clamp(0, 1)


def discs(level: int) -> Tensor:
    """The images of a point (4n,1,s,s) of a level's slabs, near to far, for red, green, blue and alpha.

    As in the reference, smaller by what `halved` and `enlarged` blur by themselves.
    """
    at = [math.sqrt((r**2 + 2 / 3) / 4**level - 5 / 3) if level else r for r in radii(level)]
    kernels = [aperture_kernel("disk", r) for r in at]
    middle = [torch.ones(1, 1)] if level == 0 else []
    kernels = [*reversed(kernels), *middle, *kernels]
    side = max(len(kernel) for kernel in kernels)
    return torch.stack([F.pad(kernel, ((side - len(kernel)) // 2,) * 4) for kernel in kernels] * 4).float()[:, None]


def whole_cells(size: int) -> int:
    """`size` rounded up to a multiple of CELL.

    Exporters get a fresh symbol for it: its formula, carried through the pyramid, would take them minutes.
    """
    cells = (size + CELL - 1) // CELL
    if torch.compiler.is_exporting():
        cells = torch.scalar_tensor(cells, dtype=torch.int64).item()
        torch._check(cells >= 1)
    return cells * CELL


def layers(parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Light (B,4+,h,w) shared out to slabs by weights (B,n,h,w), all parts side by side: (B,4n,h,w)."""
    return torch.cat([weight * light[:, c : c + 1] for c in range(4) for weight, light in parts], 1)


def parted(slabs: Tensor) -> tuple[Tensor, Tensor]:
    """The nearer half of (B,4n,h,w) slabs, and the farther half."""
    halves = slabs.chunk(8, 1)
    return torch.cat(halves[::2], 1), torch.cat(halves[1::2], 1)


def filled(seen: Tensor, known: Tensor, hidden: Tensor, levels: int) -> Tensor:
    """Slabs (B,4n,h,w) with what they may hold behind nearer things, the part `hidden` (B,n,h,w) of each pixel.

    As the reference's `inpaint`, but from half the size on: what is hidden is seen only blurred, and beside an edge.
    """
    count = known.shape[1]
    finer, pyramid = torch.cat([seen, known], 1), []
    for _ in range(levels):
        mean = F.avg_pool2d(finer, 2)
        part = mean[:, 4 * count :]
        finer = mean * times((TRUST * part).clamp(max=1) / part.clamp(min=EPS), 5)
        pyramid.append(finer)
    fill = pyramid.pop() if pyramid else finer
    for finer in reversed(pyramid):
        fill = finer + times(1 - finer[:, 4 * count :], 5) * enlarged(fill)
    colour = fill[:, : 4 * count] / times(fill[:, 4 * count :].clamp(min=EPS), 4)
    return seen + times(hidden, 4) * (enlarged(colour) if levels else colour)


def times(x: Tensor, count: int) -> Tensor:
    """(B,n,h,w) -> (B,count n,h,w): the same for each colour."""
    return torch.cat([x] * count, 1)


def spread(slabs: Tensor, discs: Tensor) -> Tensor:
    """Every slab of (B,4n,h,w) convolved with its disc; the frame's edge is extended."""
    padded = F.pad(slabs, (discs.shape[-1] // 2,) * 4, mode="replicate")
    return F.conv2d(padded, discs, groups=len(discs))


def composite(fronts: Sequence[Tensor], focal: Tensor, backs: Sequence[Tensor]) -> Tensor:
    """Premultiplied RGBA (B,4,H,W) of all slabs (B,4n,h,w); `fronts` and `backs` from fine to coarse."""
    front = over(fronts[-1], torch.zeros_like(fronts[-1][:, :1]))
    for slabs in [*reversed(fronts[:-1]), focal]:
        nearer = enlarged(front)
        group = over(slabs, nearer[:, 5:])
        front = torch.cat([behind(nearer, group), group[:, 5:]], 1)
    groups, nearer = [], front[:, 5:]
    for slabs in backs:
        groups.append(over(slabs, F.avg_pool2d(nearer, 2)))
        nearer = groups[-1][:, 5:]
    back = groups.pop()
    for group in reversed(groups):
        back = behind(group, enlarged(back))
    return behind(front, enlarged(back))[:, :4]


def behind(front: Tensor, back: Tensor) -> Tensor:
    """`back` put behind `front`, both premultiplied RGBA and what light passes (B,5,h,w)."""
    through = front[:, 4:5]
    return torch.cat([front[:, :4] + through * back[:, :4], through * back[:, 4:5]], 1)


def over(slabs: Tensor, nearer: Tensor) -> Tensor:
    """Slabs (B,4n,h,w) put one behind the other, as the reference's `Composite` does.

    Returns (B,6,h,w): premultiplied RGBA, what light passes them all, and the alpha of the last; `nearer` is the alpha
    of the slab just in front.
    """
    colours = slabs.chunk(4, 1)
    alpha = colours[3]
    passed = torch.maximum(alpha, 1 - torch.cat([nearer, alpha[:, :-1]], 1)).clamp(min=EPS)
    through = [torch.ones_like(nearer)]
    for part in (1 - alpha / passed).split(1, 1):
        through.append(through[-1] * part)
    weights = torch.cat(through[:-1], 1) / passed
    rgba = [(weights * colour).sum(1, keepdim=True) for colour in colours]
    return torch.cat([*rgba, through[-1], alpha[:, -1:]], 1)


def enlarged(x: Tensor) -> Tensor:
    """Twice the size."""
    return F.interpolate(x, size=[2 * side for side in x.shape[-2:]], mode="bilinear", align_corners=False)
