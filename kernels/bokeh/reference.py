"""The photo renderer in plain PyTorch: the definition, the CPU path, and what gradients are taken of.

README.md beside this file derives the formulas. With c = radius * (disparity - focus), the signed blur radius in pixels
(positive in front of the focal plane), the steps are:

1. *Sheets.* A pixel at a depth edge is a mixture of the near and the far surface and is taken apart (`unmix`).
2. *Slabs.* The scene is cut at signed radii ... -2, -1, 0, 1, 2, ... (`Plan`). A sample belongs to the two slabs around
   its c, with tent weights in c|c|: the mean squared radius, the size of the disc, is exact between slabs too.
3. *Hidden surfaces.* What a slab may hold behind nearer things is filled in smoothly from what can be seen (`inpaint`).
4. *Discs.* Colour and alpha of every slab are spread by the normalised aperture (`spread`), at a resolution where the
   radius is FINE to 2 FINE pixels. Slabs that would be worked at less than a quarter of the size are taken from a
   smaller photo, and so cost no more than the photo at that size would (`wide_groups`).
5. *Compositing.* Front to back with `over`, with the alpha of a slab taken *given that the ray passed its nearer
   neighbour's share of the same surface* (`over`): surfaces that run through many slabs stay opaque.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.kernels.bokeh.aperture import Aperture, cat_eye_kernels, check_aperture, fitted_kernel, reach

FINE = 6.0  # a slab is worked at the level where its radius is FINE to 2 FINE pixels (below 2 FINE: at full size)
OWN = 2  # halvings, at most, that slabs of a photo are worked at; those of more are taken from a smaller photo
DEEPEST = 5  # levels, at most, of the pyramid that fills in hidden surfaces
STEP = 0.5, 0.15  # neighbouring slabs are this far apart: pixels, and relative to the radius (at least one pixel)
TRUST = 16  # a cell of which a TRUST-th part is seen needs no coarser cells when hidden surfaces are filled in
FADE = 0.1  # hidden surfaces end softly: where what they are known by weighs less
EDGE = 1.0, 2.0  # where blur radii in a 3 x 3 neighbourhood differ by more, pixels are taken to be mixtures (ramp)
MIXED = 0.2, 1.0  # what mixed pixels count for when surfaces' colours are fitted, at first and with the shares found
DOUBT = 0.05  # how much a mixed pixel's disparity counts for, beside its colour
HELD = 0.3  # a pixel has at least this part of the share that its own disparity names
NOISE = 1e-5  # variance of colour that even a smooth surface is thought to have
TILE = 640  # photos are worked in tiles of this side, so that what is worked on stays in the cache; wider for wide blur
WORKERS = 4  # tiles that are worked at the same time, at most: each needs memory
BLOCK = 64  # discs are spread in blocks of this side
NOTCH = 0.25  # where cat's eyes differ from block to block, smaller ones: outlines differ by fewer pixels of a level
ASIDE = 2.0  # how far the middle of the aperture's free part moves; straight edges half-way across it: 4/3
NOWHERE = -1e4  # the place of no surface
EPS = 1e-6

Light = Callable[["Area"], Tensor]  # an area of a picture -> its linear light (1,3,h,w)
Develop = Callable[[Tensor, "Area"], Tensor]  # rendered light (1,3,h,w) of an area -> what is wanted of it (1,C,h,w)


@dataclass
class Plan:
    """How one picture is cut into slabs, and what is needed to work on them. Slab 0 is the farthest."""

    radii: list[float]  # signed
    aperture: Aperture
    size: tuple[float, float]  # of the picture: height and width
    full_size: bool = False  # work every slab at full size
    shrunk: int = 0  # how many times the picture was made half as large
    fitted: dict[int, tuple[Tensor, float]] = field(default_factory=dict)  # kernels, and what they are drawn with
    white: float = math.inf  # brighter light is a lamp's: it does not go on behind nearer things

    @classmethod
    def of(cls, coc: Tensor, aperture: Aperture | str, full_size: bool = False) -> Plan:
        """The slabs that all blur radii in `coc` lie between."""
        farthest, nearest = float(coc.detach().amin()), float(coc.detach().amax())
        behind, before = slab_radii(max(-farthest, 0.0)), slab_radii(max(nearest, 0.0))
        radii = [-r for r in reversed(behind[1:])] + before
        return cls(radii, check_aperture(aperture), (coc.shape[-2], coc.shape[-1]), full_size)

    @property
    def largest(self) -> float:
        return max(-self.radii[0], self.radii[-1])

    def smaller(self) -> Plan:
        """The same slabs, of the picture at half the size."""
        height, width = self.size
        radii = [r / 2 for r in self.radii]
        return replace(self, radii=radii, size=(height / 2, width / 2), shrunk=self.shrunk + 1, fitted={})

    def own_slabs(self) -> list[int]:
        """The slabs that are taken from the picture at this size, front to back."""
        levels = [self.level_of(abs(radius)) for radius in self.radii]
        own = range(OWN, OWN + 1) if self.shrunk else range(OWN + 1)
        return [k for k in reversed(range(len(levels))) if levels[k] in own]

    @cached_property
    def levels(self) -> int:
        """Levels that slabs are worked at."""
        return self.level_of(self.largest) + 1

    @cached_property
    def sides(self) -> bool:
        """Whether there are slabs on both sides of the focal plane."""
        return self.radii[0] < 0 < self.radii[-1]

    def side(self, k: int) -> int:
        """Of the focal plane: 1 before it, -1 behind it; 0 for all if nothing is on the other side."""
        return self.sides * ((self.radii[k] > 0) - (self.radii[k] < 0))

    @cached_property
    def widest(self) -> float:
        """The largest radius of what is worked at this size; smaller pictures' slabs need the one before them too."""
        ends = [k + lead for k in self.own_slabs() for lead in range(1 + bool(self.shrunk))]
        return max(abs(self.radii[min(k, len(self.radii) - 1)]) for k in ends)

    @cached_property
    def fill(self) -> int:
        """Levels of the pyramid that fills in hidden surfaces.

        Little is seen deeper than a quarter of a radius: a hidden surface's own, or that of what is blurred before it.
        """
        radius = max(self.widest, self.radii[-1], 1)
        return max(3, min(DEEPEST, math.ceil(math.log2(radius / 4))))

    @cached_property
    def cell(self) -> int:
        """The grid that regions are aligned to, so that they share all pyramids' cells and cat's eyes' blocks."""
        return max(2 ** (self.fill + 1), BLOCK) if self.aperture.cat_eye else 2**self.fill

    @cached_property
    def margin(self) -> int:
        """How far, at most, a pixel can lie from another that it depends on; a multiple of `cell`."""
        return round_up(reach(self.aperture, self.widest) + 2 * self.cell + self.cell // 4, self.cell)

    def group(self, k: int, sides: bool) -> tuple[int, int]:
        """Slabs are composited in groups of a level and of a side, which is 0 where not both `sides` are there."""
        level = self.level(k)
        return level, self.side(k) if sides or level > OWN else 0

    def level(self, k: int) -> int:
        """How many times slab k halves the resolution; in smaller pictures neighbours do as the picture's own slabs."""
        return OWN if self.shrunk else self.level_of(abs(self.radii[k]))

    def level_of(self, radius: float) -> int:
        return 0 if self.full_size else max(0, math.floor(math.log2(max(radius, FINE) / FINE)))

    def level_radius(self, k: int) -> float:
        """Slab k's radius at its level, smaller by what `reduced` and `enlarged` blur by themselves."""
        radius, level = self.radii[k], self.level(k)
        own = 2 / 3 / 4**self.shrunk
        return math.copysign(math.sqrt((radius**2 + own) / 4**level - 5 / 3), radius) if level else radius

    def kernels(self, k: int, area: Area, like: Tensor) -> Tensor:
        """What slab k is spread by, (R,C,2n+1,2n+1), in R x C equal blocks of an area of the picture (whole cells)."""
        radius, level = self.level_radius(k), self.level(k)
        if k not in self.fitted:
            self.fitted[k] = fitted_kernel(self.aperture, radius)
        if not self.aperture.cat_eye or not radius:
            return self.fitted[k][0][None, None]
        corner = math.hypot(*self.size) / 2
        finest = NOTCH * corner / 2**level / (self.aperture.cat_eye * self.aperture.lens_rim * abs(radius))
        block = min(max(4, 2 ** math.floor(math.log2(finest))), BLOCK, self.cell >> level) << level
        y, x = (
            (torch.arange(start + block / 2, end, block) - size / 2).to(like) / corner
            for start, end, size in zip((area.top, area.left), (area.bottom, area.right), self.size, strict=True)
        )
        return cat_eye_kernels(self.aperture, *self.fitted[k], *torch.broadcast_tensors(x, y[:, None]))

    def place(self, coc: Tensor) -> Tensor:
        """Blur radii as places between slabs: k on slab k, and linear in c|c| from there to slab k + 1."""
        cuts = torch.tensor([r * abs(r) for r in self.radii], dtype=coc.dtype, device=coc.device)
        c2 = coc * coc.abs()
        k = torch.bucketize(c2.detach(), cuts[1:-1], right=True)
        return k + (c2 - cuts[k]) / cuts.diff()[k]


def slab_radii(largest: float) -> list[float]:
    """Radii 0, 1, 2, ... up to `largest`, in steps of one pixel or STEP, whichever is more.

    The last, at least 1, is `largest` rounded up by less than 3 %: what is blurred most, which may be all of a
    background, shows a disc and no mixture of two. It is half to one and a half steps away from the one before.
    """
    if largest == 0:
        return [0.0]
    last = max(1.0, 2 ** (math.ceil(32 * math.log2(largest) - EPS) / 32))
    radii = [0.0]
    while radii[-1] + 1.5 * (step := max(1.0, STEP[0] + STEP[1] * radii[-1])) <= last:
        radii.append(radii[-1] + step)
    return [*radii, last]


def render(
    image: Tensor | Light,
    coc: Tensor,
    aperture: Aperture,
    tile: int | None = None,
    develop: Develop | None = None,
    steps: Steps | None = None,
) -> Tensor:
    """Renders linear light (1,3,H,W) from signed blur radii (1,1,H,W) in pixels, not all of them 0.

    Works in tiles with a margin that covers all that their pixels depend on: there are no seams, and what is needed
    beside the input and the output does not grow with the photo. `tile` is the side to use, `steps` another back end's.
    """
    plan = Plan.of(coc, aperture)
    tile = round_up(tile or max(TILE, 2 * plan.margin), plan.cell)
    return render_tiles(image, coc, plan, steps or STEPS, tile, develop)


def render_tiles(
    image: Tensor | Light, coc: Tensor, plan: Plan, steps: Steps, tile: int, develop: Develop | None = None
) -> Tensor:
    """Renders by a back end's steps, in tiles of a multiple of `plan.cell`.

    A large photo's light need not be in memory at once: `image` may say what it is in an area, up to white, and
    `develop` makes of each rendered tile what is wanted of it.
    """
    picture = Area.of(coc)
    if isinstance(image, Tensor):
        light_in, plan.white = picture_light(image), lamps_from(image)
        recorded = torch.is_grad_enabled() and (image.requires_grad or coc.requires_grad)
    else:
        light_in, recorded = image, False
    light, spans = extended(light_in, picture), coc.expand(-1, 3, -1, -1)
    wide = wide_groups(light, spans, plan, steps, tile, recorded=recorded)
    everything = picture.rounded_up(plan.cell)

    def render_tile(wanted: Area) -> Tensor:
        padded = Area(wanted.top, wanted.top + tile, wanted.left, wanted.left + tile).within(everything)
        region = padded.grown(plan.margin).within(everything)
        view = padded.grown(plan.cell).within(region)  # what the wanted part is interpolated from
        parts = {key: Composite.part(state, *key, view) for key, state in wide.items()}
        nearby = {key: group for key, group in parts.items() if bool((group.rgba.detach()[:, 3] > 0).any())}
        radii = window(spans, region)
        if recorded or nearby or bool(radii.any()):
            rendered = Region(light(region), radii, plan, steps, region, view).render(nearby)
            rendered = rendered[wanted.seen_from(view).index()]
        else:
            rendered = light(wanted)  # all that it could be made of is in focus
        return rendered if develop is None else develop(rendered, wanted)

    return by_tiles(render_tile, picture, tile, recorded=recorded, threads=coc.is_cpu)


def by_tiles(
    work: Callable[[Area], Tensor], whole: Area, tile: int, *, recorded: bool, threads: bool, level: int = 0
) -> Tensor:
    """What `work` makes of the tiles of an area that begins at (0, 0), put together; results may be of a level."""
    tops, lefts = range(0, whole.bottom, tile), range(0, whole.right, tile)
    areas = [Area(top, top + tile, left, left + tile).within(whole) for top in tops for left in lefts]
    if recorded:
        every = [work(area) for area in areas]
        return torch.cat([torch.cat(every[i : i + len(lefts)], -1) for i in range(0, len(every), len(lefts))], -2)
    result: Tensor | None = None
    for area, done in zip(areas, in_threads(work, areas, threads), strict=True):
        if result is None:
            result = done.new_empty(*done.shape[:2], *whole.at_level(level).size)
        result[area.at_level(level).index()] = done
    assert result is not None
    return result


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
    return max(1.0, 2 * float(image.mean())) if float(image.amax()) > 1 else math.inf


def in_threads(function: Callable[[Area], Tensor], arguments: Sequence[Area], useful: bool) -> Iterator[Tensor]:
    """function(a) for a in arguments, two or more at a time: many small operations use cores badly otherwise.

    PyTorch's threads are shared out; what is computed does not depend on it. No gradients are recorded in threads.
    """
    cores = torch.get_num_threads()
    workers = min(cores, len(arguments), WORKERS)
    if not useful or workers < 2:
        yield from map(function, arguments)
        return

    def start() -> None:  # of a thread: both settings are its own
        torch.set_grad_enabled(False)
        torch.set_num_threads(cores // workers)

    try:
        with ThreadPoolExecutor(workers, initializer=start) as pool:
            yield from pool.map(function, arguments)
    finally:
        torch.set_num_threads(cores)


@dataclass(frozen=True)
class Area:
    """A rectangle of pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def of(cls, x: Tensor) -> Area:
        return cls(0, x.shape[-2], 0, x.shape[-1])

    def grown(self, by: int) -> Area:
        return Area(self.top - by, self.bottom + by, self.left - by, self.right + by)

    def within(self, other: Area) -> Area:
        top, left = max(self.top, other.top), max(self.left, other.left)
        return Area(top, max(top, min(self.bottom, other.bottom)), left, max(left, min(self.right, other.right)))

    def seen_from(self, other: Area) -> Area:
        """In coordinates that begin at the other's corner."""
        return Area(self.top - other.top, self.bottom - other.top, self.left - other.left, self.right - other.left)

    def moved_from(self, other: Area) -> Area:
        """The inverse of `seen_from`."""
        return Area(self.top + other.top, self.bottom + other.top, self.left + other.left, self.right + other.left)

    def at_level(self, level: int) -> Area:
        return Area(self.top >> level, self.bottom >> level, self.left >> level, self.right >> level)

    def from_level(self, level: int) -> Area:
        """The inverse of `at_level`."""
        return Area(self.top << level, self.bottom << level, self.left << level, self.right << level)

    def rounded_up(self, unit: int) -> Area:
        """An area from (0, 0) made whole cells of."""
        return Area(0, round_up(self.bottom, unit), 0, round_up(self.right, unit))

    def index(self) -> tuple:
        """An index into pictures."""
        return (..., slice(self.top, self.bottom), slice(self.left, self.right))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def pixels(self) -> int:
        return math.prod(self.size)


def wide_groups(
    light: Light, spans: Tensor, plan: Plan, steps: Steps, tile: int, *, recorded: bool
) -> dict[tuple[int, int], Tensor]:
    """The groups of slabs that are not the picture's own: of all of it, from the picture at 1/2, 1/4, ... of the size.

    A photo of half the size is the same picture, and these slabs' discs are still of 4 FINE pixels and more in it. So
    what discs cost does not grow with them. `spans` (1,3,H,W) has the mean, highest and lowest blur radius in a pixel.
    Returns `Composite.state` of every group, by `Plan.group`.
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
    """A picture's light (1,3,h,w) at half the size, and `wide_groups`' spans (1,3,h,w) there, in its pixels."""
    whole = Area.of(spans).rounded_up(2)

    def half(area: Area) -> Tensor:
        return reduced(light(area.grown(2)), 1)[..., 1:-1, 1:-1]

    image = by_tiles(half, whole, round_up(tile, 2), recorded=recorded, threads=spans.is_cpu, level=1)
    mean, highest, lowest = window(spans, whole).split(1, 1)
    return image, torch.cat([halved(mean, 1), F.max_pool2d(highest, 2), -F.max_pool2d(-lowest, 2)], 1) / 2


class Region:
    """A part of a picture that is worked on at once, to render a `view` of it. The sides of both are whole cells.

    image   (1,3,h,w) linear light of the `area`
    spans   (1,3,h,w) the mean, highest and lowest signed blur radius in every pixel of it
    area    of the picture; `view` lies within it
    """

    def __init__(self, image: Tensor, spans: Tensor, plan: Plan, steps: Steps, area: Area, view: Area):
        self.plan, self.steps, self.area = plan, steps, area
        self.everything, self.view = Area.of(spans), view.seen_from(area)
        self.farthest, self.nearest = spans[:, :1].detach().aminmax()
        self.sheets = steps.unmix(image, spans, plan)
        self.occurring = occurrences(self.sheets, plan)

    def render(self, wide: dict[tuple[int, int], Composite]) -> Tensor:
        """The view's light (1,3,h,w). `wide` has the groups of smaller pictures' slabs that show here."""
        plan, front = self.plan, Composite(self.nothing(0))
        near, far = (any(group.side == side for group in wide.values()) for side in (1, -1))
        sides = (near or bool(self.nearest > 0)) and (far or bool(self.farthest < 0))  # both are here
        for (level, side), slabs in groupby(reversed(range(len(plan.radii))), lambda k: plan.group(k, sides)):
            group = wide.get((level, side))
            if level > OWN:
                if group is None:
                    front.add_nothing()
                else:
                    front.add_group(group, self.steps)
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
                front.add_group(group, self.steps)
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

        Nothing is spread to where the `group` lets no light pass, or it is not `visible` through what is before that.
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


@dataclass
class Sheets:
    """The surfaces in a region's pixels: a near one in every pixel, and a far one in those at depth edges.

    RGBA is premultiplied by a surface's share of its pixel; places are `Plan.place`'s.
    """

    near: Tensor  # (1,4,h,w)
    place: Tensor  # (1,1,h,w)
    far: Tensor  # (4,N)
    far_place: Tensor  # (1,N)
    rows: Tensor  # (N,)
    columns: Tensor  # (N,)
    cell: int  # the side of `extremes`' cells

    @cached_property
    def extremes(self) -> tuple[Tensor, Tensor]:
        """The nearest and the farthest place in every cell, (rows,columns)."""
        place, far_place = self.place.detach()[0, 0], self.far_place.detach()[0]
        least = place.index_put((self.rows, self.columns), far_place)
        return largest(place, self.cell), -largest(-least, self.cell)

    @cached_property
    def row_starts(self) -> Tensor:
        """Where each row's far surfaces begin among all, (h+1,)."""
        return torch.searchsorted(self.rows, torch.arange(self.place.shape[-2] + 1, device=self.rows.device))

    def weighted(self, weight: Callable[[Tensor], Tensor], area: Area, channels: slice = slice(4)) -> Tensor:
        """RGBA of all surfaces in an area, or some of its channels, each weighted by a function of its place."""
        total = self.near[area.index()][:, channels] * weight(self.place[area.index()])
        rows, columns = self.rows - area.top, self.columns - area.left
        height, width = area.size
        inside = ((rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)).nonzero()[:, 0]
        if len(inside):
            pixels = (rows * width + columns)[inside]
            far = self.far[channels, inside] * weight(self.far_place[:, inside])
            total.view(total.shape[1], -1).index_add_(1, pixels, far)
        return total

    @cached_property
    def far_planes(self) -> tuple[Tensor, Tensor]:
        """The far surface in every pixel, RGBA (1,4,h,w) and place (1,1,h,w): 0 and NOWHERE where there is none."""
        pixels, size = self.rows * self.near.shape[-1] + self.columns, self.place[0, 0].numel()
        rgba = self.far.new_zeros(4, size).index_copy(1, pixels, self.far)
        place = self.far.new_full((1, size), NOWHERE).index_copy(1, pixels, self.far_place)
        return rgba.view_as(self.near), place.view_as(self.place)


def unmix(image: Tensor, spans: Tensor, plan: Plan) -> Sheets:
    """Takes the pixels at depth edges apart into a near and a far surface, with shares a and 1 - a of the pixel.

    `spans` (1,3,h,w) has the mean, highest and lowest blur radius in every pixel.

    What the two surfaces look like is predicted by a straight line of colour over a, fitted to the 5 x 5 pixels around,
    the nearest counting most: at first with the shares that disparity names, then with those found (`shares`).
    """
    coc, highest, lowest = spans.split(1, 1)
    near, far = largest_around(highest), -largest_around(-lowest)
    edge = ((near - far - EDGE[0]) / (EDGE[1] - EDGE[0])).clamp(0, 1)
    rows, columns = (edge[0, 0].detach() > 0).nonzero().unbind(1)
    rgba, place = torch.cat([image, torch.ones_like(coc)], 1), plan.place(coc)
    if not len(rows):
        return Sheets(rgba, place, rgba.new_zeros(4, 0), place.new_zeros(1, 0), rows, columns, plan.cell)

    (height, width), pixels = image.shape[-2:], rows * image.shape[-1] + columns
    around = torch.arange(-2, 3, device=rows.device)
    row, column = (rows[:, None] + around).clamp(0, height - 1), (columns[:, None] + around).clamp(0, width - 1)
    square = (row[:, :, None] * width + column[:, None, :]).flatten()
    nearness = torch.exp(-(around[:, None].square() + around.square()).to(coc) / 2).flatten()
    image, coc, edge, near, far = (x[0].flatten(1) for x in (image, coc, edge, near, far))
    near, far = near[:, pixels], far[:, pixels]
    colours = image[:, square].view(3, -1, 25)
    shown = colours.clamp(max=1)  # lights tell nothing about the mixture
    side = (coc[:, square].view(1, -1, 25) - far[..., None]) / (near - far).clamp(min=EPS)[..., None]
    side, mixed = side.clamp(0, 1), edge[:, square].view(1, -1, 25)
    share = side
    for trust in MIXED:
        surfaces = two_colours(shown, share, nearness * (1 - (1 - trust) * mixed))
        found = shares(image[:, pixels], side[..., 12], edge[:, pixels], *surfaces)
        everywhere = side.new_zeros(1, height * width).index_copy(1, pixels, found)
        share = torch.where(mixed > 0, everywhere[:, square].view_as(side), side)
    near_rgba, far_rgba = apart(image[:, pixels], found, *surfaces, *variances(colours, share, nearness, *surfaces))
    near_place = place.flatten(2)[0].index_copy(1, pixels, plan.place(near)).view_as(place)
    rgba = rgba.flatten(2)[0].index_copy(1, pixels, near_rgba).view_as(rgba)
    return Sheets(rgba, near_place, far_rgba, plan.place(far), rows, columns, plan.cell)


def two_colours(shown: Tensor, share: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Colours (3,N) of the near and the far surface: a weighted straight line of colour (3,N,n) over share (1,N,n).

    They are among the colours shown: what the line says beyond them is as likely shading or noise.
    """
    weight = weight / weight.sum(2, keepdim=True)
    a, aa, colour, product = ((weight * x).sum(2) for x in (share, share * share, shown, share * shown))
    slope = (product - a * colour) / (aa - a * a).clamp(min=0).add(0.002)
    darkest, brightest = shown.amin(2), shown.amax(2)
    near, far = colour + slope * (1 - a), colour - slope * a
    near, far = (torch.minimum(torch.maximum(x, darkest), brightest) for x in (near, far))
    return near, far


def shares(image: Tensor, side: Tensor, edge: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """The near surface's share (1,N) of mixed pixels (3,N).

    Where the pixel's colour lies between the two surfaces', held near to the side that its own disparity names (0 far,
    1 near); `edge` says how surely the pixel is mixed.
    """
    shown, contrast = image.clamp(max=1), near - far
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
    other, near, far = 1 - share, near.clamp(min=0), far.clamp(min=0)
    rest = image - share * near - other * far
    of_near, of_far = share.square() * near_variance, other.square() * far_variance
    light = share * near + rest * (of_near / (of_near + of_far))
    light = torch.minimum(torch.maximum(light, image.clamp(max=0)), image.clamp(min=0))
    return torch.cat([light, share]), torch.cat([image - light, other])


def slab(sheets: Sheets, plan: Plan, steps: Steps, k: int, needed: Area, occurs: Area, hides: Area | None) -> Tensor:
    """Premultiplied RGBA of slab k at its level: what is seen of it, and what it may hold behind nearer things.

    In the `needed` part of the region. It is seen within `occurs` and hidden within `hides` only, if anywhere.
    """
    level = plan.level(k)
    layer = steps.weigh(sheets, "seen", k, needed, level, occurs.grown(plan.cell if level else 0).within(needed))
    if hides is None or not (hides := hides.grown(plan.cell if level else 0).within(needed)).pixels:
        return layer
    around = hides.grown(2 * plan.cell).within(needed)
    known, hidden = steps.weigh(sheets, "known", k, around, level), steps.weigh(sheets, "hidden", k, hides, level)
    around, hides = (area.seen_from(needed).at_level(level) for area in (around, hides))
    steps.fill(layer, known, hidden, plan.fill - level, plan.white, around, hides)
    return layer


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
        part = mean[:, 4:]
        mean = mean * ((TRUST * part).clamp(max=1) / part.clamp(min=EPS))
        pyramid.append(mean)
    filled = pyramid.pop()
    for finer in reversed(pyramid):
        filled = torch.addcmul(finer, 1 - finer[:, 4:], doubled(F.pad(filled, (1,) * 4, mode="replicate")))
    finest = torch.cat([layer[wanted.index()], known[wanted.index()]], 1)
    return torch.addcmul(finest, 1 - finest[:, 4:], doubled(window(filled, wanted.at_level(1).grown(1))))


def window(x: Tensor, area: Area) -> Tensor:
    """The part of x in `area`, which may reach beyond it: its edge is extended."""
    height, width = x.shape[-2:]
    inside = area.within(Area(0, height, 0, width))
    beyond = inside.left - area.left, area.right - inside.right, inside.top - area.top, area.bottom - inside.bottom
    return F.pad(x[inside.index()], beyond, mode="replicate") if any(beyond) else x[inside.index()]


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
    """Of a layer (B,4,h,w), per alpha, (B,4,1,1); its own alpha is 0."""
    mean = layer.detach().sum((2, 3), keepdim=True)
    return mean / mean[:, 3:].clamp(min=EPS) * mean.new_tensor([1, 1, 1, 0]).view(1, 4, 1, 1)


def block_windows(x: Tensor, size: Sequence[int], side: int, block: int) -> Tensor:
    """What each block of a result of this size is made of: (...,rows,columns,s,s), s = block + side - 1."""
    below, right = (round_up(n, block) - n for n in size)
    x = F.pad(x, (0, right, 0, below))
    return x.unfold(-2, block + side - 1, block).unfold(-2, block + side - 1, block)


def busy_blocks(alpha: Tensor, visible: Tensor, block: int) -> Tensor:
    """Which blocks (B,rows,columns) light reaches and are visible somewhere; alpha by `block_windows`."""
    (rows, columns), (height, width) = alpha.shape[1:3], visible.shape[-2:]
    visible = F.pad(visible, (0, columns * block - width, 0, rows * block - height))
    return (alpha.detach().amax(-2).amax(-1) > 0) & (largest(visible, block)[:, 0] > 0)


@dataclass(frozen=True)
class Steps:
    """The steps that every back end takes in its own way. All else is the same for all."""

    unmix: Callable[[Tensor, Tensor, Plan], Sheets]
    weigh: Callable[..., Tensor]
    fill: Callable[[Tensor, Tensor, Tensor, int, float, Area, Area], None]
    spread: Callable[[Tensor, Area, Tensor, Tensor], Tensor]
    over: Callable[[Composite, Tensor, float, Area], None]
    behind: Callable[[Composite, Composite], None]


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


def behind(front: Composite, group: Composite) -> None:
    """Puts a finished group of layers, of any level, behind all that is in the composite."""
    front.rgba = torch.addcmul(front.rgba, front.through, group.enlarged(group.rgba))
    front.through = front.through * group.enlarged(group.through)
    front.nearer = group.enlarged(group.nearer)


STEPS = Steps(unmix, weigh, partial(fill, inpaint), spread, over, behind)

RADIAL = {0: 0, 1: 1, -1: 4}  # channels whose slopes `Composite` needs, by its side: none, alpha, RGBA


class Composite:
    """Layers put one behind the other: their premultiplied RGBA, and what light passes them all.

    Begins with the alpha (B,1,h,w) of the slab just in front. RGBA's alpha is 1 - through, rounded like its colours.
    Layers may be worked at 1 / 2^level of the size, and lie on one `side` of the focal plane: 1 before it, -1 behind.
    """

    def __init__(self, nearer: Tensor, level: int = 0, side: int = 0):
        self.rgba = torch.zeros_like(nearer).repeat(1, 4, 1, 1)
        self.through = torch.ones_like(nearer)
        self.nearer = nearer
        self.level, self.side = level, side
        self.radial = torch.zeros_like(nearer).repeat(1, RADIAL[side], 1, 1)  # layers times their radii
        self.middle: list[Tensor] | None = None  # of the part of the aperture that lets light pass, (x, y); 1: the rim
        self.view: Area | None = None  # what is wanted of it, at full size; None: all

    def group(self, level: int, side: int) -> Composite:
        """What layers of that level and side are to be added to, for `add_group`. Fine ones may be added right here."""
        if side < 0 and self.middle is None:  # nothing before the focal plane hides them
            side = 0
        return Composite(halved(self.nearer, level), level, side) if level or side else self

    @staticmethod
    def channels(side: int) -> int:
        """Of `state`."""
        return 6 + RADIAL[side]

    def state(self) -> Tensor:
        """All of it in one (1,C,h,w)."""
        return torch.cat([self.rgba, self.through, self.nearer, self.radial], 1)

    @classmethod
    def part(cls, state: Tensor, level: int, side: int, view: Area) -> Composite:
        """From the `state` of a whole picture what a view of it is made of, to be put there with `add_group`."""
        unit, grown = 2**level, view.grown(2 * 2**level)  # two cells: for slopes, and interpolation between them
        cells = Area(grown.top // unit, -(-grown.bottom // unit), grown.left // unit, -(-grown.right // unit))
        state = window(state, cells)
        part = cls(state[:, 5:6], level, side)
        part.rgba, part.through, part.radial = state[:, :4], state[:, 4:5], state[:, 6:]
        part.view = view.seen_from(cells.from_level(level))
        return part

    def add_nothing(self) -> None:
        """The slab just in front is empty."""
        self.nearer = torch.zeros_like(self.nearer)

    def add_group(self, group: Composite, steps: Steps) -> None:
        """Puts a finished group of layers behind all that is here."""
        if group is self:
            return
        if group.side < 0 and self.middle is not None:
            group.shift(self.middle)
        if group.side > 0:
            passing = [group.enlarged(x) for x in group.passing()]
            self.middle = passing if self.middle is None else [a + b for a, b in zip(self.middle, passing, strict=True)]
        steps.behind(self, group)

    def enlarged(self, x: Tensor) -> Tensor:
        """One of its own at full size."""
        x = enlarged(x, 2**self.level)
        return x if self.view is None else x[self.view.index()]

    def passing(self) -> list[Tensor]:
        """The middle of the part of the aperture where light passes these layers: away from where they are denser."""
        strength = ASIDE * (1 - self.through)
        return [-strength * slope for slope in slopes(self.radial)]

    def shift(self, middle: list[Tensor]) -> None:
        """These layers as they are seen through a part of the aperture with that middle, to first order."""
        if self.view is not None:
            here = Area.of(self.rgba).from_level(self.level).seen_from(self.view)
            middle = [window(x, here) for x in middle]
        moved = [halved(at, self.level) * slope for at, slope in zip(middle, slopes(self.radial), strict=True)]
        self.rgba = (self.rgba + moved[0] + moved[1]).clamp(min=0)
        self.through = (1 - self.rgba[:, 3:]).clamp(min=0)


def slopes(x: Tensor) -> list[Tensor]:
    """dx and dy a pixel, between the two neighbours; 0 at the rim."""
    across, down = (x[..., 2:] - x[..., :-2]) / 2, (x[..., 2:, :] - x[..., :-2, :]) / 2
    return [F.pad(across, (1, 1)), F.pad(down, (0, 0, 1, 1))]


def occurrences(sheets: Sheets, plan: Plan) -> list[tuple[Area | None, Area | None]]:
    """Of each slab: where in the region it occurs, and where it may be hidden, in whole cells; None: nowhere."""
    nearest, farthest = (x.cpu() for x in sheets.extremes)  # small: a GPU is waited for once
    k = torch.arange(len(plan.radii))[:, None, None]
    seen = (nearest > k - 1) & (farthest < k + 1)
    near_by = F.max_pool2d(seen.to(nearest), 5, 1, 2) > 0  # as far as `fill` fills
    hidden = near_by & (nearest > k + 1)
    return list(zip(bounding_areas(seen, plan.cell), bounding_areas(hidden, plan.cell), strict=True))


def bounding_areas(cells: Tensor, cell: int) -> list[Area | None]:
    """The rectangle of pixels around all cells (K,rows,columns) that are true, for each k; None if none is."""
    ends = []
    for line in (cells.any(2), cells.any(1)):
        line = line.byte()
        ends += [line.argmax(1) * cell, (line.shape[1] - line.flip(1).argmax(1)) * cell]
    some = cells.flatten(1).any(1).tolist()
    return [Area(*area) if any_ else None for area, any_ in zip(torch.stack(ends, 1).tolist(), some, strict=True)]


def halved(x: Tensor, times: int) -> Tensor:
    """Means over squares of 2^times pixels."""
    for _ in range(times):
        x = x[..., ::2, :] + x[..., 1::2, :]
        x = (x[..., ::2] + x[..., 1::2]) * 0.25
    return x


def reduced(x: Tensor, times: int) -> Tensor:
    """x at 1 / 2^times of the size; pixels are shared by the two nearest in each direction: light keeps its place."""
    for _ in range(times):
        x = F.pad(x, (1,) * 4, mode="replicate")
        x = torch.lerp(x[..., 1:-1:2, :] + x[..., 2::2, :], x[..., :-2:2, :] + x[..., 3::2, :], 0.25)
        x = torch.lerp(x[..., 1:-1:2] + x[..., 2::2], x[..., :-2:2] + x[..., 3::2], 0.25) * 0.25
    return x


def doubled(x: Tensor) -> Tensor:
    """x without its rim of one pixel at twice the size, bilinearly: as `enlarged`, but faster without gradients."""
    if torch.is_grad_enabled() and x.requires_grad:
        return enlarged(x, 2)[..., 2:-2, 2:-2]
    *count, height, width = x.shape
    columns = x.new_empty(*count, height, width - 2, 2)
    torch.lerp(x[..., 1:-1], x[..., :-2], 0.25, out=columns[..., 0])
    torch.lerp(x[..., 1:-1], x[..., 2:], 0.25, out=columns[..., 1])
    x = columns.flatten(-2)
    rows = x.new_empty(*count, height - 2, 2, x.shape[-1])
    torch.lerp(x[..., 1:-1, :], x[..., :-2, :], 0.25, out=rows[..., 0, :])
    torch.lerp(x[..., 1:-1, :], x[..., 2:, :], 0.25, out=rows[..., 1, :])
    return rows.flatten(-3, -2)


def enlarged(x: Tensor, times: int) -> Tensor:
    return x if times == 1 else F.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)


def largest(x: Tensor, side: int) -> Tensor:
    """The largest value in every square of `side` pixels."""
    return x if side == 1 else x.unflatten(-1, (-1, side)).amax(-1).unflatten(-2, (-1, side)).amax(-2)


def largest_around(x: Tensor) -> Tensor:
    """The largest value in the 3 x 3 pixels around each."""
    x = F.pad(x, (1,) * 4, mode="replicate")
    x = torch.maximum(torch.maximum(x[..., :-2, :], x[..., 1:-1, :]), x[..., 2:, :])
    return torch.maximum(torch.maximum(x[..., :-2], x[..., 1:-1]), x[..., 2:])


def round_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit
