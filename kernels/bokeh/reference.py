"""The photo renderer in plain PyTorch: the definition, the CPU path, and what gradients are taken of.

README.md beside this file derives the formulas. With c = radius * (disparity - focus), the signed blur radius in pixels
(positive in front of the focal plane), the steps are:

1. *Sheets.* A pixel at a depth edge is a mixture of the near and the far surface and is taken apart (`unmix`).
2. *Slabs.* The scene is cut at signed radii ... -2, -1, 0, 1, 2, ... (`Plan`). A sample belongs to the two slabs around
   its c, with tent weights in c|c|: the mean squared radius, the size of the disc, is exact between slabs too.
3. *Hidden surfaces.* What a slab may hold behind nearer things is filled in smoothly from what can be seen (`inpaint`).
4. *Discs.* Colour and alpha of every slab are spread by the normalised aperture (`spread`), at a resolution where the
   radius is FINE to 2 FINE pixels.
5. *Compositing.* Front to back with `over`, with the alpha of a slab taken *given that the ray passed its nearer
   neighbour's share of the same surface* (`Composite`): surfaces that run through many slabs stay opaque.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.kernels.bokeh.aperture import Aperture, aperture_kernel, reach

FINE = 6.0  # a slab is worked at the level where its radius is FINE to 2 FINE pixels (below 2 FINE: at full size)
STEP = 0.5, 0.15  # neighbouring slabs are this far apart: pixels, and relative to the radius (at least one pixel)
TRUST = 16  # a cell of which a TRUST-th part is seen needs no coarser cells when hidden surfaces are filled in
EDGE = 1.0, 2.0  # where blur radii in a 3 x 3 neighbourhood differ by more, pixels are taken to be mixtures (ramp)
TILE = 768  # photos are worked in tiles of this side, of up to half as much again where margins are wide
WORKERS = 4  # tiles that are worked at the same time, at most: each needs memory
BLOCK = 64  # discs are spread in blocks of this side
EPS = 1e-6

Sheet = tuple[Tensor, Tensor]  # premultiplied RGBA (B,4,h,w) and signed squared blur radius c|c| (B,1,h,w)
Spread = Callable[[Tensor, Tensor, Tensor], Tensor]  # RGBA (B,4,h,w), where it is visible (B,1,h,w), kernel -> RGBA


@dataclass
class Plan:
    """How one picture is cut into slabs, and what is needed to work on them. Slab 0 is the farthest."""

    radii: list[float]  # signed
    aperture: Aperture
    full_size: bool = False  # work every slab at full size
    kernels: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, coc: Tensor, aperture: Aperture, full_size: bool = False) -> Plan:
        """The slabs that all blur radii in `coc` lie between."""
        farthest, nearest = float(coc.detach().amin()), float(coc.detach().amax())
        behind, before = slab_radii(max(-farthest, 0.0)), slab_radii(max(nearest, 0.0))
        return cls([-r for r in reversed(behind[1:])] + before, aperture, full_size)

    @property
    def largest(self) -> float:
        return max(-self.radii[0], self.radii[-1])

    @property
    def fill(self) -> int:
        """Levels of the pyramid that fills in hidden surfaces. Little is seen deeper than a quarter of a radius."""
        return max(3, math.ceil(math.log2(max(self.largest, 1) / 4)), self.level_of(self.largest) + 1)

    @property
    def cell(self) -> int:
        """The grid that regions are aligned to, so that they share all pyramids' cells."""
        return 2**self.fill

    @property
    def margin(self) -> int:
        """How far, at most, a pixel can lie from another that it depends on; a multiple of `cell`."""
        return round_up(reach(self.aperture, self.largest) + 2 * self.cell, self.cell)

    def level(self, k: int) -> int:
        """How many times slab k halves the resolution."""
        return self.level_of(abs(self.radii[k]))

    def level_of(self, radius: float) -> int:
        return 0 if self.full_size else max(0, math.floor(math.log2(max(radius, FINE) / FINE)))

    def kernel(self, k: int) -> Tensor:
        """Slab k's image of a point at its level, smaller by what `reduced` and `enlarged` blur by themselves."""
        if k not in self.kernels:
            radius, level = self.radii[k], self.level(k)
            if level:
                radius = math.copysign(math.sqrt((radius**2 + 2 / 3) / 4**level - 5 / 3), radius)
            self.kernels[k] = aperture_kernel(self.aperture, radius)
        return self.kernels[k]

    def cut(self, k: int) -> float:
        """Where slab k lies in c|c|; infinitely far away beyond the ends."""
        if k < 0 or k >= len(self.radii):
            return math.copysign(math.inf, k)
        return self.radii[k] * abs(self.radii[k])

    def nearer(self, c2: Tensor, k: int) -> Tensor:
        """0 for what lies behind slab k - 1, rising to 1 at slab k."""
        low, high = self.cut(k - 1), self.cut(k)
        if low == -math.inf:
            return torch.ones_like(c2)
        if high == math.inf:
            return torch.zeros_like(c2)
        return (c2 * (1 / (high - low)) - low / (high - low)).clamp(0, 1)


