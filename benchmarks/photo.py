"""Seconds and memory of `argan render` on a 12-megapixel JPEG, whole process: start, decode, render, encode.

    python benchmarks/photo.py [--repeats 3] [--cases 2 3]
    python benchmarks/photo.py --size 11600 8700 --repeats 1 --cases 2     100 megapixels

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

SIZE = 4000, 3000
CASES = {
    "2": ["--depth", "depth.png", "--blur", "2"],
    "3": ["--depth", "depth.png", "--blur", "3"],  # of 4000 pixels: a radius of 60
    "5": ["--depth", "depth.png", "--blur", "5"],
    "10": ["--depth", "depth.png", "--blur", "10"],
    "20": ["--depth", "depth.png", "--blur", "20"],
    "estimated": ["--blur", "2"],
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
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder), *arguments.size)
        for name in arguments.cases:
            runs = [render(Path(folder), CASES[name]) for _ in range(arguments.repeats)]
            seconds, kilobytes = min(run[0] for run in runs), max(run[1] for run in runs)
            least = f"least of {arguments.repeats}"
            print(f"{' '.join(CASES[name])}: {seconds:.1f} s ({least}), {kilobytes / 1e6:.2f} GB", flush=True)


def draw(folder: Path, width: int, height: int) -> None:
    """photo.jpg and depth.png."""
    rng = np.random.default_rng(0)
    source = Image.open(Path(__file__).parents[1] / "examples" / "photo.jpg").convert("RGB")
    photo = np.array(source.resize((width, height), Image.Resampling.BICUBIC))
    for rows in np.array_split(photo, -(-height // 1000)):
        rows[:] = (rows + rng.normal(0, 3, rows.shape)).clip(0, 255)
    Image.fromarray(photo).save(folder / "photo.jpg", quality=92)
    y, x = np.ogrid[:height, :width]
    depth = np.broadcast_to(0.1 + 0.5 * y / height, (height, width)).astype(np.float32)
    scale = width / SIZE[0]
    for left, top, radius in rng.uniform((0, 0, 150 * scale), (width, height, 600 * scale), (12, 3)):
        inside = (x - left) ** 2 + (y - top) ** 2 < radius**2
        depth[inside] = np.broadcast_to(rng.uniform(0.2, 1) + 0.1 * (x - left) / radius, depth.shape)[inside]
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
