"""A file against PyTorch: run by its own runtime in a fresh process, at sizes that were not traced, and compared."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from argan.errors import ArganError, MissingError, UsageError, VerificationError
from argan.export import alone
from argan.export.compare import Difference, check, compare_outputs
from argan.export.metadata import metadata, read_size, size_text, weights_checksum
from argan.export.onnx import check_interface
from argan.export.precision import PRECISIONS
from argan.export.reading import read_metadata
from argan.export.targets import TARGETS, Target
from argan.models.hub import WEIGHTS, Model, load, shipped


@dataclass(frozen=True)
class Report:
    """What was found in a file that holds good.

    Attributes:
        ways: how the file was run: the provider, how many nodes each provider ran, seconds for all cases.
        peak_mb: the most memory that the process held.
    """

    target: str
    model: str
    format: str
    precision: str
    size: str
    differences: list[Difference]
    ways: list[dict[str, Any]]
    peak_mb: int | None


def verify_file(path: Path, model: Model | None = None, device: torch.device | str = "cpu") -> Report:
    """`argan verify`: that an exported file is whole, is this model's, and computes the same.

    Args:
        model: what it was exported from; a shipped model is found by the file's own metadata.

    Raises:
        VerificationError: the file is damaged, was made from other weights, or as `verify` says.
        MissingError: its runtime cannot use `device`.
        UsageError: there is no such file, or which model it came from cannot be told.
    """
    try:
        entries = read_metadata(path)
    except UsageError:
        raise
    except ArganError as error:
        raise VerificationError(str(error), hint=error.hint) from error
    target, format = target_of(entries, model), entries["format"]
    if (found := entries.get("argan.weights_sha256")) != weights_checksum(target):
        raise VerificationError(
            f"{path} was made from other weights of {entries.get('argan.model')} (checksum {str(found)[:12]}…)",
            hint="--model names the model it was exported from",
        )
    for name, value in metadata(target).items():  # runtimes compute with some of them
        if name != "argan.version" and (said := entries.get(name, "nothing")) != value:
            raise VerificationError(f"{path} has been changed: it says {name} {said}, and its model {value}")
    return verify(target, path, format, device)


def target_of(entries: dict[str, str], model: Model | None) -> Target:
    """The target, in PyTorch, that a file with this metadata was exported from."""
    name = entries.get("argan.target", "")
    if name not in TARGETS:
        raise VerificationError(f"the file holds no target of this argan, but {name!r}")
    if model is None:
        if entries.get("argan.model") not in shipped():
            raise UsageError(f"the file's model, {entries.get('argan.model')}, is not shipped", hint="--model FOLDER")
        model = load(WEIGHTS / entries["argan.model"])  # by its name alone a folder here would go before it
    try:
        precision, size = entries["argan.precision"], read_size(entries["argan.size"])
        if precision not in PRECISIONS:
            raise ValueError(precision)
    except (KeyError, ValueError) as error:
        raise VerificationError(f"the file does not say its precision and size as this argan does: {error}") from error
    return TARGETS[name](model, precision, size).eval()


def verify(
    target: Target,
    path: Path,
    format: str,
    device: torch.device | str = "cpu",
    levels: Collection[str] = tuple(alone.LEVELS),
) -> Report:
    """Run a file of `target` in a fresh process and compare it with PyTorch in all of the target's cases.

    Args:
        levels: of ONNX Runtime's optimisation, at each of which an ONNX file is run.

    Raises:
        VerificationError: the file is no valid one of its format, does not run, gives a wrong number of outputs, a
            wrong shape or a value that is not finite, or differs by more than the target's precision accepts.
        MissingError: its runtime cannot use `device`.
    """
    if format == "onnx":
        check_interface(target, path)
    with tempfile.TemporaryDirectory() as folder:
        _write_cases(target, Path(folder))
        said = _run_alone(target, [str(path), format, str(device), folder, *levels])
        differences = _compare(target, [way["way"] for way in said["ways"]], Path(folder))
    check(target, differences)
    return Report(
        target=target.name,
        model=target.model_config.name,
        format=format,
        precision=target.precision,
        size=size_text(target.size),
        differences=differences,
        **said,
    )


def _write_cases(target: Target, folder: Path) -> None:
    for case, inputs in target.cases().items():
        arrays: dict[str, Any] = {str(index): value.numpy() for index, value in enumerate(inputs)}
        np.savez(folder / f"{case}.npz", **arrays)


def _run_alone(target: Target, arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-P", alone.__file__, *arguments]  # -P: a runtime's `import onnx` is not argan.export's
    # Libraries write as they like, which need not be text in the encoding of the place.
    done = subprocess.run(command, capture_output=True, text=True, errors="backslashreplace")
    said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    if done.returncode == alone.MISSING:
        raise MissingError(said[0], hint="argan doctor")
    if done.returncode:
        raise VerificationError(f"{target.name} does not run: {said[0]}")
    return json.loads(done.stdout)


def _compare(target: Target, ways: list[str], folder: Path) -> list[Difference]:
    differences = []
    for case, inputs in target.cases().items():
        expected = target.expected(inputs)
        for way in ways:
            with np.load(folder / way / f"{case}.npz") as file:
                actual = tuple(torch.from_numpy(file[key]) for key in sorted(file, key=int))
            differences += compare_outputs(target, f"{case}, {way}", actual, expected)
    return differences
