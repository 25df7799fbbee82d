"""The house's layout: what is installed, what the wheel holds, and who may import whom."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKS = {"kernels": ROOT / "kernels", "export": ROOT / "export"}
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())

NOT_SOURCE = (".*", "build", "dist", "runs", "*.egg-info", "__pycache__")
"""What building does not need, or must not find."""

# Who may import whom, lowest first: a layer imports itself and those below it.
LAYERS = ["kernels", "argan", "export", "cli"]


def sources():
    """Every Python file of the package: its path inside the package -> its path in the tree."""
    own = {path.relative_to(ROOT): path for path in (ROOT / "argan").rglob("*.py")}
    linked = {
        Path("argan", name, path.relative_to(folder)): path
        for name, folder in LINKS.items()
        for path in folder.rglob("*.py")
    }
    return {**own, **linked}


def module_name(path):
    """argan/kernels/backend.py -> argan.kernels.backend."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def layer(module):
    """The layer of a module of argan by its dotted name."""
    part = (module.split(".") + [""])[1]
    return {"__main__": "cli"}.get(part, part if part in LAYERS else "argan")


def imports(path):
    """Full names of all modules that a file imports, inside functions too; for `from a import b`, a and a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_at_the_top(path):
    """What importing a file imports: not what stands in a function, or is for type checkers alone."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel's file names, built from the tree as a release is."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", folder, folder / "source"], check=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


def test_installs_one_top_level_name(wheel):
    assert {Path(name).parts[0] for name in wheel if ".dist-info/" not in name} == {"argan"}


def test_wheel_equals_the_tree(wheel):
    installed = {Path(name) for name in wheel if ".dist-info/" not in name}
    weights = {path.relative_to(ROOT) for path in (ROOT / "argan" / "weights").rglob("*") if path.is_file()}
    assert installed == {*sources(), Path("argan/py.typed"), *weights}


def test_wheel_carries_its_licence(wheel):
    assert any(name.endswith("LICENSE") for name in wheel)


def test_listed_packages_are_those_of_the_tree():
    packages = sorted(module_name(path) for path in sources() if path.name == "__init__.py")
    assert sorted(SETUP["tool"]["setuptools"]["packages"]) == packages


@pytest.mark.skipif(os.name == "nt" and (ROOT / "argan" / "kernels").is_file(), reason="git made no links here")
def test_links_lead_to_their_folders():
    for name, folder in LINKS.items():
        link = ROOT / "argan" / name
        assert link.is_symlink()
        assert not Path(link.readlink()).is_absolute()
        assert link.resolve() == folder


@pytest.mark.parametrize("path", sources().items(), ids=lambda item: module_name(item[0]))
def test_imports_point_one_way(path):
    inside, file = path
    own = LAYERS.index(layer(module_name(inside)))
    for name in imports(file):
        assert name.split(".")[0] not in LINKS, f"{name}: import argan.{name}"
        if name == "argan" or name.startswith("argan."):
            assert LAYERS.index(layer(name)) <= own, f"{module_name(inside)} imports {name}"


def test_kernels_import_torch_and_their_compilers_only():
    allowed = {"argan", "torch", "triton", "numba", "numpy", *sys.stdlib_module_names}
    for inside, file in sources().items():
        if layer(module_name(inside)) == "kernels":
            assert {name.split(".")[0] for name in imports(file)} <= allowed, inside


def test_the_runtime_imports_numpy_pillow_and_onnx_runtime_only():
    """Of argan, it may use what is as light: what that imports is looked at too."""
    allowed = {"argan", "numpy", "PIL", "onnxruntime", *sys.stdlib_module_names}
    files = {module_name(inside): file for inside, file in sources().items()}
    waiting, seen = [name for name in files if name.startswith("argan.runtime")], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in files:
            continue
        seen.add(name)
        for other in imports_at_the_top(files[name]):
            assert other.split(".")[0] in allowed, f"{name} imports {other}"
            waiting.append(other)


@pytest.mark.parametrize("name", LINKS)
def test_folders_of_the_root_are_not_importable_by_their_bare_names(name):
    done = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert f"import argan.{name}" in done.stderr


def test_exactly_one_onnx_runtime_on_every_platform():
    from packaging.requirements import Requirement

    requirements = [Requirement(line) for line in SETUP["project"]["dependencies"]]
    runtimes = [requirement for requirement in requirements if requirement.name.startswith("onnxruntime")]
    for system, machine, expected in [
        ("linux", "x86_64", "onnxruntime-gpu"),
        ("linux", "aarch64", "onnxruntime"),
        ("darwin", "arm64", "onnxruntime"),
        ("darwin", "x86_64", "onnxruntime"),
        ("win32", "AMD64", "onnxruntime-gpu"),
        ("win32", "ARM64", "onnxruntime"),
    ]:
        place = {"sys_platform": system, "platform_machine": machine}
        chosen = [one.name for one in runtimes if one.marker is None or one.marker.evaluate(place)]
        assert chosen == [expected], place


def test_torch_is_not_capped():
    (torch,) = [line for line in SETUP["project"]["dependencies"] if line.startswith("torch")]
    assert torch == "torch>=2.11"


def test_constraints_satisfy_the_requirements():
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    extras = SETUP["project"]["optional-dependencies"]
    tested = [line for name in ("test", "fast", "heic", "faces") for line in extras[name]]
    for line in [*SETUP["project"]["dependencies"], *tested]:
        requirement = Requirement(line)
        if requirement.name in ("triton", "argan"):  # of which each torch asks for its own; other extras
            continue
        assert requirement.specifier.contains(pins[requirement.name].split(";")[0].strip()), requirement
