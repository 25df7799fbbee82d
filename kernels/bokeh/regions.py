"""The way from a photo to its rendering, which all back ends go: tiles, the regions they depend on, slabs of these.

With c = radius * (disparity - focus), the signed blur radius in pixels (positive in front of the focal plane):

1. *Sheets.* A pixel at a depth edge is a mixture of the near and the far surface and is taken apart (`unmix`).
2. *Slabs.* The scene is cut at signed radii ... -2, -1, 0, 1, 2, ... (`Plan`). A sample belongs to the two slabs around
   its c, with tent weights in c|c|: the mean squared radius, the size of the disc, is exact between slabs too.
3. *Hidden surfaces.* What a slab may hold behind nearer things is filled in smoothly from what can be seen (`fill`).
   Deeper behind them is the farthest that is seen there (`keep`), or around (`backdrop`), whichever is farther.
4. *Discs.* Colour and alpha of every slab are spread by the normalised aperture (`spread`), at a resolution where the
   radius is FINE to 2 FINE pixels. Slabs that would be worked at less than a quarter of the size are taken from a
   smaller photo, and so cost no more than the photo at that size would (`wide_groups`).
5. *Compositing.* Front to back with `over`, with the alpha of a slab taken *given that the ray passed its nearer
   neighbour's share of the same surface* (`over`): surfaces that run through many slabs stay opaque.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.kernels.bokeh.aperture import Aperture, reach
from argan.kernels.bokeh.areas import Area, by_tiles, largest, reduced, round_up, window
from argan.kernels.bokeh.backdrop import backdrop, backdrop_in
from argan.kernels.bokeh.layers import Composite, Sheets, occurrences
from argan.kernels.bokeh.plan import EPS, OWN, Plan

Light = Callable[[Area], Tensor]  # an area of a picture -> its linear light (1,3,h,w)
Develop = Callable[[Tensor, Area], Tensor]  # rendered light (1,3,h,w) of an area -> what is wanted of it (1,C,h,w)
BESIDE = 2  # cells to each side whose light may show in a cell, by interpolation or because it is shifted


@dataclass(frozen=True)
class Steps:
    """The steps that every back end takes in its own way, and the side of its tiles. All else is the same for all."""

    unmix: Callable[[Tensor, Tensor, Plan], Sheets]
    weigh: Callable[[Sheets, str, int, Area, int, Area | None], Tensor]
    fill: Callable[[Tensor, Tensor, Tensor, int, float, Area, Area], None]
    spread: Callable[[Tensor, Area, Tensor, Tensor], Tensor]
    over: Callable[[Composite, Tensor, float, Area], None]
    behind: Callable[[Composite, Composite], None]
    tile: int = 640  # what is worked on stays in a processor's cache; wider for wide blur


def render(
    image: Tensor | Light,
    coc: Tensor,
    aperture: Aperture,
    steps: Steps,
    develop: Develop | None = None,
    white: float = math.inf,
) -> Tensor:
    """Renders linear light (1,3,H,W) from signed blur radii (1,1,H,W) in pixels, by a back end's steps.

    Works in tiles with a margin that covers all that their pixels depend on: there are no seams, and what is needed
    beside the input and the output does not grow with the photo.
    """
    coc = coc.contiguous()
    plan = Plan.of(coc, aperture)
    tile = round_up(max(steps.tile, 2 * plan.margin), plan.cell)
    return render_tiles(image, coc, plan, steps, tile, develop, white)


def render_tiles(
    image: Tensor | Light,
    coc: Tensor,
    plan: Plan,
    steps: Steps,
    tile: int,
    develop: Develop | None = None,
    white: float = math.inf,
) -> Tensor:
    """Renders by a back end's steps, in tiles of a multiple of `plan.cell`.

    A large photo's light need not be in memory at once: `image` may say what it is in an area, and `develop` makes of
    each rendered tile what is wanted of it. What is brighter than `white` is then a lamp's, and nothing below black.
    """
    picture = Area.of(coc)
    if isinstance(image, Tensor):
        light_in, plan.white, plan.dark = picture_light(image), lamps_from(image), bool(image.detach().amin() < 0)
        recorded = torch.is_grad_enabled() and (image.requires_grad or coc.requires_grad)
    else:
        light_in, plan.white, recorded = image, white, False
    light = extended(light_in, picture)
    farthest = backdrop(light, coc, plan, tile, recorded=recorded)
    wide = wide_groups(light, coc.expand(-1, 4, -1, -1), plan, steps, tile, recorded=recorded)
    everything = picture.rounded_up(plan.cell)

    def render_tile(wanted: Area) -> Tensor:
        padded = Area(wanted.top, wanted.top + tile, wanted.left, wanted.left + tile).within(everything)
        region = padded.grown(plan.margin).within(everything)
        view = padded.grown(plan.cell).within(region)  # what the wanted part is interpolated from
        parts = {key: Composite.part(state, *key, view) for key, state in wide.items()}
        nearby = {key: group for key, group in parts.items() if bool((group.rgba.detach()[:, 3] > 0).any())}
        radii = window(coc, region).contiguous()
        if recorded or nearby or bool(radii.any()):
            around = None if farthest is None else backdrop_in(view, farthest, plan)
            work = Region(light(region), radii.expand(-1, 4, -1, -1), plan, steps, region, view)
            rendered = work.render(nearby, around)[wanted.seen_from(view).index()]
        else:
            rendered = light(wanted)  # all that it could be made of is in focus
        return rendered if develop is None else develop(rendered, wanted)

    return by_tiles(render_tile, picture, tile, recorded=recorded, threads=coc.is_cpu)


def extended(light: Light, picture: Area) -> Light:
    """The light of a picture that goes on beyond its edge."""

    def anywhere(area: Area) -> Tensor:
        inside = area.within(picture)
        return window(light(inside), area.seen_from(inside))

    return anywhere


def picture_light(image: Tensor) -> Light:
    """A picture that is in memory, asked for by areas."""
    return lambda area: image[area.index()]


def lamps_from(image: Tensor) -> float:
    """How bright light has to be to be a lamp's, `Plan.white`; infinite where nothing is brighter than white."""
    image = image.detach()
    return max(1.0, 2 * float(image.amax(1).mean())) if float(image.amax()) > 1 else math.inf


