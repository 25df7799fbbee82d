"""Every Triton kernel compiles for the GPUs that argan is meant for, within its registers, and spills none."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.triton

ARCHITECTURES = (80, 90)  # A100; H100 and H200


@dataclass(frozen=True)
class Kernel:
    """One compilation of a kernel, and the registers that a thread of it may take."""

    module: str
    kernel: str
    types: dict[str, str]  # of the arguments that are not constants, as Triton writes them: "*fp32", "i32"
    registers: int
    constants: dict[str, Any] = field(default_factory=dict)  # a value "tl.…" is looked up in triton.language
    warps: int = 4
    stages: int = 3
    note: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kernel, self.note)))


def light_field(kernel: str, registers: int, storage: str = "fp32", compute: str = "fp32", **constants: Any) -> Kernel:
    stored = ("image", "rays", "disparity", "out", "grad_out", "grad_rays")
    computed = ("views", "weights", "grad_image", "grad_weights", "grad_disparity")
    types = dict.fromkeys(stored, f"*{storage}") | dict.fromkeys(computed, f"*{compute}")
    types |= dict.fromkeys(("height", "width", "count"), "i32")
    note = " ".join([storage, *(f"{name}={value}" for name, value in constants.items())])
    constants |= {"COMPUTE": f"tl.{'float64' if compute == 'fp64' else 'float32'}", "BLOCK_P": 128}
    return Kernel("argan.kernels.light_field.triton", kernel, types, registers, constants, note=note)


def bokeh(registers: int, storage: str = "fp32", compute: str = "fp32", kernels: str = "one") -> Kernel:
    types = {"source": f"*{storage}", "busy": "*i8"} | dict.fromkeys(("weights", "out"), f"*{compute}")
    types |= dict.fromkeys(("height", "width", "side", "rows", "columns", "cell"), "i32")
    constants = {"KERNELS": kernels, "BLOCK": 64, "BLOCK_P": 256}
    note = f"{storage} {kernels}"
    warps = 8 if compute == "fp64" else 2
    return Kernel("argan.kernels.bokeh.triton", "spread_kernel", types, registers, constants, warps, note=note)


def expansion(kernel: str, registers: int, number: str = "fp32", precision: str = "tf32", **constants: Any) -> Kernel:
    tensors = "planes", "image", "weights", "other", "out", "grad", "parts"
    types = dict.fromkeys(tensors, f"*{number}") | dict.fromkeys(("height", "width", "channels", "pixels"), "i32")
    note = " ".join([number, precision, *(f"{name}={value}" for name, value in constants.items())])
    block = 64 if precision == "tf32" else 32
    constants |= {"GROUP": 32, "BLOCK_P": block // 2 if kernel == "of_weights_kernel" else block}
    if kernel != "pack_kernel":
        constants |= {"PRECISION": precision, "COMPUTE": f"tl.{'float64' if number == 'fp64' else 'float32'}"}
    stages = 2 if (number, precision) == ("fp32", "ieee") else 3
    return Kernel("argan.kernels.expansion.triton", kernel, types, registers, constants, stages=stages, note=note)


def step(kernel: str, registers: int, number: str = "fp32", out: str = "", **constants: Any) -> Kernel:
    """The photo renderer's kernels of planes; `out` is what they store, if that is something else."""
    planes = ("near", "near_place", "far", "far_place", "rgba", "known", "coarse", "out", "grad")
    planes += ("grad_near", "grad_near_place", "grad_far", "grad_far_place", "layer", "through", "nearer", "radial")
    planes += ("group_rgba", "group_through", "group_nearer", "of_mean", "of_filled", "of_rgba", "of_through")
    planes += ("of_nearer", "of_radial", "grad_layer", "grad_through", "grad_nearer", "alpha", "visible", "farthest")
    sizes = ("plane", "pitch", "top", "left", "height", "width", "coarse_height", "coarse_width", "layer_height")
    sizes += ("rgba_plane", "rgba_pitch", "known_plane", "known_pitch", "layer_width", "group_height", "group_width")
    sizes += ("source_height", "source_width", "visible_pitch")
    types = dict.fromkeys(planes, f"*{number}") | dict.fromkeys(sizes, "i32") | {"k": "fp32", "radius": "fp64"}
    types |= {"out": f"*{out or number}"}
    untold = "TRUST", "EPS", "BLOCK", "STRIP"
    note = " ".join([number, *(f"{name}={value}" for name, value in constants.items() if name not in untold)])
    constants |= {"NOWHERE": -1e4} if kernel.startswith("weigh") else {}
    constants.setdefault("BLOCK", 256)
    return Kernel("argan.kernels.bokeh.triton", kernel, types, registers, constants, note=note)


RGB = {"CHANNELS": 3}
ALL = {"NEED_IMAGE": True, "NEED_RAYS": True, "NEED_WEIGHTS": True}
TRAINING = ALL | {"NEED_WEIGHTS": False}

