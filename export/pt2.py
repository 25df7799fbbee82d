"""torch.export: a graph that PyTorch itself loads, compiles and optimises further."""

import json
from io import BytesIO
from pathlib import Path

import torch

from argan.export.metadata import METADATA_FILE, metadata
from argan.export.targets import Target, dynamic_shapes


def write_pt2(target: Target, path: Path) -> None:
    """Write `target` to `path` as an exported program of PyTorch's own operations; what is dynamic the target says."""
    with torch.no_grad():
        shapes = tuple(dynamic_shapes(target).values())
        program = torch.export.export(target.worked(), target.example(), dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # absolute paths of the exporting machine
    buffer = BytesIO()  # a file's own name, which is a temporary one here, would stand inside
    torch.export.save(program, buffer, extra_files={METADATA_FILE: json.dumps(metadata(target))})
    path.write_bytes(buffer.getvalue())
