"""Speed and memory of the photo renderer, after a check that it computes what it should.

    python benchmarks/bokeh.py [--megapixels 12] [--radii 10 40 100] [--impl auto] [--device auto]
                               [--photo P --depth D] [--json]
    python benchmarks/bokeh.py --gpu [--plot FILE.svg]   Triton beside the same method in PyTorch on a GPU: float32 and
                                                         float16, forward and backward, and floors
    python benchmarks/bokeh.py --aot                     registers, spills and instructions a tap of the kernels, by
                                                         compiling them; needs no GPU, but argan[test]

Without a photo the scene is a made-up one with depth everywhere: a slanted ground, a wall, and 60 discs between them.
Floors are of bytes and of taps, for an H200: benchmarks/bokeh_budget.py. Times are medians; the first call compiles.
"""

import argparse
import json
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from scene import scene
from torch import Tensor

from argan import bench
from argan.kernels import render_bokeh, resolve
from argan.kernels.bokeh import Aperture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument(
        "--radii", type=float, nargs="+", default=[10, 40, 100], help="blur radii in pixels at |d - f| = 1"
    )
    parser.add_argument("--focus", type=float, default=0.7)
    parser.add_argument("--impl", default="auto", choices=["auto", "reference", "numba", "triton"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--depth", type=Path, help="disparity of the photo, a grey picture: brighter is nearer")
    parser.add_argument("--aot", action="store_true", help="compile the kernels and say what they use")
    parser.add_argument("--gpu", action="store_true", help="back ends, types, both passes, and floors")
    parser.add_argument("--plot", type=Path, help="of --gpu: a picture, .svg")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.aot:
        print(compiled())
        return
    torch.set_grad_enabled(False)
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    impl = resolve(options.impl, device, numba=True)
    check(device, impl)
    image, disparity = read(options.photo, options.depth) if options.photo else scene(options.megapixels)
    if options.gpu:
        rows = compare(image, disparity, options, device)
        print(json.dumps({"machine": machine(device), "results": rows}, indent=1) if options.json else comparison(rows))
        if options.plot:
            options.plot.write_text(plot(rows, machine(device)))
        return
    image, disparity = image.to(device), disparity.to(device)
    rows = [measure(image, disparity, radius, options.focus, impl, options.repeats) for radius in options.radii]
    report = {"machine": machine(device), "impl": impl, "size": list(image.shape[-2:]), "results": rows}
    print(json.dumps(report, indent=1) if options.json else table(report))


def check(device: str, impl: str) -> None:
    """Refuses to time a renderer that is wrong: a constant stays constant, a plane is convolved, back ends agree."""
    image, disparity = (x[..., :150, :200].to(device) for x in scene(0.1))
    flat = torch.full_like(image, 0.3)
    torch.testing.assert_close(render_bokeh(flat, disparity, 12.0, 0.5, impl=impl), flat, rtol=1e-5, atol=0)
    ours, reference = (render_bokeh(image, disparity, 9.0, 0.5, impl=i) for i in (impl, "reference"))
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-4)


def check_types(device: str) -> None:
    """Half precision and gradients against the reference in float32, before they are timed."""
    image, disparity = (x[..., :150, :200].to(device) for x in scene(0.1))
    whole = render_bokeh(image, disparity, 9.0, 0.5, impl="reference")
    half = render_bokeh(image.half(), disparity, 9.0, 0.5, impl=resolve("auto", device)).float()
    decibels = -10 * math.log10(float((half - whole).square().mean()))
    if decibels < 50:
        raise SystemExit(f"error: float16 is {decibels:.1f} dB from float32; nothing was timed")
    inputs = [x.clone().requires_grad_() for x in (image, disparity)]
    with torch.enable_grad():
        grads = [
            torch.autograd.grad((render_bokeh(*inputs, 9.0, 0.5, impl=impl) * whole).sum(), inputs)
            for impl in ("reference", resolve("auto", device))
        ]
    for expected, got in zip(*grads, strict=True):
        if float((got - expected).norm()) > 1e-3 * float(expected.norm()):
            raise SystemExit("error: gradients differ by more than a thousandth; nothing was timed")


def compare(image: Tensor, disparity: Tensor, options: argparse.Namespace, device: str) -> list[dict]:
    """Seconds of both passes by back end, type and radius, and floors; None where a pass has too little memory."""
    from bokeh_budget import count, total

    check_types(device)
    rows = []
    ways = [("reference", torch.float32)]
    if resolve("auto", device) == "triton":
        ways += [("triton", torch.float32), ("triton", torch.float16)]
    for radius in options.radii:
        for impl, dtype in ways:
            inputs = [image.to(device, dtype), disparity.to(device)]
            row = {"radius": radius, "impl": impl, "dtype": str(dtype).removeprefix("torch.")}
            try:
                row |= both_passes(inputs, radius, options.focus, impl, options.repeats)
            except torch.OutOfMemoryError:
                row |= {"forward": None, "backward": None, "peak_gib": None}
            rows.append(row)
        costs = total(count(image, radius * (disparity - options.focus), Aperture(), 16))
        floors = {f"floor_{what}": seconds for what, seconds in costs.seconds().items()}
        rows.append(
            {"radius": radius, "impl": "floor", "dtype": "float32", **floors, "forward": None, "backward": None}
        )
    return rows


def both_passes(inputs: list[Tensor], radius: float, focus: float, impl: str, repeats: int) -> dict:
    def forward() -> Tensor:
        return render_bokeh(*inputs, radius, focus, impl=impl)

    def both() -> None:
        tracked = [x.detach().requires_grad_() for x in inputs]
        with torch.enable_grad():
            out = render_bokeh(*tracked, radius, focus, impl=impl)
            torch.autograd.grad(out, tracked, out.detach())

    forward()
    if inputs[0].is_cuda:
        torch.cuda.reset_peak_memory_stats(inputs[0].device)
    alone = statistics.median(seconds(forward, inputs[0]) for _ in range(repeats))
    peak = peak_gib(inputs[0])
    both()
    together = statistics.median(seconds(both, inputs[0]) for _ in range(repeats))
    return {"forward": alone, "backward": together - alone, "peak_gib": peak}


def seconds(work: Callable[[], object], like: Tensor) -> float:
    synchronise(like)
    start = time.perf_counter()
    work()
    synchronise(like)
    return time.perf_counter() - start


def synchronise(like: Tensor) -> None:
    if like.is_cuda:
        torch.cuda.synchronize(like.device)


def peak_gib(like: Tensor) -> float:
    """Of the GPU's memory since its statistics were reset, or of this process's."""
    if like.is_cuda:
        return torch.cuda.max_memory_allocated(like.device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30


def comparison(rows: list[dict]) -> str:
    lines = ["radius  by                  forward ms  backward ms  times forward  peak GiB"]
    for row in rows:
        who = f"{row['radius']:6g}  {row['impl'] + ' ' + row['dtype']:18}"
        if row["impl"] == "floor":
            bounds = ", ".join(
                f"{row[f'floor_{what}'] * 1e3:.1f} ms of {what}" for what in ("bytes", "taps", "launches")
            )
            lines.append(f"{who}  {bounds}, by arithmetic for an H200")
        elif row["forward"] is None:
            lines.append(f"{who}  more memory than there is")
        else:
            ahead, back = 1e3 * row["forward"], 1e3 * row["backward"]
            lines.append(f"{who}  {ahead:10.1f}  {back:11.1f}  {back / ahead:13.2f}  {row['peak_gib']:8.2f}")
    return "\n".join(lines)


def plot(rows: list[dict], title: str) -> str:
    """Bars of the forward passes, and lines where the floors of bytes are, as SVG."""
    timed = [row for row in rows if row.get("forward")]
    floors = {row["radius"]: row["floor_bytes"] for row in rows if row["impl"] == "floor"}
    longest = max(row["forward"] for row in timed)
    parts = [f'<text x="10" y="20">{title}: forward, and the floor of bytes on an H200 (line)</text>']
    for n, row in enumerate(timed):
        y, scale = 40 + 24 * n, 400 / longest
        name = f"r = {row['radius']:g}, {row['impl']} {row['dtype']}"
        colour = "#b8752a" if row["impl"] == "reference" else "#2a6fb8"
        x = 250 + scale * floors[row["radius"]]
        parts += [
            f'<text x="10" y="{y + 13}">{name}</text>',
            f'<rect x="250" y="{y}" width="{scale * row["forward"]:.1f}" height="16" fill="{colour}"/>',
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 2}" y2="{y + 18}" stroke="black" stroke-width="2"/>',
            f'<text x="{255 + scale * row["forward"]:.1f}" y="{y + 13}">{1e3 * row["forward"]:.1f} ms</text>',
        ]
    size = f'width="760" height="{50 + 24 * len(timed)}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">{"".join(parts)}</svg>'
    )


