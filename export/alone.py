"""Runs an exported file in its own runtime and nothing else: a script, started in a process of its own by `verify.py`.

    python alone.py FILE FORMAT DEVICE FOLDER LEVEL …

reads the inputs of every case from FOLDER/<case>.npz, writes the outputs to FOLDER/<way>/<case>.npz for each way of
running the file (an ONNX file runs at every LEVEL of optimisation), and prints what it saw as JSON. It imports no
argan, so that the file proves to need none.
"""

import json
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[list[np.ndarray]], list[np.ndarray]]

MISSING = 4  # exit code: the provider that was asked for is not active

LEVELS = {"as written": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED", "all": "ENABLE_ALL"}
"""Of ONNX Runtime's optimisation, as it calls them."""


def main(file: str, format: str, device: str, folder: str, *levels: str) -> None:
    in_torch = {"torchscript": torchscript, "pt2": pt2}
    ways = []
    if format == "pt2":
        refuse_pickles()
    with redirect_stdout(sys.stderr):  # results alone go to stdout
        for name, run, facts in onnx(file, device, levels) if format == "onnx" else in_torch[format](file, device):
            out = Path(folder, name)
            out.mkdir()
            start = time.perf_counter()
            for case in sorted(Path(folder).glob("*.npz")):
                run_case(run, case, out)
            ways.append({"way": name, "seconds": round(time.perf_counter() - start, 3), **facts})
    print(json.dumps({"ways": ways, "peak_mb": peak_memory()}))


def run_case(run: Run, case: Path, out: Path) -> None:
    """Read one case's inputs and write its outputs to `out`; the error of what does not run says where."""
    with np.load(case) as inputs:
        values = [inputs[key] for key in sorted(inputs, key=int)]
    try:
        outputs = run(values)
    except Exception as error:
        raise RuntimeError(f"{case.stem}, {out.name}: {error}") from error
    arrays: dict[str, Any] = {str(index): value for index, value in enumerate(outputs)}
    np.savez(out / case.name, **arrays)


def onnx(file: str, device: str, levels: Sequence[str]) -> Iterator[tuple[str, Run, dict[str, Any]]]:
    """In ONNX Runtime, at each of these levels of optimisation."""
    import onnxruntime

    wanted = "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"
    # TF32 keeps 10 bits of mantissa: it would be measured as an error of the export.
    cuda = (wanted, {"device_id": device.partition(":")[2] or "0", "use_tf32": "0"})
    providers = ["CPUExecutionProvider"] if device == "cpu" else [cuda, "CPUExecutionProvider"]
    if device != "cpu":
        onnxruntime.preload_dlls()  # from CUDA's Python packages, as torch would
    for name in levels:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{LEVELS[name]}")
        options.log_severity_level = 3
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads wait, not spin
        session = onnxruntime.InferenceSession(file, options, providers=providers)
        if wanted not in session.get_providers():
            print(f"ONNX Runtime has no active {wanted}: {', '.join(session.get_providers())}", file=sys.stderr)
            sys.exit(MISSING)
        names = [value.name for value in session.get_inputs()]

        def run(inputs: list[np.ndarray], session: Any = session, names: list[str] = names) -> list[np.ndarray]:
            return session.run(None, dict(zip(names, inputs, strict=True)))

        yield name, run, {"provider": session.get_providers()[0], "nodes": placement(session)}


def placement(session: Any) -> dict[str, int] | None:
    """How many nodes each provider runs; None where this ONNX Runtime does not say."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    counts: dict[str, int] = {}
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] = counts.get(part.ep_name, 0) + len(part.get_nodes())
    return counts


def torchscript(file: str, device: str) -> Iterator[tuple[str, Run, dict[str, Any]]]:
    import torch

    with open(file, "rb") as opened:  # by a name that is not ASCII PyTorch opens none on Windows
        module = torch.jit.load(opened, map_location=device)
    yield "torch.jit", on_torch(module, device), {"provider": device}


def pt2(file: str, device: str) -> Iterator[tuple[str, Run, dict[str, Any]]]:
    import torch
    from torch.export.passes import move_to_device_pass  # its graphs name the device that tensors are made on

    try:
        with open(file, "rb") as opened:  # as above
            program = move_to_device_pass(torch.export.load(opened), device)
    except pickle.UnpicklingError as error:
        raise RuntimeError("it holds a pickled object that is no tensor") from error
    yield "torch.export", on_torch(program.module(), device), {"provider": device}


def refuse_pickles() -> None:
    """Tensors alone are loaded in this process from here on: torch.export.load would run what else a file pickles."""
    import torch

    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # whatever torch.load's caller wants

    class Refused:  # a class, since others are derived from Unpickler
        def __init__(self, *what: Any, **how: Any):
            raise pickle.UnpicklingError

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch._C, "_pickle_load_obj")):
        setattr(module, name, Refused)


def on_torch(module: Any, device: str) -> Run:
    import torch

    def run(inputs: list[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(value).to(device) for value in inputs))
        return [value.cpu().numpy() for value in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return run


def peak_memory() -> int | None:
    """The most memory that this process has held, in MB; None where the system does not say."""
    if sys.platform == "win32":
        return None
    else:  # mypy reads this on the other systems alone
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / (1e6 if sys.platform == "darwin" else 1e3))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        if os.environ.get("ARGAN_DEBUG") == "1":
            raise
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        sys.exit(1)
