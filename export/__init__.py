"""argan.export: what was trained, written to ONNX, TorchScript and torch.export, and proven to compute the same.

targets.py      what can be exported: names, shapes, conventions, the inputs that prove it
precision.py    fp32, fp16, int8: what is worked in it and how far it may be from PyTorch; int8.py quantises
formats.py      the table of formats, and of what goes with what; onnx.py, torchscript.py and pt2.py have one each
run.py          a target written, verified, and then given its name
verify.py       a file against PyTorch; alone.py runs it, in a process of its own, compare.py measures and accepts
metadata.py     what a file says of itself; reading.py reads it back
"""

if "." not in __name__:  # the folder at the repository root, imported by its bare name
    raise ImportError("import argan.export, not export")

from argan.export.formats import FORMATS, combinations, plan
from argan.export.precision import PRECISIONS
from argan.export.run import Exported, export_target
from argan.export.targets import TARGETS, Target, targets_of
from argan.export.verify import Report, verify_file

__all__ = [
    "FORMATS",
    "PRECISIONS",
    "TARGETS",
    "Exported",
    "Report",
    "Target",
    "combinations",
    "export_target",
    "plan",
    "targets_of",
    "verify_file",
]
