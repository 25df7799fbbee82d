"""ONNX files in a runtime that nothing was written for: OpenVINO computes what PyTorch does.

What it has of ONNX is not what ONNX Runtime has, nor does it complain: an attribute that it lacks it leaves out.
"""

import pytest
import torch

from argan.export import TARGETS, targets_of
from argan.export.compare import check, compare_outputs

openvino = pytest.importorskip("openvino")

FIXED = 72, 56  # px; the tiny model estimates depth at 16 and lays edges onto 128
FILES = [(name, size) for name in TARGETS for size in (None, FIXED) if (name, size) != ("generator", FIXED)]


@pytest.mark.parametrize(("name", "size"), FILES)
def test_computes_what_pytorch_does(exported, model, name, size):
    (target,) = targets_of(model, name, "fp32", size)
    path = exported(name, "onnx", "fp32", size).path
    program = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for case, inputs in target.cases().items():
        found = program([x.numpy() for x in inputs])
        actual = tuple(torch.from_numpy(found[output]) for output in program.outputs)
        check(target, compare_outputs(target, case, actual, target.expected(inputs)))
