"""The photo renderer's steps in plain PyTorch: the definition, a CPU path, and what gradients are taken of.

`regions` says in what order they are taken; README.md beside this file derives the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.kernels.bokeh.areas import (
    Area,
    doubled,
    halved,
    largest_around,
    reduced,
    replicated,
    round_up,
    window,
)
from argan.kernels.bokeh.layers import Composite, Sheets, before, trusted
from argan.kernels.bokeh.plan import BLOCK, EPS, Plan
from argan.kernels.bokeh.regions import BESIDE, Steps

EDGE = 1.0, 2.0  # where blur radii in a 3 x 3 neighbourhood differ by more, pixels are taken to be mixtures (ramp)
MIXED = 0.2, 1.0  # what mixed pixels count for when surfaces' colours are fitted, at first and with the shares found
DOUBT = 0.05  # how much a mixed pixel's disparity counts for, beside its colour
HELD = 0.3  # a pixel has at least this part of the share that its own disparity names
MIDDLE = 12  # of 5 x 5
RIDGE = 1e-4  # added to the variance of shares: where it is less, colours do not tell the surfaces apart
NOISE = 1e-5  # variance of colour that even a smooth surface is thought to have
AT_ONCE = 2**18  # mixed pixels, at most, that are taken apart at a time
FADE = 0.1  # hidden surfaces end softly: where what they are known by weighs less


def unmix(image: Tensor, spans: Tensor, plan: Plan) -> Sheets:
    """Takes the pixels at depth edges apart into a near and a far surface, with shares a and 1 - a of the pixel.

    `spans` (1,4,h,w) has the mean blur radius in every pixel, that of its light, and the highest and the lowest.

    What the two surfaces look like is predicted by a straight line of colour over a, fitted to the 5 x 5 pixels around,
    the nearest counting most: at first with the shares that disparity names, then with those found (`shares`).
    """
    coc, of_light, highest, lowest = spans.split(1, 1)
    near, far = largest_around(highest), -largest_around(-lowest)
    edge = ((near - far - EDGE[0]) / (EDGE[1] - EDGE[0])).clamp(0, 1)
    rows, columns = (edge[0, 0].detach() > 0).nonzero().unbind(1)
    rgba, place = torch.cat([image, torch.ones_like(coc)], 1), plan.place(of_light)
    if not len(rows):
        return Sheets(rgba, place, rgba.new_zeros(4, 0), place.new_zeros(1, 0), rows, columns, plan.cell)
    pixels = rows * image.shape[-1] + columns
    near, far = near.flatten(2)[0, :, pixels], far.flatten(2)[0, :, pixels]
    mixtures = Mixtures(image[0], coc[0], edge[0], pixels, near, far, plan.white)
    found, fits = None, []
    for trust in MIXED:
        fits = [part.fit(trust, found) for part in mixtures.parts()]
        share = torch.cat([share for share, *_ in fits], 1)
        found = torch.zeros_like(coc).view(1, -1).index_copy(1, pixels, share)
    surfaces = [part.surfaces(found, *fit) for part, fit in zip(mixtures.parts(), fits, strict=True)]
    near_rgba, far_rgba = (torch.cat(parts, 1) for parts in zip(*surfaces, strict=True))
    near_place = place.flatten(2)[0].index_copy(1, pixels, plan.place(near)).view_as(place)
    rgba = rgba.flatten(2)[0].index_copy(1, pixels, near_rgba).view_as(rgba)
    return Sheets(rgba, near_place, far_rgba, plan.place(far), rows, columns, plan.cell)


@dataclass
class Mixtures:
    """Pixels of a picture in which a near and a far surface are mixed."""

    image: Tensor  # (3,h,w)
    coc: Tensor  # (1,h,w)
    edge: Tensor  # (1,h,w), how surely a pixel is mixed
    pixels: Tensor  # (N,), which they are, row by row
    near: Tensor  # (1,N), the surfaces' blur radii
    far: Tensor  # (1,N)
    white: float  # see `Plan.white`

    def parts(self) -> Iterator[Mixtures]:
        """At most AT_ONCE of them at a time, each to be let go before the next: what is around a pixel takes 2 kB."""
        if len(self.pixels) <= AT_ONCE:
            yield self
            return
        each = (x.split(AT_ONCE, -1) for x in (self.pixels, self.near, self.far))
        for pixels, near, far in zip(*each, strict=True):
            yield replace(self, pixels=pixels, near=near, far=far)

    def fit(self, trust: float, found: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The near surface's share (1,N), and colours (3,N) of the near and the far surface.

        Mixed pixels around count for `trust`, with the shares `found` (1,h*w) before, if any were.
        """
        shown = self.colours.clamp(max=self.white)  # lamps tell nothing about the mixture
        near, far = two_colours(shown, self.share(found), self.nearness * (1 - (1 - trust) * self.mixed))
        return shares(shown[..., MIDDLE], self.side[..., MIDDLE], self.mixed[..., MIDDLE], near, far), near, far

    def surfaces(self, found: Tensor | None, share: Tensor, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """Premultiplied RGBA (4,N) of the near and the far surface, of which `fit` is known."""
        vary = variances(self.colours, self.share(found), self.nearness, near, far)
        return apart(self.colours[..., MIDDLE], share, near, far, *vary)

    def share(self, found: Tensor | None) -> Tensor:
        """Of the near surface in each of the pixels around, (1,N,25)."""
        return self.side if found is None else torch.where(self.mixed > 0, found[:, self.around], self.side)

    @cached_property
    def around(self) -> Tensor:
        """The 5 x 5 pixels around each, (N,25)."""
        height, width = self.coc.shape[-2:]
        row = ((self.pixels // width)[:, None] + self.steps).clamp(0, height - 1)
        column = ((self.pixels % width)[:, None] + self.steps).clamp(0, width - 1)
        return (row[:, :, None] * width + column[:, None, :]).flatten(1)

    @cached_property
    def colours(self) -> Tensor:
        """Of the pixels around, (3,N,25)."""
        return self.image.flatten(1)[:, self.around]

    @cached_property
    def side(self) -> Tensor:
        """On which side of the edge disparity has the pixels around, (1,N,25): 0 far, 1 near."""
        side = self.coc.flatten(1)[:, self.around] - self.far[..., None]
        return (side / (self.near - self.far).clamp(min=EPS)[..., None]).clamp(0, 1)

    @cached_property
    def mixed(self) -> Tensor:
        """How surely the pixels around are, (1,N,25)."""
        return self.edge.flatten(1)[:, self.around]

    @cached_property
    def steps(self) -> Tensor:
        return torch.arange(-2, 3, device=self.pixels.device)

    @cached_property
    def nearness(self) -> Tensor:
        """What the pixels around count for, (25,)."""
        square = self.steps.square().to(self.coc)
        return torch.exp(-(square[:, None] + square) / 2).flatten()


def two_colours(shown: Tensor, share: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Colours (3,N) of the near and the far surface: a weighted straight line of colour (3,N,n) over share (1,N,n).

    They are among the colours shown: what the line says beyond them is as likely shading or noise.
    """
    weight = weight / weight.sum(2, keepdim=True)
    a, colour = ((weight * x).sum(2) for x in (share, shown))
    away = weight * (share - a[..., None])
    slope = (away * shown).sum(2) / ((away * share).sum(2) + RIDGE)
    darkest, brightest = shown.amin(2), shown.amax(2)
    near, far = colour + slope * (1 - a), colour - slope * a
    near, far = (torch.minimum(torch.maximum(x, darkest), brightest) for x in (near, far))
    return near, far


def shares(shown: Tensor, side: Tensor, edge: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """The near surface's share (1,N) of mixed pixels, of which (3,N) is shown.

    Where the pixel's colour lies between the two surfaces', held near to the side that its own disparity names (0 far,
    1 near); `edge` says how surely the pixel is mixed.
    """
    contrast = near - far
    doubt = DOUBT * (near.square() + far.square()).sum(0, keepdim=True)
    share = ((shown - far) * contrast).sum(0, keepdim=True) + doubt * side
    share = share / (contrast.square().sum(0, keepdim=True) + doubt).clamp(min=EPS)
    share = torch.minimum(torch.maximum(share, HELD * side), 1 - HELD * (1 - side))
    return side + edge * (share - side)


def variances(colours: Tensor, share: Tensor, weight: Tensor, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """How far colours (3,N,n) lie from the two surfaces' (3,N), squared (1,N), where each shows most."""
    rest = colours - share * near[..., None] - (1 - share) * far[..., None]
    rest = rest.square().sum(0, keepdim=True)
    near_weight, far_weight = weight * share.square(), weight * (1 - share).square()
    near_variance, far_variance = (
        (w * rest).sum(2) / w.sum(2).clamp(min=EPS) + NOISE for w in (near_weight, far_weight)
    )
    return near_variance, far_variance


def apart(
    image: Tensor, share: Tensor, near: Tensor, far: Tensor, near_variance: Tensor, far_variance: Tensor
) -> tuple[Tensor, Tensor]:
    """Premultiplied RGBA (4,N) of the two surfaces, which add up to the pixel exactly; neither has negative light.

    What their colours leave unexplained is shared out as is likeliest if both vary around them: by a^2 var.
    """
    other = 1 - share
    rest = image - share * near - other * far
    of_near, of_far = share.square() * near_variance, other.square() * far_variance
    light = share * near + rest * (of_near / (of_near + of_far))
    light = torch.minimum(torch.maximum(light, image.clamp(max=0)), image.clamp(min=0))
    return torch.cat([light, share]), torch.cat([image - light, other])


def weigh(sheets: Sheets, what: str, k: int, area: Area, level: int, part: Area | None = None) -> Tensor:
    """Surfaces weighted by WEIGHTS of their places, in an area of the region at a level: RGBA if seen, else alpha.

    Nothing weighs anything beyond the `part` of it, if that is given.
    """
    weight, channels = WEIGHTS[what], slice(4) if what == "seen" else slice(3, 4)
    weighed = reduced(sheets.weighted(lambda place: weight(place, k), part or area, channels), level)
    return within_zeros(weighed, part or area, area, level)


def within_zeros(x: Tensor, part: Area, area: Area, level: int) -> Tensor:
    """x, at a level, of a part of an area, as of all of it."""
    if part == area:
        return x
    whole = x.new_zeros(*x.shape[:2], *area.at_level(level).size)
    whole[part.seen_from(area).at_level(level).index()] = x
    return whole


WEIGHTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "seen": lambda place, k: (1 - (place - k).abs()).clamp_(min=0),  # in slab k
    "known": lambda place, k: ((k + 1) - place).clamp_(0, 1),  # in no nearer slab
    "hidden": lambda place, k: (place - (k + 1)).clamp_(0, 1),  # nearer than the slab before
}


def fill(
    inpaint: Callable[[Tensor, Tensor, int, Area], Tensor],
    layer: Tensor,
    known: Tensor,
    hidden: Tensor,
    levels: int,
    white: float,
    around: Area,
    hides: Area,
) -> None:
    """Adds to `layer`, in the area `hides`, what of it is `hidden` there, from what is `known` of it `around` there."""
    shown = layer[around.index()]
    if not math.isinf(white):
        shown = torch.minimum(shown.clone(), white * shown[:, 3:])  # a copy: the layer is written to below
    filled = inpaint(shown, known, levels, hides.seen_from(around))
    part = hides.index()
    layer[part] = torch.addcmul(layer[part], filled[:, :4], hidden / filled[:, 4:].clamp(min=FADE))


def inpaint(layer: Tensor, known: Tensor, levels: int, wanted: Area) -> Tensor:
    """Fills `layer` (B,4,h,w), premultiplied by a part of `known` (B,1,h,w), smoothly into where nothing is known.

    Returns RGBA and the weight that it is premultiplied by, (B,5,h,w), of the `wanted` area.
    Pull: the averages of what is known, at half the size each time. Push: what is unknown at a size comes from the next
    coarser one. What lies farther than two cells of the coarsest level from all that is known is left empty.
    """
    mean = torch.cat([halved(layer, 1), halved(known, 1)], 1)
    pyramid = []
    for level in range(levels):
        mean = halved(mean, 1) if level else mean
        mean = trusted(mean, mean[:, 4:])
        pyramid.append(mean)
    filled = pyramid.pop()
    for finer in reversed(pyramid):
        filled = torch.addcmul(finer, 1 - finer[:, 4:], doubled(replicated(filled)))
    finest = torch.cat([layer[wanted.index()], known[wanted.index()]], 1)
    return torch.addcmul(finest, 1 - finest[:, 4:], doubled(window(filled, wanted.at_level(1).grown(1))))


def spread(layer: Tensor, area: Area, visible: Tensor, kernels: Tensor) -> Tensor:
    """Every pixel's light spread over the image of a point, as (R,C,2n+1,2n+1) has it for R x C equal blocks.

    The result is of an area (h,w) of the layer (B,4,H,W), `visible` (B,1,h,w). A pixel of the result is a mean of those
    around it, by its own block's kernel: what is the same everywhere stays as it is. Worked in blocks, side by side as
    channels of one depthwise convolution. Blocks that nothing reaches, or of which nothing is `visible`, are left
    empty. What is spread is how colours differ from their mean: sums of hundreds of taps do not round what is the same
    everywhere.
    """
    side = kernels.shape[-1]
    layer = window(layer, area.grown(side // 2))
    if side == 1:
        return layer
    channels, (height, width) = layer.shape[1], visible.shape[-2:]
    block = height // len(kernels) if kernels.shape[:2] != (1, 1) else BLOCK
    size = block + side - 1
    busy = busy_blocks(block_windows(layer[:, 3], (height, width), side, block), visible, block)
    out = layer.new_zeros(*busy.shape, channels, block, block)
    if bool(busy.any()):
        mean = mean_colour(layer)
        layer = torch.addcmul(layer, mean, layer[:, 3:], value=-1)
        blocks = block_windows(layer, (height, width), side, block).permute(0, 2, 3, 1, 4, 5)[busy]
        many = len(blocks) * channels
        weight = kernels.flip(2, 3).to(layer).expand(*busy.shape, -1, -1)[busy]  # flipped: conv2d correlates
        weight = weight.repeat_interleave(channels, 0)[:, None]
        blurred = F.conv2d(blocks.reshape(1, many, size, size), weight, groups=many).reshape(-1, *out.shape[3:])
        out[busy] = torch.addcmul(blurred, mean, blurred[:, 3:])
    out = out.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    return out[..., :height, :width]


def mean_colour(layer: Tensor) -> Tensor:
    """Of a layer (B,4,h,w), per alpha and without what is brighter than white, (B,4,1,1); its own alpha is 0."""
    layer = layer.detach()
    mean = torch.minimum(layer, layer[:, 3:]).sum((2, 3), keepdim=True)
    return mean / mean[:, 3:].clamp(min=EPS) * mean.new_tensor([1, 1, 1, 0]).view(1, 4, 1, 1)


def block_windows(x: Tensor, size: Sequence[int], side: int, block: int) -> Tensor:
    """What each block of a result of this size is made of: (...,rows,columns,s,s), s = block + side - 1."""
    below, right = (round_up(n, block) - n for n in size)
    x = F.pad(x, (0, right, 0, below))
    return x.unfold(-2, block + side - 1, block).unfold(-2, block + side - 1, block)


def busy_blocks(alpha: Tensor, visible: Tensor, block: int) -> Tensor:
    """Which blocks (B,rows,columns) light reaches and are visible somewhere, or beside; alpha by `block_windows`."""
    (rows, columns), (height, width) = alpha.shape[1:3], visible.shape[-2:]
    below, right = rows * block - height, columns * block - width
    visible = F.pad(visible, (BESIDE, right + BESIDE, BESIDE, below + BESIDE))
    return (alpha.detach().amax(-2).amax(-1) > 0) & (F.max_pool2d(visible, block + 2 * BESIDE, block)[:, 0] > 0)


def over(front: Composite, layer: Tensor, radius: float, area: Area) -> None:
    """Puts spread, premultiplied RGBA of a slab of that blur radius behind all that is in the composite.

    The slab just in front holds parts of the same surfaces. They block other points of the aperture than this slab's
    parts do, so of the rays that pass it, alpha / (1 - its alpha) is blocked here. All other layers are independent.
    """
    at, alpha = area.index(), layer[:, 3:]
    arrives = front.through[at].clone() / torch.maximum(alpha, 1 - front.nearer[at]).clamp(min=EPS)
    front.rgba[at].addcmul_(arrives, layer)
    front.through[at].addcmul_(arrives, alpha, value=-1)
    if front.side:
        scaled = layer if front.side < 0 else alpha
        front.radial[at].addcmul_(arrives, scaled, value=radius / 2**front.level)
    front.nearer = torch.zeros_like(front.nearer)
    front.nearer[at] = alpha
    keep(front, layer, radius, area)


def keep(front: Composite, layer: Tensor, radius: float, area: Area) -> None:
    """Puts a layer, and its blur radius, before all others in `farthest`, RGBA and radius (B,5,h,w), premultiplied.

    What is missing in the end is hidden, and so lies farthest. A little of a layer is as good as all of it, since what
    it lacks is what nearer things hide.
    """
    layer, at = halved(layer, front.finer), area.at_level(front.finer).index()
    layer = torch.cat([layer, layer[:, 3:] * radius], 1)
    front.farthest[at] = before(trusted(layer, layer[:, 3:4]), front.farthest[at].clone())


def behind(front: Composite, group: Composite) -> None:
    """Puts a finished group of layers, of any level, behind all that is in the composite."""
    state = group.enlarged(torch.cat([group.rgba, group.through, group.nearer], 1))
    rgba, through, front.nearer = state.split([4, 1, 1], 1)
    front.rgba = torch.addcmul(front.rgba, front.through, rgba)
    front.through = front.through * through


STEPS = Steps(unmix, weigh, partial(fill, inpaint), spread, over, behind)
