"""Seconds and memory of `argan render` on a 12-megapixel JPEG, whole process: start, decode, render, encode.

    python benchmarks/photo.py [--repeats 3]

The photo is examples/photo.jpg enlarged, with noise. The depth map is as busy as they come: a ramp, and a dozen discs
of other slopes before it.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 4000, 3000
CASES = {
    "--depth, blur 2": ["--depth", "depth.png", "--blur", "2"],
    "--depth, blur 3 (radius 60 px)": ["--depth", "depth.png", "--blur", "3"],
    "estimated depth, blur 2": ["--blur", "2"],
}
# A child of its own, so that its peak of memory is its own too.
RUN = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "argan", *sys.argv[1:]], stderr=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder))
        for name, options in CASES.items():
            runs = [render(Path(folder), options) for _ in range(repeats)]
            seconds, kilobytes = min(run[0] for run in runs), max(run[1] for run in runs)
            print(f"{name}: {seconds:.1f} s (least of {repeats}), {kilobytes / 1e6:.2f} GB", flush=True)


def draw(folder: Path) -> None:
    """photo.jpg and depth.png."""
    rng = np.random.default_rng(0)
    source = Image.open(Path(__file__).parents[1] / "examples" / "photo.jpg").convert("RGB")
    photo = np.asarray(source.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) + rng.normal(0, 3, (HEIGHT, WIDTH, 3))
    Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(folder / "photo.jpg", quality=92)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    depth = 0.1 + 0.5 * y / HEIGHT
    for left, top, radius in rng.uniform((0, 0, 150), (WIDTH, HEIGHT, 600), (12, 3)):
        inside = (x - left) ** 2 + (y - top) ** 2 < radius**2
        depth[inside] = rng.uniform(0.2, 1) + 0.1 * (x[inside] - left) / radius
    Image.fromarray((depth.clip(0, 1) * 65535).astype(np.uint16)).save(folder / "depth.png")


def render(folder: Path, options: list[str]) -> tuple[float, int]:
    """Seconds, and kilobytes at the peak."""
    command = [sys.executable, "-c", RUN, "render", "photo.jpg", "--output", "out.jpg", "--overwrite", *options]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    code, kilobytes = map(int, done.stdout.split()[-2:])
    if code:
        raise SystemExit(f"argan render ended with {code}")
    return seconds, kilobytes


if __name__ == "__main__":
    main()
