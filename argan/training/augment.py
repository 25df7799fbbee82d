"""What real photos do that generated images do not: other subjects and framings, soft focus, noise, colour, JPEG.

All of it happens on the device of the images. What is random is drawn on the CPU, so that it is the same on every
device, and so that which images are chosen is known without waiting for a GPU; only JPEG does wait.
"""

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def augment(
    image: Tensor, disparity: Tensor, rng: torch.Generator, light: float = 0.0, negatives: float = 0.0
) -> tuple[Tensor, Tensor]:
    """image (B, 3, S, S) in [0, 1] with its disparity (B, 1, S, S) -> both as a camera might have given them.

    Framing moves both together; all else changes the image alone. Drawn from `rng`, which is on the CPU. `light` and
    `negatives` are `DepthConfig`'s.
    """
    image, disparity = reframe(image, disparity, rng)
    image = soften(image, rng)
    image = recolor(invert(relight(image, rng, light), rng, negatives), rng)
    image = compress(add_noise(image, rng), rng)
    return image, disparity


def collage(
    image: Tensor, disparity: Tensor, rng: torch.Generator, share: float, close: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Into a `share` of the pictures, another one's figure: smaller, somewhere, nearer or farther; the nearest is seen.

    What generators draw has one subject, in the middle, on the ground that is usual for it. Here subjects are
    anywhere, two to a picture, one hides a part of the other, and figure and ground do not know each other. A `close`
    share of the figures is larger than the others, mostly cut off by the frame, and the nearer the larger.

    Args:
        image, disparity: deep images (B, 3, S, S) and their disparity (B, 1, S, S), in one unit.
    """
    count, device = len(image), image.device
    others = torch.cat([image, disparity, figure(disparity)], dim=1)
    others = others.index_select(0, send(torch.randperm(count, generator=rng), device))
    size, is_close = uniform(count, 0.4, 1, rng, device), torch.zeros(count, 1, 1, 1, device=device)
    if close:
        is_close = choose(count, close, rng, device).float()
        size = size * 2.2**is_close
    middle = send(1.2 * torch.rand(count, 2, 1, generator=rng) - 0.6, device)
    middle = middle * (11 / 6) ** is_close[:, 0]  # up to the frame
    pasted, place, cover = put(others, size, middle)
    span = disparity.amax() - disparity.amin()
    place = place + span * (uniform(count, -0.1, 0.2, rng, device) + 0.3 * is_close * size)
    cover = cover * (place > disparity) * choose(count, share, rng, device)
    return torch.lerp(image, pasted, cover), torch.lerp(disparity, place, cover)


def stage(image: Tensor, disparity: Tensor, rng: torch.Generator, share: float) -> tuple[Tensor, Tensor]:
    """For a `share` of the pictures, another: figures that stand on a receding ground before a backdrop.

    Close-ups know no ground. In most photographs it begins near the camera, at the lower edge, and recedes to a
    horizon: a plane, whose disparity is linear in the picture, and on which texture shrinks as disparity does. Figures
    touch it where it is as far as they are. All of them are cut out of the samples.

    Args:
        image, disparity: deep images (B, 3, S, S) and their disparity (B, 1, S, S), whose unit is kept.
    """
    chosen = (torch.rand(len(image), generator=rng) < share).nonzero()[:, 0]
    if len(chosen) == 0:
        return image, disparity
    count, side, device = len(chosen), image.shape[-1], image.device
    far, near = quantiles(disparity.flatten(), 0.05, 0.95)
    y = ((torch.arange(side, device=device) + 0.5) * 2 / side - 1).view(1, 1, side, 1)
    horizon, span = uniform(count, -1.6, 0.3, rng, device), (near - far) * uniform(count, 0.6, 1.1, rng, device)
    rise = ((y - horizon) / (1 - horizon)).expand(count, 1, side, side)  # 0 at the horizon, 1 at the lower edge
    ground, behind = ground_plane(pick(image, count, rng), rise, rng), backdrop(pick(image, count, rng), rng)
    scene = torch.where(rise > 0, ground, behind)
    place = far + span * rise.clamp(min=0)
    samples = torch.cat([image, disparity, figure(disparity)], dim=1)
    for _ in range(2):
        color, relief, cover = pick(samples, count, rng).split([3, 1, 1], dim=1)
        foot = uniform(count, 0.1, 1.1, rng, device)  # how far in front of the horizon it stands
        size = (foot * uniform(count, 0.5, 1.3, rng, device)).clamp(min=0.15)
        lowest = torch.where(cover.amax(dim=3, keepdim=True) > 0.5, y, -1).amax(dim=2, keepdim=True)
        height = horizon + foot * (1 - horizon) - size * lowest
        middle = torch.cat([uniform(count, -0.8, 0.8, rng, device), height], dim=1)
        mean = (relief * cover).sum((2, 3), True) / cover.sum((2, 3), True).clamp(min=1e-6)
        stood = far + span * foot + 0.3 * (relief - mean)
        color, stood, cover = put(torch.cat([recolor(color, rng), stood, cover], dim=1), size, middle[..., 0])
        cover = cover * (stood > place)
        scene, place = torch.lerp(scene, color, cover), torch.lerp(place, stood, cover)
    chosen = send(chosen, device)
    return image.index_copy(0, chosen, scene.clamp(0, 1)), disparity.index_copy(0, chosen, place)


def ground_plane(texture: Tensor, rise: Tensor, rng: torch.Generator) -> Tensor:
    """A ground of colours (B, 3, S, S) in perspective; `rise` (B, 1, S, S) is its disparity, 1 at the lower edge."""
    count, side, device = len(texture), texture.shape[-1], texture.device
    texture = recolor(texture, rng)
    x = (torch.arange(side, device=device) + 0.5) * 2 / side - 1
    zoom, start = uniform(count, 0.3, 1, rng, device)[:, 0], uniform(count, -4, 4, rng, device)[:, 0]
    distance = 1 / rise[:, 0].clamp(min=0.04)
    grid = torch.stack([zoom * x * distance, start + 2 * zoom * distance], dim=3)
    fine = F.grid_sample(texture, grid, padding_mode="reflection", align_corners=False)
    return torch.lerp(texture.mean((2, 3), True), fine, (3 * rise).clamp(0.1, 1))  # far away it is too small to be seen


def backdrop(texture: Tensor, rng: torch.Generator) -> Tensor:
    """A wall, a wood or a sky of these colours (B, 3, S, S): anything between plain and as they are."""
    count, device = len(texture), texture.device
    texture = recolor(texture, rng)
    plain = F.interpolate(F.adaptive_avg_pool2d(texture, 2), texture.shape[2:], mode="bilinear", align_corners=False)
    wall = torch.lerp(plain, texture, uniform(count, -0.3, 1, rng, device).clamp(min=0))
    return wall * uniform(count, 0.5, 1.6, rng, device)


def pick(samples: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """`count` of them at random."""
    return samples.index_select(0, send(torch.randint(len(samples), (count,), generator=rng), samples.device))


def put(others: Tensor, size: Tensor, middle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Image, disparity and figure (B, 5, S, S), shrunk to `size` (B, 1, 1, 1) about `middle` (B, 2, 1) in [-1, 1]."""
    rows = torch.cat([torch.eye(2, device=others.device).expand(len(others), 2, 2), -middle], dim=2) / size[:, 0]
    grid = F.affine_grid(rows, list(others.shape), align_corners=False)
    pasted, place, cover = F.grid_sample(others, grid, align_corners=False).split([3, 1, 1], dim=1)
    return pasted, place, cover


def figure(disparity: Tensor) -> Tensor:
    """How much of each pixel belongs to the nearer half of a picture's disparities (B, 1, S, S), softly."""
    low, high = quantiles(disparity.flatten(1), 0.1, 0.9).view(2, -1, 1, 1, 1)
    return torch.sigmoid(20 * ((disparity - low) / (high - low).clamp(min=1e-6) - 0.55))


def quantiles(values: Tensor, *shares: float) -> Tensor:
    """Quantiles of the last dimension (Q, ...) at these `shares`."""
    return values.quantile(send(torch.tensor(shares), values.device), dim=-1)


def uniform(count: int, low: float, high: float, rng: torch.Generator, device: torch.device) -> Tensor:
    """(count, 1, 1, 1) draws from [low, high]."""
    return send(low + (high - low) * torch.rand(count, 1, 1, 1, generator=rng), device)


def choose(count: int, share: float, rng: torch.Generator, device: torch.device) -> Tensor:
    """(count, 1, 1, 1) bools, a `share` of them true."""
    return send(torch.rand(count, 1, 1, 1, generator=rng) < share, device)


def send(drawn: Tensor, device: torch.device) -> Tensor:
    """What was drawn on the CPU, on the device of the images: neither waits for the other."""
    return drawn.to(device, non_blocking=True)


def reframe(image: Tensor, disparity: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirror, turn by up to 15 degrees, zoom by 0.8 to 1.25, stretch and shift; beyond the border, mirrored."""
    count, cpu = len(image), torch.device("cpu")  # little to compute, of which only the result is sent
    angle = uniform(count, -0.26, 0.26, rng, cpu).view(count)
    zoom, stretch = uniform(count, 0.8, 1.25, rng, cpu).view(count), uniform(count, 0.85, 1.18, rng, cpu).view(count)
    mirror = torch.where(torch.rand(count, generator=rng) < 0.5, -1.0, 1.0)
    shift = 0.2 * torch.rand(count, 2, generator=rng) - 0.1
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [torch.stack([mirror * zoom * stretch * cos, -zoom * sin, shift[:, 0]], dim=1)]
    rows += [torch.stack([mirror * zoom * sin, zoom / stretch * cos, shift[:, 1]], dim=1)]
    grid = F.affine_grid(send(torch.stack(rows, dim=1), image.device), list(image.shape), align_corners=False)
    both = F.grid_sample(torch.cat([image, disparity], dim=1), grid, padding_mode="reflection", align_corners=False)
    return both[:, :3], both[:, 3:]


def soften(image: Tensor, rng: torch.Generator) -> Tensor:
    """A little blur, by 0 to 100 % of a [1 2 1] / 4 filter."""
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = send(kernel[:, None] * kernel[None, :], image.device).expand(3, 1, 3, 3)
    blurred = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    return torch.lerp(image, blurred, uniform(len(image), 0, 1, rng, image.device))


def relight(image: Tensor, rng: torch.Generator, light: float) -> Tensor:
    """Uneven light: a smooth field of gains, whose logarithm deviates by up to `light`."""
    field = send(light * torch.randn(len(image), 1, 4, 4, generator=rng), image.device)
    field = field * uniform(len(image), 0, 1, rng, image.device)
    return image * F.interpolate(field, image.shape[2:], mode="bicubic", align_corners=False).exp()


def invert(image: Tensor, rng: torch.Generator, share: float) -> Tensor:
    """The negative of a `share` of the images: the depth is the same, what is bright is another."""
    return torch.where(choose(len(image), share, rng, image.device), 1 - image.clamp(0, 1), image)


def recolor(image: Tensor, rng: torch.Generator) -> Tensor:
    """Exposure, contrast, white balance, saturation and gamma."""
    count, device = len(image), image.device
    image = image.clamp(1e-3, 1) ** uniform(count, 0.75, 1.35, rng, device)
    balance = send(0.85 + 0.3 * torch.rand(count, 3, 1, 1, generator=rng), device)
    grey = image.mean(dim=1, keepdim=True)
    image = torch.lerp(grey, image, uniform(count, 0.6, 1.4, rng, device)) * balance
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    image = mean + (image - mean) * uniform(count, 0.75, 1.3, rng, device)
    return image * uniform(count, 0.75, 1.25, rng, device)


def add_noise(image: Tensor, rng: torch.Generator) -> Tensor:
    """Gaussian noise with a deviation of 0 to 0.04, clipped as a sensor does."""
    deviation = uniform(len(image), 0, 0.04, rng, image.device)
    return (image + deviation * send(torch.randn(image.shape, generator=rng), image.device)).clamp(0, 1)


def compress(image: Tensor, rng: torch.Generator, share: float = 0.25) -> Tensor:
    """JPEG at quality 30 to 90, for a `share` of the images, which alone leave their device for it."""
    chosen = (torch.rand(len(image), generator=rng) < share).nonzero()[:, 0]
    qualities = torch.randint(30, 91, (len(image),), generator=rng)[chosen]
    if len(chosen) == 0:
        return image
    index = send(chosen, image.device)
    pixels = (image.index_select(0, index) * 255).round().to(torch.uint8)
    return image.index_copy(0, index, send(as_jpeg(pixels, qualities), image.device).float() / 255)


def as_jpeg(pixels: Tensor, qualities: Tensor) -> Tensor:
    """Bytes (B, 3, S, S) from any device -> what JPEG at these qualities (B,) leaves of them, on the CPU."""
    result = []
    for one, quality in zip(pixels.permute(0, 2, 3, 1).cpu().numpy(), qualities.tolist(), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(one).save(buffer, format="JPEG", quality=quality)
        result.append(torch.from_numpy(np.array(Image.open(buffer))))
    return torch.stack(result).permute(0, 3, 1, 2)