def slab_radii(largest: float) -> list[float]:
    """Radii 0, 1, 2, ... that reach `largest`, in steps of one pixel or STEP, whichever is more."""
    radii = [0.0]
    while radii[-1] < largest:
        radii.append(radii[-1] + max(1.0, STEP[0] + STEP[1] * radii[-1]))
    return radii


def render(image: Tensor, coc: Tensor, aperture: Aperture, tile: int | None = None) -> Tensor:
    """Renders linear light (B,3,H,W) from signed blur radii (B,1,H,W) in pixels.

    Works in tiles with a margin that covers all that their pixels depend on: there are no seams, and what is needed
    beside the input and the output does not grow with the photo. `tile` is the side to use.
    """
    plan = Plan.of(coc, aperture)
    side = tile or max(TILE, 2 * plan.margin, min(6 * plan.margin, 3 * TILE // 2))
    return render_tiles(image, coc, plan, spread, round_up(side, plan.cell))


def render_tiles(image: Tensor, coc: Tensor, plan: Plan, spread: Spread, tile: int) -> Tensor:
    """Renders with a given way to spread discs, in tiles of a multiple of `plan.cell`."""
    height, width = image.shape[-2:]
    below, right = round_up(height, plan.cell) - height, round_up(width, plan.cell) - width
    image, coc = (F.pad(x, (0, right, 0, below), mode="replicate") for x in (image, coc))

    def render_tile(top: int, left: int) -> Tensor:
        y, x = max(0, top - plan.margin), max(0, left - plan.margin)
        region = (..., slice(y, top + tile + plan.margin), slice(x, left + tile + plan.margin))
        rendered = render_region(image[region], coc[region], plan, spread)
        return rendered[..., top - y : min(top + tile, height) - y, left - x : min(left + tile, width) - x]

    recorded = torch.is_grad_enabled() and (image.requires_grad or coc.requires_grad)
    lefts = range(0, width, tile)
    corners = [(top, left) for top in range(0, height, tile) for left in lefts]
    tiles = in_threads(render_tile, corners, image.is_cpu and not recorded)
    rows = [torch.cat(tiles[i : i + len(lefts)], -1) for i in range(0, len(tiles), len(lefts))]
    return torch.cat(rows, -2)


def in_threads(function: Callable[..., Tensor], arguments: list[tuple], useful: bool) -> list[Tensor]:
    """[function(*a) for a in arguments], two or more at a time: many small operations use cores badly otherwise.

    PyTorch's threads are shared out; what is computed does not depend on it. No gradients are recorded in threads.
    """
    cores = torch.get_num_threads()
    workers = min(cores, len(arguments), WORKERS)
    if not useful or workers < 2:
        return [function(*a) for a in arguments]

    def start() -> None:  # of a thread: both settings are its own
        torch.set_grad_enabled(False)
        torch.set_num_threads(cores // workers)

    try:
        with ThreadPoolExecutor(workers, initializer=start) as pool:
            return list(pool.map(lambda a: function(*a), arguments))
    finally:
        torch.set_num_threads(cores)


def render_region(image: Tensor, coc: Tensor, plan: Plan, spread: Spread) -> Tensor:
    """Renders one region whose sides are multiples of `plan.cell`."""
    sheets = unmix(image, coc)
    depths = DepthMap(sheets, plan)
    front = Composite(torch.zeros_like(coc))
    for level, slabs in groupby(reversed(range(len(plan.radii))), plan.level):
        areas = [(k, depths.reach_of(k)) for k in slabs]
        if all(area is None for _, area in areas):
            front.nearer = torch.zeros_like(front.nearer)
            continue
        visible = F.max_pool2d(front.through.detach(), 2**level)
        group = Composite(halved(front.nearer, level))
        for k, area in areas:
            if area is None:
                group.nearer = torch.zeros_like(group.nearer)
                continue
            layer = slab([(rgba[area(0)], c2[area(0)]) for rgba, c2 in sheets], plan, k)
            here = area(level)
            group.add(spread(layer, visible[here] * group.through.detach()[here], plan.kernel(k)), here)
        front.add_group(group, 2**level)
    return front.rgba[:, :3] / front.rgba[:, 3:].clamp(min=EPS)


def unmix(image: Tensor, coc: Tensor) -> list[Sheet]:
    """Takes the pixels at depth edges apart into a near and a far surface, with shares a and 1 - a of the pixel.

    What the two sides look like is predicted by a straight line of colour over c, fitted to the 5 x 5 neighbourhood
    (mostly to its unmixed pixels); a is where the pixel's colour lies between the predictions, held near to the side
    that its own disparity names. What the predictions leave unexplained is given back, so that the two add up to the
    pixel exactly.
    """
    window = F.pad(coc, (1,) * 4, mode="replicate")
    near, far = F.max_pool2d(window, 3, 1), -F.max_pool2d(-window, 3, 1)
    edge = ((near - far - EDGE[0]) / (EDGE[1] - EDGE[0])).clamp(0, 1)
    rgba = torch.cat([image, torch.ones_like(coc)], 1)
    if not bool((edge.detach() > 0).any()):
        return [(rgba, coc * coc.abs())]

    weight, shown = 1 - 0.8 * edge, image.clamp(max=1)  # lights tell nothing about the mixture
    sums = box(torch.cat([weight, weight * coc, weight * coc * coc, weight * shown, weight * coc * shown], 1), 5)
    c, cc, colour, product = (x / sums[:, :1] for x in sums[:, 1:].split([1, 1, 3, 3], 1))
    slope = (product - c * colour) / (cc - c * c).clamp(min=0).add(0.01)
    near_colour, far_colour = colour + slope * (near - c), colour + slope * (far - c)

    side = (coc - far) / (near - far).clamp(min=EPS)
    contrast = near_colour - far_colour
    share = ((shown - far_colour) * contrast).sum(1, keepdim=True) + 0.03 * side
    share = share / (contrast.square().sum(1, keepdim=True) + 0.03)
    share = torch.minimum(torch.maximum(share, side / 2), (1 + side) / 2)
    share = torch.where(edge > 0, side + edge * (share - side), torch.ones_like(share))

    rest = (shown - share * near_colour - (1 - share) * far_colour) / (share.square() + (1 - share).square())
    near_colour = torch.where(edge > 0, near_colour + share * rest + (image - shown), image)
    far_colour = far_colour + (1 - share) * rest + (image - shown)
    near, far = (torch.where(edge > 0, x, coc) for x in (near, far))
    return [
        (share * torch.cat([near_colour, rgba[:, 3:]], 1), near * near.abs()),
        ((1 - share) * torch.cat([far_colour, rgba[:, 3:]], 1), far * far.abs()),
    ]


def slab(sheets: list[Sheet], plan: Plan, k: int) -> Tensor:
    """Premultiplied RGBA of slab k at its level: what is seen of it, and what it may hold behind nearer things."""
    level = plan.level(k)
    shares = [(rgba[:, 3:], c2) for rgba, c2 in sheets]
    seen = weighted(sheets, lambda c2: plan.nearer(c2, k) - plan.nearer(c2, k + 1))
    hidden = weighted(shares, lambda c2: plan.nearer(c2, k + 2))
    if not bool((hidden.detach() > 0).any()):
        return reduced(seen, level)
    known = weighted(shares, lambda c2: 1 - plan.nearer(c2, k + 1))
    seen, hidden, known = (reduced(x, level) for x in (seen, hidden, known))
    return seen + hidden * inpaint(seen, known, plan.fill - level)


def weighted(sheets: list[Sheet], weight: Callable[[Tensor], Tensor]) -> Tensor:
    """The sheets' sum, each weighted by a function of its c|c|."""
    first, *others = (x * weight(c2) for x, c2 in sheets)
    return first + others[0] if others else first


def inpaint(layer: Tensor, known: Tensor, levels: int) -> Tensor:
    """Fills `layer` (B,4,h,w), premultiplied by a part of `known` (B,1,h,w), smoothly into where nothing is known.

    Pull: the averages of what is known, at half the size each time. Push: what is unknown at a size comes from the next
    coarser one. What lies farther than two cells of the coarsest level from all that is known is left empty.
    """
    pyramid = [torch.cat([layer, known], 1)]
    for _ in range(levels):
        mean = halved(pyramid[-1], 1)
        part = mean[:, 4:]
        pyramid.append(mean * ((TRUST * part).clamp(max=1) / part.clamp(min=EPS)))
    filled = pyramid.pop()
    for finer in reversed(pyramid):
        filled = finer + (1 - finer[:, 4:]) * enlarged(filled, 2)
    return filled[:, :4] / filled[:, 4:].clamp(min=EPS)


def spread(layer: Tensor, visible: Tensor, kernel: Tensor) -> Tensor:
    """Every pixel's light spread over `kernel`, the image of a point; the frame's edge is extended.

    Worked in blocks, side by side as channels of one depthwise convolution. Blocks that nothing reaches, or of which
    nothing is `visible`, are left empty.
    """
    half = kernel.shape[-1] // 2
    if half == 0:
        return layer
    (batch, channels, height, width), window = layer.shape, BLOCK + 2 * half
    right, below = round_up(width, BLOCK) - width, round_up(height, BLOCK) - height
    padded = F.pad(layer, (half, half + right, half, half + below), mode="replicate")
    busy = busy_blocks(layer, visible, half)
    blocks = padded.unfold(2, window, BLOCK).unfold(3, window, BLOCK).permute(0, 2, 3, 1, 4, 5)[busy]
    out = layer.new_zeros(*busy.shape, channels, BLOCK, BLOCK)
    if len(blocks):
        many = len(blocks) * channels
        weight = kernel.flip(0, 1).to(layer).expand(many, 1, -1, -1)  # flipped: conv2d correlates
        out[busy] = F.conv2d(blocks.reshape(1, many, window, window), weight, groups=many).reshape(-1, *out.shape[3:])
    out = out.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, height + below, width + right)
    return out[..., :height, :width]


def busy_blocks(layer: Tensor, visible: Tensor, half: int) -> Tensor:
    """Which blocks (B,rows,columns) light from at most `half` pixels away reaches, and are visible somewhere."""
    alpha = F.max_pool2d(layer[:, 3:].detach(), BLOCK, ceil_mode=True)
    around = -(-half // BLOCK)
    reached = F.max_pool2d(alpha, 2 * around + 1, 1, around)
    return ((reached > 0) & (F.max_pool2d(visible, BLOCK, ceil_mode=True) > 0))[:, 0]


class Composite:
    """Layers put one behind the other: their premultiplied RGBA, and what light passes them all.

    Begins with the alpha (B,1,h,w) of the slab just in front. RGBA's alpha is 1 - through, rounded like its colours.
    """

    def __init__(self, nearer: Tensor):
        self.rgba = torch.zeros_like(nearer).repeat(1, 4, 1, 1)
        self.through = torch.ones_like(nearer)
        self.nearer = nearer

    def add(self, layer: Tensor, area: tuple) -> None:
        """Puts spread, premultiplied RGBA behind all that is here.

        The slab just in front holds parts of the same surfaces. They block other points of the aperture than this
        slab's parts do, so of the rays that pass it, alpha / (1 - its alpha) is blocked here. All other layers are
        independent.
        """
        alpha, through = layer[:, 3:], self.through[area].clone()
        layer = layer / torch.maximum(alpha, 1 - self.nearer[area]).clamp(min=EPS)
        self.rgba[area] += through * layer
        self.through[area] = through * (1 - layer[:, 3:])
        self.nearer = torch.zeros_like(self.nearer)
        self.nearer[area] = alpha

    def add_group(self, group: Composite, scale: int) -> None:
        """Puts a finished group of layers, worked at 1 / scale of the size, behind all that is here."""
        self.rgba = self.rgba + self.through * enlarged(group.rgba, scale)
        self.through = self.through * enlarged(group.through, scale)
        self.nearer = enlarged(group.nearer, scale)


class DepthMap:
    """Which slabs occur where, coarsely."""

    def __init__(self, sheets: list[Sheet], plan: Plan):
        self.plan, c2 = plan, [c2.detach() for _, c2 in sheets]
        self.farthest = -F.max_pool2d(-c2[-1], plan.cell).amax(0)[0]
        self.nearest = F.max_pool2d(c2[0], plan.cell).amax(0)[0]

    def reach_of(self, k: int) -> Callable[[int], tuple] | None:
        """The rectangle that slab k can be seen in, an index into pictures of a given level; None if it is empty."""
        plan = self.plan
        cells = ((self.nearest > plan.cut(k - 1)) & (self.farthest < plan.cut(k + 1))).nonzero()
        if not len(cells):
            return None
        around = 2 + -(-reach(plan.aperture, abs(plan.radii[k])) // plan.cell)
        first, last = (cells.amin(0) - around).clamp(min=0).tolist(), (cells.amax(0) + around + 1).tolist()

        def index(level: int) -> tuple:
            cell = plan.cell >> level
            return (..., *(slice(a * cell, b * cell) for a, b in zip(first, last, strict=True)))

        return index


def halved(x: Tensor, times: int) -> Tensor:
    """Means over squares of 2^times pixels (bilinear interpolation at half the size is the mean of four)."""
    for _ in range(times):
        x = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
    return x


def reduced(x: Tensor, times: int) -> Tensor:
    """x at 1 / 2^times of the size; pixels are shared by the two nearest in each direction: light keeps its place."""
    for _ in range(times):
        x = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False, antialias=True)
    return x


def enlarged(x: Tensor, times: int) -> Tensor:
    return x if times == 1 else F.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)


def box(x: Tensor, side: int) -> Tensor:
    """Sums over squares of an odd side, the frame's edge extended."""
    height, width = x.shape[-2:]
    x = F.pad(x, (side // 2,) * 4, mode="replicate")
    x = sum(x[..., i : i + height, :] for i in range(1, side)) + x[..., :height, :]
    return sum(x[..., i : i + width] for i in range(1, side)) + x[..., :width]


def round_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit
