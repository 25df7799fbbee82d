"""The photo renderer as a graph: the export form of `reference.py`, for ONNX, TorchScript and torch.export.

It takes the reference's steps (README.md), arranged so that a fixed list of convolutions, pooling, resizing and
arithmetic renders any picture with any blur at the same cost:

- *Slabs* lie at fixed radii, RADII at full size and OCTAVE an octave at 1/2, 1/4, ... of it. A level's slabs are worked
  at once, side by side as channels.
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
from argan.kernels.bokeh.reference import EDGE, EPS, TRUST

LEVELS = 7  # of the pyramid: 1, 1/2, ... 1/64 of the size
RADII = [1.0, 2.0, 3.0, 4.1]  # of the slabs at full size, in front of and behind the one in focus; pixels
FIRST = 5.2  # radius of the smallest slab at half the size
OCTAVE = 3  # slabs an octave from there on
FILL = 2  # hidden surfaces are filled in at half a level's size and, where little is known, FILL times half of that

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
            self.register_buffer(f"cuts_{level}", cuts(level))
        self.register_buffer("tent", torch.outer(TENT, TENT))

    def forward(self, image: Tensor, coc: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        around = (0, whole_cells(width) - width, 0, whole_cells(height) - height)
        image, coc = F.pad(torch.cat([image, coc], 1), around, mode="replicate").split([3, 1], 1)
        focal, light = self.full_size(image, coc)
        fronts, backs = [], []
        for level in range(1, LEVELS):
            slabs, light = self.smaller(self.halved(light), level)
            front, back = slabs.split(OCTAVE, 1)
            fronts.append(front.flip(1))
            backs.append(back)
        rgba = composite(fronts, focal, backs)
        return (rgba[:, :3] / rgba[:, 3:].clamp(min=EPS))[..., :height, :width]

    def full_size(self, image: Tensor, coc: Tensor) -> tuple[Tensor, Tensor]:
        """The spread slabs (B,n,4,H,W) around the focal plane, near to far, and the `light` that is left."""
        count = 2 * len(RADII) + 1
        seen, known, hidden, light = 0, 0, 0, 0
        for rgba, c2 in sheets(image, coc):
            nearer = ramps(c2, self.cuts_0)  # [k]: 0 for what lies behind slab k - 1, rising to 1 at slab k
            share = rgba[:, 3:] * nearer
            seen = seen + times(nearer[:, :count] - nearer[:, 1 : count + 1], rgba)
            known = known + rgba[:, 3:] - share[:, 1 : count + 1]
            hidden = hidden + share[:, 2 : count + 2]
            rest = torch.cat([rgba, rgba[:, 3:] * c2.abs()], 1)
            before, behind = rest * nearer[:, count : count + 1], rest * (1 - nearer[:, :1])
            light = light + torch.cat([before, behind, share[:, 1:2]], 1)
        slabs = seen + hidden.unsqueeze(2) * filled(seen, known)
        around_focus = spread(slabs, self.discs_0)
        return around_focus.flip(1), light

    def smaller(self, light: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """A level's spread slabs (B,2n,4,h,w), n in front and n behind by ascending radius, and the `light` left.

        `light` (B,11,h,w) is what no finer level kept: premultiplied RGBA and alpha c^2 in front of the focal plane,
        the same behind it, and what hides the first slab behind.
        """
        last = level == LEVELS - 1
        light, hides = light.split([10, 1], 1)
        sides = light.unflatten(1, (2, 5))
        rgba, alpha = sides[:, :, :4], sides[:, :, 3:4]
        beyond = ramps(sides[:, :, 4:] / alpha.clamp(min=EPS), getattr(self, f"cuts_{level}"))
        beyond = torch.cat([torch.ones_like(alpha), beyond], 2)  # [k]: 0 up to slab k - 1, rising to 1 at slab k
        share = alpha * beyond
        before, behind = share[:, 0], share[:, 1]
        weights = beyond[:, :, :OCTAVE] - beyond[:, :, 1 : OCTAVE + 1]
        seen = (weights.unsqueeze(3) * rgba.unsqueeze(2)).flatten(1, 2)
        known = torch.cat([1 - before[:, 1 : OCTAVE + 1], behind[:, :OCTAVE]], 1)
        hidden = torch.cat([before[:, 2 : OCTAVE + 2], hides, 1 - behind[:, : OCTAVE - 1]], 1)
        slabs = spread(seen + hidden.unsqueeze(2) * filled(seen, known), getattr(self, f"discs_{level}"))
        if last:
            return slabs, light
        rest = (sides * beyond[:, :, OCTAVE : OCTAVE + 1]).flatten(1, 2)
        return slabs, torch.cat([rest, 1 - behind[:, OCTAVE - 1 : OCTAVE]], 1)

    def halved(self, light: Tensor) -> Tensor:
        """Half the size; every pixel is shared by the two nearest in each direction, so light keeps its place."""
        channels = light.shape[1]
        weight = self.tent.expand(channels, 1, -1, -1)
        return F.conv2d(F.pad(light, (1, 1, 1, 1), mode="replicate"), weight, stride=2, groups=channels)


TENT = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


def radii(level: int) -> list[float]:
    """Blur radii of a level's slabs on one side of the focal plane, in pixels of the photo, ascending."""
    return RADII if level == 0 else [FIRST * 2 ** (level - 1 + step / OCTAVE) for step in range(OCTAVE)]


