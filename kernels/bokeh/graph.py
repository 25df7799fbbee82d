"""The photo renderer as a graph: the export form of `reference.py`, for ONNX, TorchScript and torch.export.

It takes the reference's steps (README.md), arranged so that a fixed list of convolutions, pooling, resizing and
arithmetic renders any picture with any blur at the same cost:

- *Slabs* lie at fixed radii: RADII at full size and half of it, OCTAVE an octave at 1/4, 1/8, ... A level's slabs are
  worked at once, side by side: all their reds, greens, blues, alphas (4, n), each near to far.
- *Light* goes up a pyramid until it meets slabs of its blur radius. What a level keeps is taken out of what it passes
  on, so all light is spread exactly once. On its way up it is kept apart only by its side of the focal plane.
- Where the reference looks at the picture to leave work out, the graph does it everywhere.

Blur radii beyond the coarsest level's, LARGEST pixels, are drawn as large as that.

Everything between `enter` and `leave` may be worked in half precision: no value leaves its range, and what is divided
by is at least EPS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from argan.kernels.bokeh.aperture import aperture_kernel
from argan.kernels.bokeh.layers import TRUST
from argan.kernels.sizes import plain

LEVELS = 7  # of the pyramid: 1, 1/2, ... 1/64 of the size
RADII = [1.0, 2.0], [3.2, 4.3, 5.8, 7.7, 10.0, 13.0]  # of the slabs at 1 and 1/2 of the size, pixels of the photo
FIRST = 16.4  # radius of the smallest slab at 1/4 of the size
OCTAVE = 3  # slabs an octave from there on

LIGHT = 11  # channels of `light`: see `smaller`
CELL = 2 ** (LEVELS - 1)  # pictures are worked in whole cells of the coarsest level
LARGEST = FIRST * 2 ** (LEVELS - 2 - 1 / OCTAVE)
UNIT = 4  # square pixels, of squared radii: LARGEST^2 / UNIT is within half precision's 65504
EPS = 1e-4
LITTLE = 1 / 64  # of a cell known: what is known less does not count for less, among larger cells


class BokehGraph(nn.Module):
    """Linear light and signed blur radii in pixels -> what a lens with a disc for an aperture shows, linear light.

    It works between `enter`, which brings a picture to whole cells, and `leave`, which takes it out again. It has no
    size in it, so that it may be traced at one size and run at any other; batch and sizes may be symbolic.
    """

    tent: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cuts", cuts())
        for level in range(1, LEVELS):
            self.register_buffer(f"cuts_before_{level}", cuts_before(level))
            self.register_buffer(f"cuts_behind_{level}", cuts_behind(level))
        for level in range(LEVELS):
            self.register_buffer(f"discs_{level}", discs(level))
        tent = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("tent", torch.outer(tent, tent).repeat(LIGHT, 1, 1, 1))

    def forward(self, scene: Tensor) -> Tensor:
        """What `enter` gives -> the rendered picture (B,3,h,w) in whole cells. Radii of 0 only round."""
        focal, light = self.full_size(scene[:, :4], scene[:, 4:])
        fronts, backs = [], []
        for level in range(1, LEVELS):
            front, back, light = self.smaller(self.halved(light), level)
            fronts.append(front)
            backs.append(back)
        colour, alpha = composite(fronts, focal, backs).split([3, 1], 1)
        return colour / alpha.clamp(min=EPS)

    def full_size(self, rgba: Tensor, c2: Tensor) -> tuple[Tensor, Tensor]:
        """The spread slabs (B,4,n,h,w) around the focal plane, and the `light` that they do not hold."""
        count = 2 * len(RADII[0]) + 1
        nearer = ramps(c2, self.get_buffer("cuts"))  # [j]: 1 from slab j - 2 on, falling to 0 at slab j - 1
        one_before, here, before = (nearer.narrow(1, start, count) for start in range(3))
        seen = of_each(rgba, before - here)
        slabs = filled(seen, 1 - here, one_before, LEVELS - 1)
        rest = torch.cat([rgba, c2.abs()], 1)
        light = [rest * nearer.narrow(1, 1, 1), rest * (1 - nearer.narrow(1, count + 1, 1)), nearer.narrow(1, count, 1)]
        return spread(slabs, self.get_buffer("discs_0")), torch.cat(light, 1)

    def smaller(self, light: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor]:
        """A level's spread slabs (B,4,n,h,w) in front of the focal plane and behind it, and the `light` left.

        `light` (B,11,h,w) is what no finer level holds: premultiplied RGBA and alpha c^2 in front of the focal plane,
        the same behind it, and what hides the first slab behind.
        """
        count = len(radii(level))
        before, behind, hides = light.split([5, 5, 1], 1)
        alpha, c2 = before.narrow(1, 3, 2).split(1, 1)
        nearer = ramps(c2 / alpha.clamp(min=EPS), self.get_buffer(f"cuts_before_{level}"))
        share = alpha * nearer
        weights = [nearer.narrow(1, 2, count) - nearer.narrow(1, 1, count)]
        known, hidden = [1 - share.narrow(1, 1, count)], [share.narrow(1, 0, count)]

        alpha, c2 = behind.narrow(1, 3, 2).split(1, 1)
        farther = ramps(c2 / alpha.clamp(min=EPS), self.get_buffer(f"cuts_behind_{level}"))
        share = (alpha * farther).narrow(1, 0, count)  # [k]: 0 up to slab k - 1, rising to all of alpha at slab k
        hides = torch.cat([hides, 1 - share], 1)
        weights.append(farther.narrow(1, 0, count) - farther.narrow(1, 1, count))
        known, hidden = [*known, share], [*hidden, hides.narrow(1, 0, count)]

        sides = (before.narrow(1, 0, 4), behind.narrow(1, 0, 4))
        seen = torch.cat([of_each(rgba, weight) for rgba, weight in zip(sides, weights, strict=True)], 2)
        slabs = filled(seen, torch.cat(known, 1), torch.cat(hidden, 1), LEVELS - 1 - level)
        slabs = spread(slabs, self.get_buffer(f"discs_{level}"))
        rest = [before * nearer.narrow(1, 1, 1), behind * farther.narrow(1, count, 1), hides.narrow(1, count, 1)]
        return slabs.narrow(2, 0, count), slabs.narrow(2, count, count), torch.cat(rest, 1)

    def halved(self, light: Tensor) -> Tensor:
        """Half the size; every pixel is shared by the two nearest in each direction, so light keeps its place."""
        return F.conv2d(F.pad(light, (1, 1, 1, 1), mode="replicate"), self.tent, stride=2, groups=LIGHT)


def enter(image: Tensor, coc: Tensor) -> Tensor:
    """Linear RGB (B,3,H,W) and signed radii (B,1,H,W) -> RGB, 1 and signed c^2 (B,5,h,w), extended to whole cells."""
    height, width = image.shape[-2:]
    around = (0, whole_cells(width) - width, 0, whole_cells(height) - height)
    coc = coc.clamp(-LARGEST, LARGEST)
    rgba = F.pad(image, (0, 0, 0, 0, 0, 1), value=1.0)  # torch.ones_like would be stored in files of one size
    return F.pad(torch.cat([rgba, coc * coc.abs() / UNIT], 1), around, mode="replicate")


def leave(rendered: Tensor, like: Tensor) -> Tensor:
    """The part of `rendered` that is as large as `like`."""
    return rendered[..., : like.shape[-2], : like.shape[-1]]


def radii(level: int) -> list[float]:
    """Blur radii of a level's slabs on one side of the focal plane, in pixels of the photo, ascending."""
    return RADII[level] if level < 2 else [FIRST * 2 ** (level - 2 + step / OCTAVE) for step in range(OCTAVE)]