# With 128 registers a thread, 4 blocks of 128 threads fit on a multiprocessor; with 40, 12. float64 is for checks.
KERNELS = [
    light_field("warp_forward_kernel", 40),
    light_field("warp_backward_kernel", 64),
    light_field("render_forward_kernel", 40, **RGB, GROUP=3),
    light_field("render_forward_kernel", 40, **RGB, GROUP=3, storage="fp16"),
    light_field("render_forward_kernel", 40, **RGB, GROUP=3, storage="bf16"),
    light_field("render_forward_kernel", 64, CHANNELS=11, GROUP=4),
    light_field("render_forward_kernel", 64, **RGB, GROUP=3, storage="fp64", compute="fp64"),
    light_field("render_backward_kernel", 128, **RGB, **TRAINING),
    light_field("render_backward_kernel", 128, **RGB, **TRAINING, storage="bf16"),
    light_field("render_backward_kernel", 128, **RGB, **ALL),
    light_field("render_backward_kernel", 128, CHANNELS=11, **ALL),
    light_field("render_backward_kernel", 192, **RGB, **ALL, storage="fp64", compute="fp64"),
    expansion("pack_kernel", 96),
    *(expansion("convolve_kernel", 88, THEN=then) for then in ("elu", "slope", "add")),
    *(expansion("convolve_kernel", 72, precision="ieee", THEN=then) for then in ("elu", "slope", "add")),
    *(expansion("convolve_kernel", 96, "fp64", "ieee", THEN=then) for then in ("elu", "slope")),
    expansion("of_weights_kernel", 128),
    expansion("of_weights_kernel", 128, precision="ieee"),
    expansion("of_weights_kernel", 200, "fp64", "ieee"),
    bokeh(64),  # a thread has four pixels: 16 registers each
    bokeh(64, "fp16"),
    bokeh(48, "fp64", "fp64"),
    bokeh(64, kernels="block"),
    bokeh(80, kernels="tap"),
    *(
        step("weigh_kernel", registers, WHAT=what, LEVEL=level)
        for (what, level), registers in {("seen", 0): 40, ("seen", 1): 56, ("known", 1): 40, ("hidden", 0): 32}.items()
    ),
    step("weigh_kernel", 80, "fp64", WHAT="seen", LEVEL=1),
    step("weigh_backward_kernel", 64, WHAT="seen", LEVEL=1),
    step("weigh_backward_kernel", 56, WHAT="known", LEVEL=0),
    step("pull_kernel", 40, TRUST=16),
    step("push_kernel", 40),
    step("pull_backward_kernel", 144, TRUST=16),
    step("push_backward_kernel", 64),
    step("busy_kernel", 80, out="i8", BLOCK=64, STRIP=16, BESIDE=2),
    step("pack_kernel", 40, HALF=False, EDGE="extend"),
    step("pack_kernel", 40, out="fp16", HALF=True, EDGE="extend"),
    step("pack_kernel", 40, HALF=False, EDGE="zero"),
    *(step("over_kernel", 40, SIDE=side, EPS=1e-6) for side in (-1, 0, 1)),
    *(step("over_backward_kernel", 64, SIDE=side, EPS=1e-6) for side in (-1, 0, 1)),
    *(step("keep_kernel", 64, FINER=finer, TRUST=16) for finer in (0, 1, 2)),
    *(step("behind_kernel", 40, UNIT=unit) for unit in (1, 8)),
]


@pytest.fixture(scope="module")
def reports() -> dict[tuple[int, int], dict[str, Any]]:
    jobs = [(kernel, arch) for kernel in KERNELS for arch in ARCHITECTURES]
    return {(id(kernel), arch): report for (kernel, arch), report in zip(jobs, compile_all(jobs), strict=True)}


def compile_all(jobs: list[tuple[Kernel, int]]) -> list[dict[str, Any]]:
    """Kernels compiled for architectures in one process that has Triton's interpreter switched off."""
    requests = [
        {name: getattr(kernel, name) for name in ("module", "kernel", "types", "constants", "warps", "stages")}
        | {"arch": arch}
        for kernel, arch in jobs
    ]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, filter(None, sys.path)))}
    command = [sys.executable, Path(__file__).with_name("aot_compile.py")]
    done = subprocess.run(
        command, input=json.dumps(requests), capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("arch", ARCHITECTURES, ids="sm_{}".format)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_compiles_within_limits(kernel, arch, reports):
    report = reports[id(kernel), arch]
    assert "error" not in report, report["error"]
    assert report["stack"] == 0, f"spills {report['stack']} bytes a thread: {report}"
    assert report["registers"] <= kernel.registers, report


def test_all_kernels_are_in_the_table():
    """Kernels are the functions named …_kernel of the modules called triton; a new one must be listed above."""
    folder = Path(__file__).parents[2] / "kernels"
    defined = {
        (f"argan.kernels.{path.parent.name}.triton", line.split("(")[0].removeprefix("def "))
        for path in folder.glob("*/triton.py")
        for line in path.read_text().splitlines()
        if line.startswith("def ") and line.split("(")[0].endswith("_kernel")
    }
    assert defined == {(kernel.module, kernel.kernel) for kernel in KERNELS}
