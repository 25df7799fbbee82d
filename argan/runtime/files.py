"""Which ONNX file does what: its metadata says so, and a file without argan's metadata is taken for a depth model."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from argan.errors import ArganError, UsageError
from argan.runtime.depth_models import DepthModel
from argan.runtime.exported import DepthFile, PipelineFile, RenderFile
from argan.runtime.session import Session

Estimator = DepthFile | DepthModel
"""What gives depth alone."""

SIGNATURES = {
    "depth": (["image"], 1),
    "render": (["image", "disparity", "blur", "focus"], 1),
    "pipeline": (["image", "blur", "focus"], 2),
}
"""Names of the inputs and number of the outputs of each target that works on photographs."""


def load(
    path: str | Path, *, device: str = "auto", settings: Mapping[str, str] | None = None
) -> Estimator | RenderFile | PipelineFile:
    """Open an ONNX file.

    pipeline.onnx   estimates depth and renders
    render.onnx     renders, with the depth of a depth.onnx in the same folder, or with depth that is given
    depth.onnx      gives depth, as does every depth model of somebody else's

    Args:
        device: "auto", "cpu" or "cuda[:n]". "auto" is the GPU where ONNX Runtime can use it, else the CPU.
        settings: for depth models of others, how they take a picture: see `argan.runtime.depth_models.Convention`.

    Raises:
        UsageError: there is no such file, or it is a target that does nothing to photographs.
        ArganError: it is no ONNX file that can be run.
        MissingError: the device that was asked for cannot be used.
    """
    session = Session(Path(path), device)
    target = session.metadata.get("argan.target")
    if target is None:
        return DepthModel(session, settings or {})
    if settings:
        raise UsageError(f"{path} says itself how it takes a picture", hint="settings are for depth models of others")
    if target not in SIGNATURES:
        raise UsageError(f"{path} is a {target}", hint="pipeline.onnx, render.onnx or depth.onnx work on photographs")
    _check_signature(session, target)
    if target == "pipeline":
        return PipelineFile(session)
    return DepthFile(session) if target == "depth" else RenderFile(session, partial(_depth_beside, session))


def _depth_beside(session: Session) -> DepthFile | None:
    path = session.path.with_name("depth.onnx")
    beside = Session(path, session.device) if path.is_file() else None
    if beside is None or beside.metadata.get("argan.target") != "depth":  # a render graph may be called so itself
        return None
    _check_signature(beside, "depth")
    return DepthFile(beside)


def _check_signature(session: Session, target: str) -> None:
    inputs, outputs = SIGNATURES[target]
    if list(session.inputs) != inputs or len(session.outputs) != outputs:
        takes, gives = ", ".join(session.inputs), ", ".join(session.outputs)
        raise ArganError(
            f"{session.path} says that it is a {target} graph, and takes {takes} and gives {gives}",
            hint="argan export writes it anew",
        )