def cuts(level: int) -> Tensor:
    """Where a level's slabs lie in c|c|, as factors and offsets (2,m,1,1) of the ramps between neighbours.

    At full size from the farthest slab of the next level to the two nearest; else on either side from a level's first
    slab to the second one beyond its last. Nothing lies beyond the last level's last slab.
    """
    ends = [r * r for r in (*radii(level), *radii(level + 1)[:2])]
    if level == 0:
        ends = [-end for end in reversed(ends[:-1])] + [0.0] + ends
    ramp = torch.tensor([[1 / (b - a), -a / (b - a)] for a, b in zip(ends, ends[1:], strict=False)])
    if level == LEVELS - 1:
        ramp[OCTAVE - 1 :] = 0
    return ramp.T[:, :, None, None]


def discs(level: int) -> Tensor:
    """The images of a point (4n,1,s,s) of all slabs of a level, a kernel for each of a slab's four channels.

    As in the reference, smaller by what `halved` and `enlarged` blur by themselves.
    """
    at = [math.sqrt((r**2 + 2 / 3) / 4**level - 5 / 3) if level else r for r in radii(level)]
    kernels = [aperture_kernel("disk", r) for r in at]
    kernels = [*reversed(kernels), torch.ones(1, 1), *kernels] if level == 0 else [*kernels, *kernels]
    side = max(len(kernel) for kernel in kernels)
    kernels = [F.pad(kernel, ((side - len(kernel)) // 2,) * 4) for kernel in kernels]
    return torch.stack(kernels).float().repeat_interleave(4, 0)[:, None]


def whole_cells(size: int) -> int:
    """`size` rounded up to a multiple of CELL.

    Exporters get a fresh symbol for it: its formula, carried through the pyramid, would take them minutes.
    """
    cells = (size + CELL - 1) // CELL
    if torch.compiler.is_exporting():
        cells = torch.scalar_tensor(cells, dtype=torch.int64).item()
        torch._check(cells >= 1)
    return cells * CELL


def sheets(image: Tensor, coc: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Premultiplied RGBA and c|c|."""
    return [(torch.cat([image, torch.ones_like(coc)], 1), coc * coc.abs())]


def ramps(c2: Tensor, cuts: Tensor) -> Tensor:
    """From 0 to 1 between neighbouring cuts, along the last dimension of channels."""
    return (c2 * cuts[0] + cuts[1]).clamp(0, 1)


def times(weights: Tensor, rgba: Tensor) -> Tensor:
    """(B,n,h,w) x (B,4,h,w) -> (B,n,4,h,w)."""
    return weights.unsqueeze(2) * rgba.unsqueeze(1)


def filled(seen: Tensor, known: Tensor) -> Tensor:
    """Slabs (B,n,4,h,w), premultiplied by a part of `known` (B,n,h,w), continued smoothly to where nothing is known.

    The reference's `inpaint`, begun at half the size: what is hidden is seen only beside an edge, and blurred.
    """
    count = seen.shape[1]
    finer = torch.cat([seen, known.unsqueeze(2)], 2).flatten(1, 2)
    full, pyramid = finer, []
    for _ in range(FILL + 1):
        mean = half(finer).unflatten(1, (count, 5))
        part = mean[:, :, 4:]
        finer = (mean * ((TRUST * part).clamp(max=1) / part.clamp(min=EPS))).flatten(1, 2)
        pyramid.append(finer)
    fill = pyramid.pop()
    for finer in reversed(pyramid):
        coarse = enlarged(fill, finer).unflatten(1, (count, 5))
        fine = finer.unflatten(1, (count, 5))
        fill = (fine + (1 - fine[:, :, 4:]) * coarse).flatten(1, 2)
    fill = fill.unflatten(1, (count, 5))
    colour = fill[:, :, :4] / fill[:, :, 4:].clamp(min=EPS)
    return enlarged(colour.flatten(1, 2), full).unflatten(1, (count, 4))


def spread(slabs: Tensor, discs: Tensor) -> Tensor:
    """Every slab of (B,n,4,h,w) convolved with its disc; the frame's edge is extended."""
    count, half = slabs.shape[1], discs.shape[-1] // 2
    padded = F.pad(slabs.flatten(1, 2), (half,) * 4, mode="replicate")
    return F.conv2d(padded, discs, groups=len(discs)).unflatten(1, (count, 4))


def composite(fronts: Sequence[Tensor], focal: Tensor, backs: Sequence[Tensor]) -> Tensor:
    """Premultiplied RGBA (B,4,H,W) of all slabs, each level's near to far; `fronts` and `backs` from fine to coarse."""
    through, nearer = torch.ones_like(focal[:, 0, :1]), torch.zeros_like(focal[:, 0, :1])
    front = None
    for slabs in [*reversed(fronts), focal]:
        if front is None:
            front = over(slabs, torch.zeros_like(slabs[:, 0, :1]))
        else:
            rgba, through, nearer = enlarged(front, slabs[:, 0]).split([4, 1, 1], 1)
            group = over(slabs, nearer)
            front = torch.cat([rgba + through * group[:, :4], through * group[:, 4:5], group[:, 5:]], 1)
    groups, nearer = [], front[:, 5:]
    for slabs in backs:
        groups.append(over(slabs, half(nearer)))
        nearer = groups[-1][:, 5:]
    back = groups.pop()[:, :5]
    for group in reversed(groups):
        coarse = enlarged(back, group)
        back = torch.cat([group[:, :4] + group[:, 4:5] * coarse[:, :4], group[:, 4:5] * coarse[:, 4:]], 1)
    return front[:, :4] + front[:, 4:5] * enlarged(back, front)[:, :4]


def over(slabs: Tensor, nearer: Tensor) -> Tensor:
    """Slabs (B,n,4,h,w), near to far, put over each other as the reference's `Composite` does.

    Returns (B,6,h,w): premultiplied RGBA, what light passes them all, and the alpha of the last; `nearer` is the alpha
    of the slab just in front.
    """
    alpha = slabs[:, :, 3]
    passed = torch.maximum(alpha, 1 - torch.cat([nearer, alpha[:, :-1]], 1)).clamp(min=EPS)
    through = [torch.ones_like(nearer)]
    for opaque in (alpha / passed).split(1, 1):
        through.append(through[-1] * (1 - opaque))
    weights = torch.cat(through[:-1], 1) / passed
    return torch.cat([(weights.unsqueeze(2) * slabs).sum(1), through[-1], alpha[:, -1:]], 1)


def half(x: Tensor) -> Tensor:
    """Means over squares of 2 x 2 pixels, an odd edge extended."""
    return F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2)


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
