"""Speed of light field rendering, forward and backward, beside the fewest bytes that it must move.

    python benchmarks/light_field.py                    on a GPU: Triton and reference; without one: the reference
    python benchmarks/light_field.py --formulations     other ways to write the reference, on the CPU
    python benchmarks/light_field.py --json             the same as JSON, for keeping

Nothing is timed before it has been checked against the reference. Times are medians; on a GPU each run starts with a
cold L2 cache; with `--threads 1` on a CPU they are CPU time, which other load on the machine disturbs least.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from argan.bench import machine
from argan.kernels import render_light_field, resolve, warp_disparity

DISK = [(x, y) for y in range(-2, 3) for x in range(-2, 3) if abs(x * y) < 4]  # 5 x 5 less the corners
Gradients = Callable[[], tuple[Tensor, ...]]


def view_by_view(image: Tensor, rays: Tensor, views: Tensor) -> Tensor:
    """One grid_sample a view: the least memory."""
    height, width = image.shape[-2:]
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    total = torch.zeros_like(image)
    for ray, (ux, uy) in zip(rays.unbind(1), views.tolist(), strict=True):
        x, y = columns + ux * ray, rows.view(-1, 1) + uy * ray
        grid = torch.stack((x * (2 / width) - 1, y * (2 / height) - 1), -1)
        total = total + F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    return total / len(views)


def four_gathers(image: Tensor, rays: Tensor, views: Tensor) -> Tensor:
    """Interpolation written out: an index and two shares for every position, four gathers."""
    batch, channels, height, width = image.shape
    count = len(views)
    x = (torch.arange(width) + views[:, 0].view(count, 1, 1) * rays).clamp(0, width - 1)
    y = (torch.arange(height).view(-1, 1) + views[:, 1].view(count, 1, 1) * rays).clamp(0, height - 1)
    x0, y0 = x.detach().floor().clamp(max=width - 2), y.detach().floor().clamp(max=height - 2)
    fx, fy = (x - x0).unsqueeze(1), (y - y0).unsqueeze(1)
    index = (y0 * width + x0).long().view(batch, 1, -1).expand(-1, channels, -1)
    a, b, c, d = (
        image.flatten(2).gather(2, index + step).view(batch, channels, count, height, width)
        for step in (0, 1, width, width + 1)
    )
    return torch.lerp(torch.lerp(a, b, fx), torch.lerp(c, d, fx), fy).mean(2)


def broadcast_grid(image: Tensor, rays: Tensor, views: Tensor) -> Tensor:
    """One grid_sample like the reference, but with x and y computed in one broadcast operation."""
    batch, channels, height, width = image.shape
    size = torch.tensor([width, height])
    pixels = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), -1)
    grid = torch.addcmul((2 * pixels + 1) / size - 1, rays.unsqueeze(-1), (2 * views / size).view(-1, 1, 1, 2))
    samples = F.grid_sample(image, grid.view(batch, -1, width, 2), padding_mode="border", align_corners=False)
    return samples.view(batch, channels, len(views), height, width).mean(2)


def inputs(batch: int, size: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """An image, disparity such as the GAN learns (a pixel or two a step), and the aperture."""
    torch.manual_seed(0)
    image = torch.rand(batch, 3, size, size, device=device)
    coarse = torch.randn(batch, 1, size // 8, size // 8, device=device)
    return image, F.interpolate(coarse, size=size, mode="bilinear"), torch.tensor(DISK, device=device).float()


def gradients(render: Callable[..., Tensor], *tensors: Tensor) -> tuple[Gradients, Gradients]:
    """The forward pass alone, and forward and backward, of a rendering function."""
    tracked = [tensor.detach().requires_grad_() for tensor in tensors]

    def forward() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (render(*tracked),)

    def both() -> tuple[Tensor, ...]:
        out = render(*tracked)
        return out.detach(), *torch.autograd.grad(out, tracked, out.detach())

    return forward, both


def check(got: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """Values within 1e-4. Gradients have kinks at whole pixels, where rounding decides the side: all but 1 in 1000."""
    torch.testing.assert_close(got[0], expected[0], rtol=0, atol=1e-4)
    for one, other in zip(got[1:], expected[1:], strict=True):
        apart = (one - other).abs() > 1e-4 * other.abs().max()
        if apart.float().mean() > 1e-3:
            raise SystemExit(
                f"error: gradients differ in {apart.float().mean():.1%} of the elements; nothing was timed"
            )


def milliseconds(function: Gradients, device: str, repeats: int) -> float:
    function()
    times = []
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for _ in range(repeats):
        if device == "cuda":
            torch.empty(2**28, dtype=torch.uint8, device=device).zero_()  # larger than any L2 cache
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end))
        else:
            begin = clock()
            function()
            times.append((clock() - begin) * 1e3)
    return statistics.median(times)


def floor_bytes(batch: int, size: int) -> dict[str, int]:
    """What must be read and written once, forward and in both passes, in float32."""
    plane = 4 * batch * size * size
    image, rays = 3 * plane, len(DISK) * plane
    return {
        "render_light_field forward": 2 * image + rays,
        "render_light_field both": (2 * image + rays) + (3 * image + 2 * rays),
        "warp_disparity forward": plane + rays,
        "warp_disparity both": (plane + rays) + (2 * plane + rays),
    }


def measure(batch: int, size: int, device: str, repeats: int, formulations: bool) -> list[dict]:
    image, disparity, views = inputs(batch, size, device)
    rays = warp_disparity(disparity, views, impl="reference")
    implementations = ["reference"] + (["triton"] if resolve("auto", device) == "triton" else [])
    operations: dict[tuple[str, str], tuple[Gradients, Gradients]] = {}
    for impl in implementations:
        operations["warp_disparity", impl] = gradients(lambda d, i=impl: warp_disparity(d, views, impl=i), disparity)
        operations["render_light_field", impl] = gradients(
            lambda im, r, i=impl: render_light_field(im, r, views, impl=i), image, rays
        )
    if formulations:
        for other in (broadcast_grid, view_by_view, four_gathers):
            operations["render_light_field", other.__name__] = gradients(
                lambda im, r, other=other: other(im, r, views), image, rays
            )
    rows = []
    for (operation, name), (forward, both) in operations.items():
        check(both(), operations[operation, "reference"][1]())
        times = {"forward": milliseconds(forward, device, repeats), "both": milliseconds(both, device, repeats)}
        for what, ms in times.items():
            least = floor_bytes(batch, size)[f"{operation} {what}"]
            gigabytes = least / ms / 1e6
            rows.append({"operation": operation, "by": name, "batch": batch, "size": size, "pass": what, "ms": ms,
                         "floor_bytes": least, "gb_per_s_of_floor": gigabytes})  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128], help="pixels, powers of two")
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU (default: PyTorch's own choice)")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--formulations", action="store_true", help="time other formulations, on the CPU")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() and not options.formulations else "cpu"
    rows = [
        row
        for size in options.sizes
        for row in measure(options.batch, size, device, options.repeats, options.formulations)
    ]
    facts = machine(torch.device(device))
    if options.json:
        print(json.dumps({"machine": facts, "results": rows}, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"{'operation':20} {'by':16} {'batch':>5} {'size':>4} {'pass':8} {'ms':>9} {'GB/s of the floor':>18}")
    for row in rows:
        print("{operation:20} {by:16} {batch:5} {size:4} {pass:8} {ms:9.2f} {gb_per_s_of_floor:18.1f}".format(**row))


if __name__ == "__main__":
    main()
