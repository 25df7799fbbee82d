"""The command line's frame: help, version, usage, how failures are told, and that help is cheap."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from argan import distributed
from argan.cli import COMMANDS, _output, leave, main
from argan.cli._errors import exit_code_of, explain
from argan.errors import ArganError, Interrupted, MissingError, UsageError, VerificationError
from argan.kernels import BackendUnavailable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(capsys):
    """Run argan: exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as exit:
            main([*arguments])
        return exit.value.code, *capsys.readouterr()

    return run


def test_a_long_run_tells_a_log_how_far_it_is(capsys, monkeypatch):
    clock = iter([0.0, 59.0, 61.0, 61.0, 70.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    bar = SimpleNamespace(disable=True)
    log = _output.line_a_minute(bar)
    for message in ("59", "61", "70"):
        log(message)
    bar.disable = False  # a terminal, whose bar says it
    log("later")
    assert capsys.readouterr() == ("", "61\n")


@pytest.mark.parametrize("loaded", [set(), {"triton"}, {"onnx"}])
def test_python_looks_nothing_through_at_the_end_unless_that_would_be_told_as_leaks(monkeypatch, loaded):
    frozen = []
    monkeypatch.setattr("gc.freeze", lambda: frozen.append(True))
    monkeypatch.setattr(sys, "modules", {name: None for name in sys.modules if name not in ("triton", "onnx")})
    sys.modules.update(dict.fromkeys(loaded))
    leave()
    assert bool(frozen) == (not loaded)


@pytest.fixture(autouse=True)
def _signals():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_help_imports_nothing_heavy():
    """What makes help slow is imports; counted here, because a timed test would depend on the machine."""
    program = (
        "import sys\n"
        "from argan.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as done: assert done.code == 0\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'PIL', 'numpy', 'triton', 'scipy', 'safetensors'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"


def test_importing_argan_imports_no_torch():
    program = "import sys, argan, argan.errors; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False\n"


def test_commands_in_the_order_of_the_work(run):
    code, out, _ = run("--help")
    assert code == 0
    places = [out.index(f"│ {name} ") for name in COMMANDS]
    assert places == sorted(places)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_speaks_json(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert "--json" in out
    assert "--device" in out or command == "info"  # which runs nothing
    assert "Example" in out


def test_help_shows_extras_whole(run):
    """rich takes [words] for markup, and leaves out what it does not know."""
    code, out, _ = run("eval", "--help")
    assert code == 0
    assert "argan[metrics]" in "".join(out.split())


def test_version(run):
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("argan ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rendr"], "rendr"),
        (["render", "--blurr", "2"], "--blurr"),
        (["render"], "photo"),
        (["bench", "--side", "1"], "1"),
    ],
)
def test_usage_errors_are_one_line_and_a_hint(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    error, hint = err.splitlines()
    assert error.startswith("error: ")
    assert message in error.lower()
    assert hint.startswith("hint: argan")


def test_no_command_shows_the_commands(run):
    code, out, err = run()
    assert code == 2
    assert "render" in out + err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (ArganError("it broke", hint="mend it"), 1, "error: it broke\nhint: mend it\n"),
        (UsageError("wrong"), 2, "error: wrong\n"),
        (VerificationError("differs"), 3, "error: differs\n"),
        (MissingError("no GPU"), 4, "error: no GPU\n"),
        (BackendUnavailable("no triton"), 4, "error: no triton\n"),
        (Interrupted("saved at step 7"), 130, "error: saved at step 7\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (typer.Abort(), 130, "error: interrupted\n"),
        (FileNotFoundError(2, "No such file or directory", "a.jpg"), 1, "error: a.jpg: no such file or directory\n"),
        (PermissionError(1, "Not permitted", ".b.tmp", None, "b.jpg"), 1, "error: b.jpg: not permitted\n"),
        (OSError(28, "No space left on device"), 1, "error: no space left on device\n"),
        (OSError("strange"), 1, "error: strange\n"),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            4,
            "error: the package torch is not installed\n",
        ),
        (MemoryError(), 1, "error: out of memory\n"),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "error: out of memory: CUDA out of memory\n"),
        (RuntimeError("alloc_cpu.cpp: can't allocate memory: you tried"), 1, "error: out of memory: alloc_cpu.cpp"),
        (ValueError("two\nlines"), 1, "error: ValueError: two lines\n"),
    ],
)
def test_what_is_raised_becomes_one_line_and_a_code(capsys, raised, code, message):
    def command():
        raise raised

    assert exit_code_of(command) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert all(line.startswith(("error: ", "hint: ")) for line in err.splitlines())


def test_tracebacks_on_request(monkeypatch):
    def command():
        raise ArganError("it broke")

    monkeypatch.setenv("ARGAN_DEBUG", "1")
    with pytest.raises(ArganError):
        exit_code_of(command)


def test_a_command_that_ends_well_exits_0():
    assert exit_code_of(lambda: None) == 0


def test_termination_unwinds_like_ctrl_c(tmp_path):
    """`finally` blocks run, so that temporary files go."""
    cleaned = []

    def command():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(True)

    assert exit_code_of(command) == 130
    assert cleaned == [True]


