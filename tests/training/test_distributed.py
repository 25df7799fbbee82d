"""Two processes with half the batch each make the steps of one process; only the main one writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from argan.errors import UsageError
from argan.training import distributed

ROOT = Path(__file__).parents[2]
SETTINGS = [
    *("--preset", "argan-rgbd-64", "--steps", "4", "--device", "cpu", "--set", "synthetic_photos=12"),
    *("--set", "batch=8", "--set", "model.resolution=16", "--set", "model.z_dim=8", "--set", "model.width=8"),
    *("--set", "model.discriminator_width=8", "--set", "log_every=2", "--set", "checkpoint_every=2"),
    *("--set", "loss.consistency_start=0", "--set", "loss.r1_interval=2", "--set", "loss.expansion=1.0"),
]


def start(processes: int, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), "cli.py", "train", *SETTINGS, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_two_processes_make_the_steps_of_one(tmp_path):
    """From the command line; run twice, so that resuming in two processes is part of it."""
    one = start(1, "--out", str(tmp_path / "one"))
    first = start(2, "--out", str(tmp_path / "two"), "--steps", "2", "--json")
    out, err = first.communicate(timeout=300)
    assert first.returncode == 0, err
    assert json.loads(out)["steps"] == 2  # one report, of the main process
    second = start(2, "--out", str(tmp_path / "two"))
    for process in (one, second):
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    states = [
        load_file(tmp_path / run / "checkpoints" / "step-0000004" / "state.safetensors") for run in ("one", "two")
    ]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, atol=1e-5, rtol=1e-3, msg=name)
    lines = [(tmp_path / run / "metrics.jsonl").read_text().splitlines() for run in ("one", "two")]
    assert [json.loads(line)["step"] for line in lines[1]] == [json.loads(line)["step"] for line in lines[0]] == [2, 4]
    pictures = sorted(path.name for path in (tmp_path / "two" / "samples").iterdir())
    assert (
        pictures == sorted(path.name for path in (tmp_path / "one" / "samples").iterdir()) + ["step-0000002.png"]
        or len(pictures) == 3
    )


def test_one_process_needs_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert distributed.world() == 1
    assert distributed.is_main()
    assert distributed.share(6) == slice(0, 6)
    assert distributed.agree(True, now=False)
    with distributed.process_group("cpu") as device:
        assert device.type == "cpu"


def test_shares_cover_the_batch(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    rows = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        rows += list(range(12))[distributed.share(12)]
    assert rows == list(range(12))


def test_a_gpu_by_number_is_refused_for_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="its own GPU"), distributed.process_group("cuda:1"):
        pass


def test_spread_over_the_batch_has_first_and_second_derivatives():
    x = torch.rand(5, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(distributed.batch_std(x), x.std(dim=0, correction=0))
    assert torch.autograd.gradgradcheck(distributed.batch_std, x)
    (gradient,) = torch.autograd.grad(distributed.batch_std(x[:1]).sum(), x)
    assert gradient.eq(0).all()