def cuts() -> Tensor:
    """`ramps` between the slabs at full size, near to far, from two slabs before the first to one behind the last."""
    before = [r * r for r in (*RADII[0], *RADII[1][:2])]
    return between([*reversed(before), 0.0, *(-c2 for c2 in before[:-1])])


def cuts_before(level: int) -> Tensor:
    """`ramps` in c^2 between a level's slabs in front of the focal plane, near to far, from two slabs before the first.

    The last is 1 everywhere: what is less blurred than all slabs of the level, but has come here, belongs to its last.
    """
    ramp = between([r * r for r in reversed([*radii(level), *radii(level + 1)[:2]])])
    if level == LEVELS - 1:
        ramp[:, :2] = 0  # no slab is nearer
    return torch.cat([ramp, ALWAYS], 1)


def cuts_behind(level: int) -> Tensor:
    """`ramps` in c^2 between a level's slabs behind the focal plane, near to far, to one behind the last.

    The first is 1 everywhere, as the last of `cuts_before`.
    """
    ramp = between([r * r for r in (*radii(level), radii(level + 1)[0])])
    if level == LEVELS - 1:
        ramp[:, -1] = 0  # no slab is farther
    return torch.cat([ALWAYS, ramp], 1)


def between(cuts: list[float]) -> Tensor:
    """Factors and offsets (2,n,1,1) of lines in c^2 / UNIT: 0 at the smaller of neighbouring cuts, 1 at the larger."""
    pairs = [(min(pair) / UNIT, max(pair) / UNIT) for pair in pairwise(cuts)]
    return torch.tensor([[1 / (b - a) for a, b in pairs], [-a / (b - a) for a, b in pairs]])[:, :, None, None]