def compiled() -> str:
    """A line for every kernel of the renderer and architecture."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "kernels"))
    from test_aot import ARCHITECTURES, KERNELS, compile_all

    jobs = [(kernel, arch) for kernel in KERNELS if "bokeh" in kernel.module for arch in ARCHITECTURES]
    lines = [f"{'kernel':43}  arch   registers  bytes spilled  instructions  a tap: these  loads"]
    for (kernel, arch), report in zip(jobs, compile_all(jobs), strict=True):
        figures = f"{report['registers']:9}  {report['stack']:13}  {report['instructions']:12}"
        if kernel.kernel == "spread_kernel":
            loop = report["loop"]
            taps = (loop.get("FFMA", 0) + loop.get("DFMA", 0)) / 4  # a tap is RGBA
            figures += f"  {sum(loop.values()) / taps:12.1f}  {loop.get('LDG', 0) / taps:5.2f}"
        lines.append(f"{kernel!s:43}  sm_{arch}  {figures}")
    return "\n".join(lines)


def read(photo: Path, depth: Path) -> tuple[Tensor, Tensor]:
    import numpy as np
    from PIL import Image

    picture = Image.open(photo).convert("RGB")
    grey = torch.from_numpy(np.asarray(Image.open(depth)).astype("float32"))[None, None]
    grey = torch.nn.functional.interpolate(grey, (picture.height, picture.width))
    linear = torch.from_numpy(np.asarray(picture).astype("float32") / 255).permute(2, 0, 1)[None] ** 2.2
    return linear, (grey - grey.min()) / (grey.max() - grey.min())


def measure(image: Tensor, disparity: Tensor, radius: float, focus: float, impl: str, repeats: int) -> dict:
    def render() -> Tensor:
        return render_bokeh(image, disparity, radius, focus, impl=impl)

    if image.is_cuda:
        render()  # compiles
        torch.cuda.reset_peak_memory_stats(image.device)
    cpu, wall = time.process_time(), statistics.median(seconds(render, image) for _ in range(repeats))
    cpu = (time.process_time() - cpu) / repeats
    return {"radius": radius, "seconds": wall, "cpu_seconds": cpu, "peak_gib": peak_gib(image)}


def machine(device: str) -> str:
    facts = bench.machine(torch.device(device))
    return f"{facts['device']}, {facts['threads']} threads, PyTorch {facts['torch']}"


def table(report: dict) -> str:
    height, width = report["size"]
    lines = [f"{report['machine']}; {report['impl']}; {width} x {height}", "radius  seconds  CPU seconds  peak GiB"]
    rows = report["results"]
    lines += [f"{r['radius']:6g}  {r['seconds']:7.2f}  {r['cpu_seconds']:11.2f}  {r['peak_gib']:8.2f}" for r in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
