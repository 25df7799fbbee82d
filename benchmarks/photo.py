"""Seconds and memory of `argan render` on a 12-megapixel JPEG, whole process: start, decode, render, encode.

    python benchmarks/photo.py [--repeats 3] [--cases 2 3]
    python benchmarks/photo.py --size 11600 8700 --repeats 1 --cases 2     100 megapixels
    python benchmarks/photo.py --photos A.jpg B.jpg --cases 3

The photo is examples/photo.jpg enlarged, with noise, and the depth map a ramp, and a dozen discs of other slopes before
it. Or photographs of your own, enlarged in the same way, and their estimated depth: it has edges everywhere.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SIZE = 4000, 3000
PHOTO = Path(__file__).parents[1] / "examples" / "photo.jpg"
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
    parser.add_argument("--photos", nargs="+", type=Path, help="instead of the scene that is made up")
    arguments = parser.parse_args()
    for photo in arguments.photos or [None]:
        with tempfile.TemporaryDirectory() as folder:
            enlarge(photo or PHOTO, Path(folder), *arguments.size)
            if photo:
                command(Path(folder), ["depth", "photo.jpg"])
                (Path(folder) / "photo.depth.png").rename(Path(folder) / "depth.png")
            else:
                draw_depth(Path(folder), *arguments.size)
            for name in arguments.cases:
                runs = [render(Path(folder), CASES[name]) for _ in range(arguments.repeats)]
                seconds, kilobytes = min(run[0] for run in runs), max(run[1] for run in runs)
                what = f"{photo.name if photo else ''} {' '.join(CASES[name])}".strip()
                print(f"{what}: {seconds:.1f} s (least of {len(runs)}), {kilobytes / 1e6:.2f} GB", flush=True)


def enlarge(source: Path, folder: Path, width: int, height: int) -> None:
    """photo.jpg, with noise of three levels."""
    rng = np.random.default_rng(0)
    small = ImageOps.exif_transpose(Image.open(source)).convert("RGB")
    if small.width < small.height:
        width, height = height, width
    photo = np.array(ImageOps.fit(small, (width, height), Image.Resampling.BICUBIC))
    for rows in np.array_split(photo, -(-height // 1000)):
        rows[:] = (rows + rng.normal(0, 3, rows.shape)).clip(0, 255)
    Image.fromarray(photo).save(folder / "photo.jpg", quality=92)


def draw_depth(folder: Path, width: int, height: int) -> None:
    """depth.png."""
    rng = np.random.default_rng(0)
    y, x = np.ogrid[:height, :width]
    depth = np.broadcast_to(0.1 + 0.5 * y / height, (height, width)).astype(np.float32)
    scale = width / SIZE[0]
    for left, top, radius in rng.uniform((0, 0, 150 * scale), (width, height, 600 * scale), (12, 3)):
        inside = (x - left) ** 2 + (y - top) ** 2 < radius**2
        depth[inside] = np.broadcast_to(rng.uniform(0.2, 1) + 0.1 * (x - left) / radius, depth.shape)[inside]
    Image.fromarray((depth.clip(0, 1) * 65535).astype(np.uint16)).save(folder / "depth.png")


def render(folder: Path, options: list[str]) -> tuple[float, int]:
    return command(folder, ["render", "photo.jpg", "--output", "out.jpg", "--overwrite", *options])


def command(folder: Path, words: list[str]) -> tuple[float, int]:
    """Seconds, and kilobytes at the peak."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", RUN, *words], cwd=folder, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    code, kilobytes = map(int, done.stdout.split()[-2:])
    if code:
        raise SystemExit(f"argan {words[0]} ended with {code}")
    return seconds, kilobytes


if __name__ == "__main__":
    main()
