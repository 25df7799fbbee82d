"""What all tests share: Triton's interpreter where there is no GPU, a fixed seed, and memory that starts as NaN."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("untimed", deadline=None)  # beside other work an example can take long
hypothesis.settings.load_profile("untimed")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":  # read when a kernel is defined, so it is set before argan.kernels can be imported
    os.environ["TRITON_INTERPRET"] = "1"

workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if workers > 1:  # pytest -n: they share the cores, and so do the commands that they start
    threads = max(1, torch.get_num_threads() // workers)
    torch.set_num_threads(threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    no_gpu = pytest.mark.skip(reason="needs a CUDA device")
    no_triton = pytest.mark.skip(reason="Triton has wheels for Linux only")
    for item in items:
        if "gpu" in item.keywords and DEVICE == "cpu":
            item.add_marker(no_gpu)
        # On Linux Triton is a dependency of argan: there its absence fails the test.
        if "triton" in item.keywords and sys.platform != "linux" and importlib.util.find_spec("triton") is None:
            item.add_marker(no_triton)


@pytest.fixture
def device() -> str:
    """Where kernels are tested: on the GPU, or on the CPU under Triton's interpreter."""
    return DEVICE


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def set_precision() -> Iterator[Callable[[Any, str], None]]:
    """Sets `fp32_precision`, PyTorch's newer way, of some part of `torch.backends`, until the test is over."""
    cudnn = torch.backends.cudnn
    parts = torch.backends, torch.backends.cuda.matmul, cudnn, cudnn.conv, cudnn.rnn
    before = [part.fp32_precision for part in parts]
    yield lambda part, value: setattr(part, "fp32_precision", value)
    for part, value in zip(parts, before, strict=True):
        part.fp32_precision = value


@pytest.fixture
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill what argan.kernels allocates uninitialised with NaN: an element that a kernel forgets to write is seen."""

    def poison(allocate):
        def allocate_poisoned(*args, **kwargs):
            memory = allocate(*args, **kwargs)
            ours = sys._getframe(1).f_globals.get("__name__", "").startswith("argan.kernels")
            return memory.fill_(torch.nan) if ours and memory.is_floating_point() else memory

        return allocate_poisoned

    for owner, name in (
        (torch, "empty"),
        (torch, "empty_like"),
        (torch, "empty_strided"),
        (torch.Tensor, "new_empty"),
        (torch.Tensor, "new_empty_strided"),
    ):
        monkeypatch.setattr(owner, name, poison(getattr(owner, name)))