def wide_groups(
    light: Light, spans: Tensor, plan: Plan, steps: Steps, tile: int, *, recorded: bool
) -> dict[tuple[int, int], Tensor]:
    """The groups of slabs that are not the picture's own: of all of it, from the picture at 1/2, 1/4, ... of the size.

    A photo of half the size is the same picture, and these slabs' discs are still of 4 FINE pixels and more in it. So
    what discs cost does not grow with them. `spans` (1,4,H,W) has the mean blur radius in a pixel, that of its light,
    and the highest and the lowest. Returns `Composite.state` of every group, by `Plan.group`.
    """
    groups: dict[tuple[int, int], Tensor] = {}
    for level in range(OWN + 1, plan.levels):
        image, spans = half_size(light, spans, tile, recorded=recorded)
        plan, light = plan.smaller(), extended(picture_light(image), Area.of(image))
        states = own_groups(light, spans, plan, steps, tile, recorded=recorded)
        groups |= {(level, side): state for side, state in states.items()}
    return groups


def own_groups(
    light: Light, spans: Tensor, plan: Plan, steps: Steps, tile: int, *, recorded: bool
) -> dict[int, Tensor]:
    """`Composite.state` of a smaller picture's own slabs, by their side of the focal plane."""
    everything, tile = Area.of(spans).rounded_up(plan.cell), round_up(tile, plan.cell)
    slabs = {side: list(ks) for side, ks in groupby(plan.own_slabs(), plan.side)}

    def group_tile(wanted: Area) -> Tensor:
        area = wanted.grown(plan.margin).within(everything)
        view = wanted.grown(plan.cell).within(area)
        region = Region(light(area), window(spans, area), plan, steps, area, view)
        states = [region.group(ks, side).state() for side, ks in slabs.items()]
        return torch.cat(states, 1)[wanted.seen_from(view).at_level(OWN).index()]

    states = by_tiles(group_tile, everything, tile, recorded=recorded, threads=spans.is_cpu, level=OWN)
    parts = states.split([Composite.channels(side) for side in slabs], 1)
    return dict(zip(slabs, parts, strict=True))


def half_size(light: Light, spans: Tensor, tile: int, *, recorded: bool) -> tuple[Tensor, Tensor]:
    """A picture's light (1,3,h,w) at half the size, and `wide_groups`' spans (1,4,h,w) there, in its pixels."""
    whole = Area.of(spans).rounded_up(2)

    def half(area: Area) -> Tensor:
        image, around = light(area.grown(2)), window(spans, area.grown(2))
        coc, of_light, highest, lowest = around.split(1, 1)
        amount = image.clamp(min=0).sum(1, keepdim=True) + EPS
        shared = reduced(torch.cat([image, coc, amount, amount * of_light], 1), 1)[..., 1:-1, 1:-1]
        image, mean, amount, product = shared.split([3, 1, 1, 1], 1)
        highest, lowest = (x[..., 2:-2, 2:-2] for x in (highest, lowest))
        radii = mean, product / amount, F.max_pool2d(highest, 2), -F.max_pool2d(-lowest, 2)
        return torch.cat([image, torch.cat(radii, 1) / 2], 1)

    both = by_tiles(half, whole, round_up(tile, 2), recorded=recorded, threads=spans.is_cpu, level=1)
    image, spans = both.split([3, 4], 1)
    return image, spans


