"""Speed and memory of the photo renderer, after a check that it computes what it should.

    python benchmarks/bokeh.py [--megapixels 12] [--radii 10 40 100] [--impl auto] [--device auto]
                               [--photo P --depth D] [--json]

Without a photo the scene is a made-up one with depth everywhere: a slanted ground, a wall, and 60 discs between them.
"""

import argparse
import json
import platform
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from argan.kernels import render_bokeh, resolve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument(
        "--radii", type=float, nargs="+", default=[10, 40, 100], help="blur radii in pixels at |d - f| = 1"
    )
    parser.add_argument("--focus", type=float, default=0.7)
    parser.add_argument("--impl", default="auto", choices=["auto", "reference", "triton"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--depth", type=Path, help="disparity of the photo, a grey picture: brighter is nearer")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    impl = resolve(options.impl, device)
    check(device, impl)
    image, disparity = read(options.photo, options.depth) if options.photo else scene(options.megapixels)
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


def scene(megapixels: float) -> tuple[Tensor, Tensor]:
    height, width = (max(64, round((megapixels * 1e6 / 12) ** 0.5 * side)) for side in (3, 4))
    g = torch.Generator().manual_seed(0)
    y, x = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 4 / 3, width)[None]
    disparity = (1.6 * y - 0.7).clamp(min=0.05).expand(height, width).clone()
    image = torch.rand(3, height // 4 + 1, width // 4 + 1, generator=g).repeat_interleave(4, 1).repeat_interleave(4, 2)
    image = image[:, :height, :width].clone()
    for row in torch.rand(60, 7, generator=g).sort(0).values.flip(1).tolist():
        d, cx, cy, r = row[0], row[1] * 4 / 3, row[2], 0.02 + 0.06 * row[3]
        inside = (torch.hypot(x - cx, y - cy) < r) & (disparity < d)
        disparity[inside] = d
        image[:, inside] = 0.5 * image[:, inside] + 0.5 * torch.tensor(row[4:])[:, None]
    return image[None], disparity[None, None].clamp(0, 1)


def read(photo: Path, depth: Path) -> tuple[Tensor, Tensor]:
    import numpy as np
    from PIL import Image

    picture = Image.open(photo).convert("RGB")
    grey = torch.from_numpy(np.asarray(Image.open(depth)).astype("float32"))[None, None]
    grey = torch.nn.functional.interpolate(grey, (picture.height, picture.width))
    linear = torch.from_numpy(np.asarray(picture).astype("float32") / 255).permute(2, 0, 1)[None] ** 2.2
    return linear, (grey - grey.min()) / (grey.max() - grey.min())


def measure(image: Tensor, disparity: Tensor, radius: float, focus: float, impl: str, repeats: int) -> dict:
    def once() -> float:
        start = time.perf_counter()
        render_bokeh(image, disparity, radius, focus, impl=impl)
        if image.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    if image.is_cuda:
        once()  # compiles
        torch.cuda.reset_peak_memory_stats()
    cpu, wall = time.process_time(), statistics.median(once() for _ in range(repeats))
    cpu = (time.process_time() - cpu) / repeats
    peak = torch.cuda.max_memory_allocated() if image.is_cuda else _resident()
    return {"radius": radius, "seconds": wall, "cpu_seconds": cpu, "peak_gib": peak / 2**30}


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def machine(device: str) -> str:
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}"
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
    )


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def table(report: dict) -> str:
    height, width = report["size"]
    lines = [f"{report['machine']}; {report['impl']}; {width} x {height}", "radius  seconds  CPU seconds  peak GiB"]
    rows = report["results"]
    lines += [f"{r['radius']:6g}  {r['seconds']:7.2f}  {r['cpu_seconds']:11.2f}  {r['peak_gib']:8.2f}" for r in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
