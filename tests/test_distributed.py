"""Two processes with half the batch each make the steps of one process; only the main one writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from argan import distributed
from argan.config import resolve_config
from argan.errors import UsageError
from argan.training import checkpoint, loop

ROOT = Path(__file__).parents[1]
SETTINGS = [
    *("synthetic_photos=12", "batch=8", "model.resolution=16", "model.z_dim=8", "model.width=8"),
    *("model.discriminator_width=8", "log_every=2", "checkpoint_every=2", "loss.consistency_start=0"),
    "loss.r1_interval=2",
]


def train_in_two(run: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """From the command line, as a person would."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["--preset", "argan-rgbd-64", "--steps", "4", "--out", str(run), "--device", "cpu", "--json", *arguments]
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    command = [sys.executable, *launcher, "cli.py", "train", *options, *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


def test_two_processes_make_the_steps_of_one(tmp_path):
    """In two lives: the first runs out of time and both processes stop at the same step, the second resumes."""
    one, two = tmp_path / "one", tmp_path / "two"
    for steps, limit in ((2, ["--max-minutes", "0.0001"]), (4, [])):
        done = train_in_two(two, *limit)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["steps"] == steps  # one report, of the main process
        loop.train(resolve_config("argan-rgbd-64", None, SETTINGS, {"steps": steps}), one, device="cpu")
    ours, theirs = (load_file(checkpoint.folder(run, 4) / "state.safetensors") for run in (two, one))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=1e-3, msg=name)
    lines, expected = (
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (two, one)
    )
    assert [line["step"] for line in lines] == [2, 4]
    for line, other in zip(lines, expected, strict=True):  # losses of the whole batch, not of the main one's share
        losses = [name for name in other if name not in ("time", "steps_per_second", "images_per_second")]
        assert [line[name] for name in losses] == pytest.approx([other[name] for name in losses], rel=1e-3, abs=1e-5)
    pictures = [sorted(path.name for path in (run / "samples").iterdir()) for run in (one, two)]
    assert pictures[0] == pictures[1]


def test_one_process_needs_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert distributed.world() == 1
    assert distributed.is_main()
    assert distributed.share(6) == slice(0, 6)
    assert distributed.agree(True, now=False)
    with distributed.process_group("cpu") as device:
        assert device.type == "cpu"


def test_a_gpu_by_number_becomes_the_current_one(monkeypatch):
    """Or a CUDA graph would record what another GPU does, which is nothing."""
    current = []
    monkeypatch.setattr(distributed, "resolve_device", torch.device)
    monkeypatch.setattr("torch.cuda.set_device", current.append)
    with distributed.process_group("cuda:1") as device:
        assert current == [device] == [torch.device("cuda:1")]


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


def test_a_parameter_without_a_gradient_has_one_that_is_zero(monkeypatch):
    """T in a batch without an open lens: Adam steps with it in one process as it does in several."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    unused, frozen = (torch.nn.Parameter(torch.ones(2), requires_grad=learns) for learns in (True, False))
    distributed.average_gradients([unused, frozen])
    assert unused.grad.tolist() == [0, 0]
    assert frozen.grad is None