class Region:
    """A part of a picture that is worked on at once, to render a `view` of it. The sides of both are whole cells.

    image   (1,3,h,w) linear light of the `area`
    spans   (1,4,h,w) the signed blur radii in every pixel of it, as `wide_groups` has them
    area    of the picture; `view` lies within it
    """

    def __init__(self, image: Tensor, spans: Tensor, plan: Plan, steps: Steps, area: Area, view: Area):
        self.plan, self.steps, self.area = plan, steps, area
        self.everything, self.view = Area.of(spans), view.seen_from(area)
        self.farthest, self.nearest = spans[:, :1].detach().aminmax()
        self.sheets = steps.unmix(image, spans, plan)
        self.occurring = occurrences(self.sheets, plan)

    def render(self, wide: dict[tuple[int, int], Composite], around: Tensor | None) -> Tensor:
        """The view's light (1,3,h,w).

        `wide` has the groups of smaller pictures' slabs that show here, `around` the `backdrop_in` the view.
        """
        plan, front = self.plan, Composite(self.nothing(0))
        near, far = (any(group.side == side for group in wide.values()) for side in (1, -1))
        sides = (near or bool(self.nearest > 0)) and (far or bool(self.farthest < 0))  # both are here
        for (level, side), slabs in groupby(reversed(range(len(plan.radii))), lambda k: plan.group(k, sides)):
            group = wide.get((level, side))
            if level > OWN:
                if group is None:
                    front.add_nothing()
                else:
                    front.add_group(group, self.steps.behind, plan.dark)
                continue
            for k in slabs:
                if (places := self.places(k)) is None:
                    (group or front).add_nothing()
                    continue
                if group is None:
                    visible = largest(front.through.detach(), 2**level)
                    group = front.group(level, side)
                layer, here = self.blurred(k, places, group, visible)
                self.steps.over(group, layer, plan.radii[k], here)
            if group is not None:
                front.add_group(group, self.steps.behind, plan.dark)
        front.add_group(front.beyond(around), self.steps.behind)  # what is missing is hidden
        return front.rgba[:, :3] / front.rgba[:, 3:].clamp(min=EPS)

    def group(self, slabs: list[int], side: int) -> Composite:
        """The view's group of these slabs, whatever lies before and behind them."""
        plan = self.plan
        group = Composite(self.nothing(OWN), OWN + plan.shrunk, side)
        lead = slabs[0] + 1  # the slab just in front, which belongs to another group
        if lead < len(plan.radii) and (places := self.places(lead)) is not None:
            layer, here = self.blurred(lead, places, group)
            group.nearer[here.index()] = layer[:, 3:]
        for k in slabs:
            if (places := self.places(k)) is None:
                group.add_nothing()
                continue
            layer, here = self.blurred(k, places, group)
            self.steps.over(group, layer, plan.radii[k] * 2**plan.shrunk, here)
        return group

    def nothing(self, level: int) -> Tensor:
        return self.sheets.place.new_zeros(1, 1, *self.view.at_level(level).size)

    def places(self, k: int) -> tuple[Area, Area | None, Area] | None:
        """Where slab k can be seen, may be hidden, and is shown in the view; None if it is not."""
        seen, hidden = self.occurring[k]
        if seen is None or not (shown := seen.grown(self.around(k)).within(self.view)).pixels:
            return None
        return seen, hidden, shown

    def around(self, k: int) -> int:
        """How far from where slab k can be seen it may be shown."""
        plan = self.plan
        return round_up(reach(plan.aperture, abs(plan.radii[k])), plan.cell) + 2 * plan.cell

    def blurred(
        self, k: int, places: tuple[Area, Area | None, Area], group: Composite, visible: Tensor | None = None
    ) -> tuple[Tensor, Area]:
        """RGBA of slab k at its level, spread to where it is shown, and where that is in the view at that level.

        Left out are blocks in which, and BESIDE which, the `group` lets no light pass or is not `visible` through what
        is before it.
        """
        (bounds, hides, shown), plan, around, level = places, self.plan, self.around(k), self.plan.level(k)
        needed = shown.grown(around).within(bounds.grown(around)).within(self.everything)
        layer = slab(self.sheets, plan, self.steps, k, needed, bounds, hides)
        kernels = plan.kernels(k, shown.moved_from(self.area), layer)
        source = shown.seen_from(needed).at_level(level)
        here = shown.seen_from(self.view).at_level(level)
        passing = group.through.detach()[here.index()]
        passing = passing if visible is None else visible[here.index()] * passing
        return self.steps.spread(layer, source, passing, kernels), here


def slab(sheets: Sheets, plan: Plan, steps: Steps, k: int, needed: Area, occurs: Area, hides: Area | None) -> Tensor:
    """Premultiplied RGBA of slab k at its level: what is seen of it, and what it may hold behind nearer things.

    In the `needed` part of the region. It is seen within `occurs` and hidden within `hides` only, if anywhere.
    """
    level = plan.level(k)
    layer = steps.weigh(sheets, "seen", k, needed, level, occurs.grown(plan.cell if level else 0).within(needed))
    if hides is None or not (hides := hides.grown(plan.cell if level else 0).within(needed)).pixels:
        return layer
    around = hides.grown(2 * plan.cell).within(needed)
    known = steps.weigh(sheets, "known", k, around, level, None)
    hidden = steps.weigh(sheets, "hidden", k, hides, level, None)
    around, hides = (area.seen_from(needed).at_level(level) for area in (around, hides))
    steps.fill(layer, known, hidden, plan.fill - level, plan.white, around, hides)
    return layer