ALWAYS = torch.tensor([0.0, 1.0])[:, None, None, None]


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
    """`size` rounded up to a multiple of CELL."""
    return plain((size + CELL - 1) // CELL, least=1) * CELL


def of_each(rgba: Tensor, weights: Tensor) -> Tensor:
    """Slabs (B,4,n,h,w): the shares `weights` (B,n,h,w) of `rgba` (B,4,h,w)."""
    return rgba.unsqueeze(2) * weights.unsqueeze(1)


def filled(seen: Tensor, known: Tensor, hidden: Tensor, levels: int) -> Tensor:
    """Slabs (B,4,n,h,w) with what they may hold behind nearer things, the part `hidden` (B,n,h,w) of each pixel.

    The reference's `inpaint`, more simply: what is known nearby counts for TRUST times what is known twice as far away.
    It begins at half the size, because what is hidden is seen only beside an edge, and blurred, and goes on to that of
    a whole cell, so that it needs no `backdrop`.
    """
    planes = seen.flatten(1, 2)
    if levels:
        planes, known = F.avg_pool2d(planes, 2), F.avg_pool2d(known, 2)
    pyramid = [(planes, known)]
    for _ in range(levels - 1):
        pyramid.append((F.avg_pool2d(pyramid[-1][0], 2), F.avg_pool2d(pyramid[-1][1], 2)))
    colour, weight = pyramid.pop()
    for finer, share in reversed(pyramid):
        less = (weight / LITTLE).clamp(1, TRUST)  # down to LITTLE at the least, however often: half precision has to do
        colour = TRUST * finer + enlarged(divided(colour, less))
        weight = TRUST * share + enlarged(weight / less)
    colour = divided(colour, weight.clamp(min=EPS))
    return seen + as_slabs(enlarged(colour) if levels else colour) * hidden.unsqueeze(1)


def divided(colour: Tensor, weight: Tensor) -> Tensor:
    """Slabs' (B,4n,h,w) by their weights (B,n,h,w)."""
    return (as_slabs(colour) / weight.unsqueeze(1)).flatten(1, 2)


def as_slabs(planes: Tensor) -> Tensor:
    """(B,4n,h,w) -> slabs (B,4,n,h,w)."""
    return planes.unflatten(1, (4, channels(planes) // 4))


def channels(x: Tensor) -> int:
    """As a number, also while torch.jit.trace turns sizes into tensors."""
    return int(x.shape[1])


def spread(slabs: Tensor, discs: Tensor) -> Tensor:
    """Every slab of (B,4,n,h,w) convolved with its disc; the frame's edge is extended."""
    planes = slabs.flatten(1, 2)
    padded = F.pad(planes, (int(discs.shape[-1]) // 2,) * 4, mode="replicate")
    return as_slabs(F.conv2d(padded, discs, groups=channels(planes)))


def composite(fronts: Sequence[Tensor], focal: Tensor, backs: Sequence[Tensor]) -> Tensor:
    """Premultiplied RGBA (B,4,h,w) of all slabs (B,4,n,h,w); `fronts` and `backs` from fine to coarse."""
    front = over(fronts[-1], None)
    for slabs in [*reversed(fronts[:-1]), focal]:
        *coarse, nearer = enlarged(front).split([4, 1, 1], 1)
        *fine, nearer = over(slabs, nearer).split([4, 1, 1], 1)
        front = torch.cat([*behind(*coarse, *fine), nearer], 1)
    groups = []
    for slabs in backs:
        groups.append(over(slabs, F.avg_pool2d(nearer, 2)))
        nearer = groups[-1].narrow(1, 5, 1)
    back = groups.pop().narrow(1, 0, 5)
    for group in [*reversed(groups), front]:
        *fine, _ = group.split([4, 1, 1], 1)
        back = torch.cat(behind(*fine, *enlarged(back).split([4, 1], 1)), 1)
    return back.narrow(1, 0, 4)


def behind(front: Tensor, passed: Tensor, back: Tensor, through: Tensor) -> tuple[Tensor, Tensor]:
    """`back` put behind `front`: premultiplied RGBA, and what light passes."""
    return front + passed * back, passed * through


def over(slabs: Tensor, nearer: Tensor | None) -> Tensor:
    """Slabs (B,4,n,h,w) put one behind the other, as the reference's `Composite` does.

    Returns (B,6,h,w): premultiplied RGBA, what light passes them all, and the alpha of the last; `nearer` is the alpha
    of the slab just in front.
    """
    alpha = slabs.narrow(1, 3, 1).squeeze(1)
    others, last = alpha.split([channels(alpha) - 1, 1], 1)
    before = F.pad(others, (0, 0, 0, 0, 1, 0)) if nearer is None else torch.cat([nearer, others], 1)
    weights = 1 / torch.maximum(alpha, 1 - before).clamp(min=EPS)
    through, *passed = (1 - alpha * weights).split(1, 1)
    first, *rest = weights.split(1, 1)
    weighted = [first]
    for weight, part in zip(rest, passed, strict=True):
        weighted.append(weight * through)
        through = through * part
    rgba = (slabs * torch.cat(weighted, 1).unsqueeze(1)).sum(2)
    return torch.cat([rgba, through, last], 1)


def enlarged(x: Tensor) -> Tensor:
    """Twice the size."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