def test_an_interrupt_inside_of_compiled_code_is_one(capsys):
    """Numba raises a SystemError because of it."""

    def command():
        raise SystemError("returned a result with an exception set") from KeyboardInterrupt()

    assert exit_code_of(command) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_an_interrupt_inside_of_pytorchs_exporter_is_one(capsys):
    """It imports half of PyTorch; what is interrupted there lacks a name, and that error is wrapped in another."""

    def command():
        try:
            try:
                raise KeyboardInterrupt
            finally:
                raise AttributeError("module 'torch._dynamo' has no attribute 'exc'")
        except AttributeError as error:
            raise RuntimeError("Failed to export the model") from error

    assert exit_code_of(command) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_an_interrupt_that_typer_caught_is_told(capsys):
    assert exit_code_of(lambda: 130) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.parametrize(("rank", "said"), [(0, "error: stopped\n"), (1, "")])
def test_only_the_first_of_several_processes_tells_of_an_interrupt(capsys, monkeypatch, rank, said):
    def command():
        raise Interrupted("stopped")

    monkeypatch.setattr(distributed, "rank", lambda: rank)
    assert exit_code_of(command) == 130
    assert capsys.readouterr().err == said


def test_an_empty_argument_is_no_folder(run):
    code, _, err = run("render", "")
    assert (code, err.splitlines()[0]) == (2, "error: an empty argument")


def test_the_arguments_of_the_process_are_left_to_typer(monkeypatch):
    """Windows' shells hand on `*.jpg` as it is; typer makes names of it, in arguments that it has read itself."""
    seen = []
    monkeypatch.setattr("argan.cli.build_app", lambda: lambda arguments, **_: seen.append(arguments))
    for given in (None, ["--version"]):
        with pytest.raises(SystemExit):
            main(given)
    assert seen == [None, ["--version"]]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text here")
@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii"])
def test_names_that_stdout_cannot_say(encoding, tmp_path):
    for name in (b"caf\xe9.png", "日本.png".encode()):
        Image.new("RGB", (20, 20)).save(tmp_path / os.fsdecode(name))
    command = [sys.executable, "cli.py", "render", tmp_path, "--depth", tmp_path, "--blur", "0"]
    np.save(tmp_path / os.fsdecode(b"caf\xe9.depth.npy"), np.zeros((20, 20)))
    np.save(tmp_path / "日本.depth.npy", np.zeros((20, 20)))
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_names_that_are_no_text_on_windows(monkeypatch):
    """There they are UTF-16, of which one half may stand alone, also where stdout is UTF-8."""
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr("argan.cli.os", SimpleNamespace(**vars(os) | {"name": "nt"}))
    monkeypatch.setattr("argan.cli.build_app", lambda: lambda *_, **__: print("\ud83d.png"))
    monkeypatch.setattr(sys, "stdout", stdout)
    with pytest.raises(SystemExit) as exit:
        main(["render"])
    assert exit.value.code == 0
    assert stdout.buffer.getvalue() == b"\\ud83d.png\n"


def test_a_reader_that_has_gone_is_no_traceback():
    """`argan --help | true`, with a reader that has closed before anything is written."""
    read, write = os.pipe()
    os.close(read)
    program = [sys.executable, "-c", "from argan.cli import main; main(['--version'])"]
    done = subprocess.run(program, stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("system", "where", "said"),
    [
        ("nt", (), ""),
        ("nt", ("a?.jpg",), "error: a?.jpg: invalid argument\n"),
        ("posix", (), "error: invalid argument\n"),
    ],
)
def test_a_reader_that_has_gone_is_no_traceback_on_windows(monkeypatch, capfd, system, where, said):
    """There it is an invalid argument (python/cpython#79935); an invalid name is still told."""

    def command():
        raise OSError(errno.EINVAL, "Invalid argument", *where)

    monkeypatch.setattr("argan.cli._errors.os", SimpleNamespace(**vars(os) | {"name": system, "dup2": lambda *_: None}))
    assert exit_code_of(command) == 1
    assert capfd.readouterr().err == said


@pytest.mark.skipif(os.name != "posix", reason="is started with a closed stderr by POSIX's exec")
def test_nothing_but_results_goes_to_stdout_where_stderr_is_closed():
    program = "import os, sys; os.close(2); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = [sys.executable, "-c", program, "cli.py", "render", "surely-not-there.jpg", "nor-this.jpg"]
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


def test_launcher_runs_the_same_commands():
    done = subprocess.run([sys.executable, "cli.py", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("argan ")


def test_results_go_to_stdout_and_all_else_to_stderr(capsys):
    _output.info("a fact")
    _output.result({"path": Path("a/b"), "array": np.arange(2), "value": torch.tensor(1.5)}, as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out) == {"path": "a/b", "array": [0, 1], "value": 1.5}
    assert err == "a fact\n"


def test_json_of_what_is_none_is_refused():
    with pytest.raises(TypeError, match="object is not JSON"):
        _output.result(object(), as_json=True)


def test_tables_align():
    rows = [{"name": "a", "value": 1.0, "yes": True}, {"name": "longer", "value": 12345.678, "yes": None}]
    assert _output.table(rows).splitlines() == [
        "name        value  yes",
        "a               1  yes",
        "longer  1.235e+04    -",
    ]
    assert _output.table([]) == ""


def test_tracking_is_silent_where_stderr_is_no_terminal(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(_output.track([1, 2, 3], "counting")) == [1, 2, 3]
    assert stream.getvalue() == ""


def test_explaining_keeps_what_argan_says():
    error = UsageError("wrong", hint="right")
    assert explain(error) is error


def test_json_is_json(capsys):
    data = {
        "dB": float("inf"),
        "rows": [{"x": float("nan")}, (1, np.float32("-inf"))],
        "array": np.array([1.0, np.inf]),
    }
    _output.result(data, as_json=True)
    read = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert read == {"dB": None, "rows": [{"x": None}, [1, None]], "array": [1.0, None]}
