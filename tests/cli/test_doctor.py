"""argan doctor: what it reports, and that it finds each kind of fault."""

import json
from importlib import metadata

import onnxruntime
import pytest

from argan import doctor
from argan.cli import main


@pytest.fixture
def run(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as exit:
            main(["doctor", *arguments])
        return exit.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def healthy(monkeypatch):
    """A machine without faults, whatever this one is."""
    for check in ("package_faults", "device_faults", "model_faults"):
        monkeypatch.setattr(doctor, check, list)


def test_a_healthy_machine(run, healthy):
    code, out, err = run("--device", "cpu")
    assert (code, err) == (0, "")
    assert "no faults found" in out
    assert "torch " in out


def test_json(run, healthy):
    code, out, _ = run("--device", "cpu", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["versions"]["torch"] == metadata.version("torch")
    assert report["devices"][0]["device"] == "cpu"
    assert report["faults"] == []
    used = {row["command"]: row for row in report["commands"]}
    assert used["render"] == {"command": "render", "device": "cpu", "back end": "numba kernels"}
    assert used["export"]["back end"] == "ONNX Runtime CPUExecutionProvider"


def test_a_device_that_is_not_here_exits_4_after_the_report(run, healthy):
    code, out, err = run("--device", "cuda:99", "--json")
    assert code == 4
    assert json.loads(out)["devices"]
    assert err.startswith("error: cuda:99 was asked for")


def test_a_device_that_does_not_exist_is_a_usage_error(run, healthy):
    code, _, err = run("--device", "abacus")
    assert code == 2
    assert "abacus" in err


def test_a_fault_exits_4_with_the_command_that_mends_it(run, monkeypatch, healthy):
    monkeypatch.setattr(doctor, "package_faults", lambda: [doctor.Fault("numpy is not installed", "pip install numpy")])
    code, out, err = run()
    assert code == 4
    assert "pip install numpy" in out
    assert err == "error: numpy is not installed\nhint: pip install numpy\n"


def test_finds_two_onnx_runtimes(monkeypatch):
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"onnxruntime": list(doctor.ONNX_RUNTIMES)})
    (fault,) = [fault for fault in doctor.package_faults() if "both installed" in fault.fault]
    assert fault.mend.startswith("pip uninstall --yes onnxruntime onnxruntime-gpu && pip install onnxruntime")
    monkeypatch.setattr("sys.platform", "win32")
    (fault,) = [fault for fault in doctor.package_faults() if "both installed" in fault.fault]
    assert "&" not in fault.mend  # which PowerShell 5.1 refuses


@pytest.mark.parametrize(
    ("system", "machine", "package"),
    [("linux", "x86_64", "-gpu"), ("win32", "AMD64", "-gpu"), ("darwin", "x86_64", ""), ("linux", "aarch64", "")],
)
def test_the_onnx_runtime_that_this_machine_takes(monkeypatch, system, machine, package):
    """As the markers of pyproject.toml have it."""
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert doctor.onnx_runtime() == f"onnxruntime{package}"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else name)
    assert [fault.mend for fault in doctor.package_faults() if "not installed" in fault.fault] == [
        f"pip install onnxruntime{package}"
    ]


def test_one_onnx_runtime_is_no_fault(monkeypatch):
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime"] * 2})
    assert doctor.package_faults() == []


def test_finds_a_missing_package(monkeypatch):
    monkeypatch.setattr(doctor, "REQUIRED", ("torch", "surely-not-installed"))
    assert doctor.Fault("surely-not-installed is not installed", "pip install surely-not-installed") in (
        doctor.package_faults()
    )


def test_finds_a_package_that_is_too_old(monkeypatch):
    monkeypatch.setattr(doctor, "floors", lambda: {"numpy": "999.0", "torch": "1.0"})
    (fault,) = [fault for fault in doctor.package_faults() if "older" in fault.fault]
    assert fault.mend == 'pip install "numpy>=999.0"'


def test_finds_an_onnx_runtime_without_cuda_beside_a_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    (fault,) = doctor.device_faults()
    assert "built without CUDA" in fault.fault
    assert fault.mend.endswith("pip install onnxruntime-gpu")
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(doctor, "why_not_cuda", lambda: "")
    assert doctor.device_faults() == []


def test_finds_a_cuda_that_onnx_runtime_cannot_start(monkeypatch):
    start = onnxruntime.InferenceSession
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("onnxruntime.preload_dlls", lambda: print("no libcublas.so.12"))
    monkeypatch.setattr("onnxruntime.set_default_logger_severity", lambda level: None)
    on_the_cpu = {"providers": ["CPUExecutionProvider"]}
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda path, options, providers: start(path, **on_the_cpu))
    (fault,) = doctor.device_faults()
    assert "could not start its CUDA provider: no libcublas.so.12" in fault.fault
    monkeypatch.setattr("argan.runtime.session.Session", lambda path, device: None)
    assert doctor.device_faults() == []


@pytest.mark.parametrize(("system", "where"), [("linux", ""), ("win32", " with the --index-url")])
def test_finds_a_torch_without_cuda_beside_a_driver(monkeypatch, system, where):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", None)
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("sys.platform", system)
    (fault,) = doctor.device_faults()
    assert fault.mend.startswith(f"pip install --force-reinstall torch{where}")


def test_finds_missing_weights(monkeypatch):
    monkeypatch.setattr("argan.models.hub.shipped", list)
    (fault,) = doctor.model_faults()
    assert "not in the package" in fault.fault


def test_floors_are_those_of_the_package(monkeypatch):
    lines = ["torch>=2.11", "onnxruntime>=1.27; sys_platform != 'linux'", "pytest>=8; extra == 'test'", "plain"]
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    assert doctor.floors() == {"torch": "2.11", "onnxruntime": "1.27"}


@pytest.mark.parametrize(
    ("older", "newer"), [("2.9.1", "2.11"), ("2.11.0", "2.11.1+cpu"), ("1.9", "1.10"), ("2.12.0a0", "2.12.1")]
)
def test_versions_are_compared_as_numbers(older, newer):
    assert doctor._numbers(older) < doctor._numbers(newer)
