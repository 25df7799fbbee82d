"""Every system of `SYSTEMS` through the same loop, and what makes each of them what it is."""

import contextlib
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from argan.config import SYSTEMS, LossConfig, ModelConfig, TrainConfig, TranslatorConfig, with_system
from argan.errors import UsageError
from argan.models import hub
from argan.training import checkpoint, loop, losses
from argan.training.gan import AperturePlayers
from argan.training.systems import make_players

CPU = torch.device("cpu")
TINY = TrainConfig(
    name="tiny",
    steps=2,
    batch=4,
    synthetic_photos=9,
    log_every=1,
    sample_every=2,
    checkpoint_every=1,
    model=ModelConfig(resolution=16, z_dim=8, width=8, discriminator_width=8),
    translator=TranslatorConfig(width=4, blocks=1),
    loss=LossConfig(r1_interval=1),
)


def tiny(system: str) -> TrainConfig:
    return replace(with_system(TINY, system, system), batch=4)


def final_state(run) -> dict[str, torch.Tensor]:
    return load_file(hub.checkpoints(run)[-1] / "state.safetensors")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**32 + 1])
def test_a_seed_of_more_than_32_bits_is_none(seed):
    with pytest.raises(UsageError, match=r"below 2\^32"):
        make_players(replace(TINY, seed=seed), CPU)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_trains_resumes_bit_for_bit_and_loads(system, tmp_path):
    config, reports = tiny(system), []
    loop.train(config, tmp_path / "whole", device="cpu", report=reports.append)
    loop.train(replace(config, steps=1), tmp_path / "parts", device="cpu")
    loop.train(config, tmp_path / "parts", device="cpu")
    whole, parts = final_state(tmp_path / "whole"), final_state(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert not [name for name in whole if not torch.equal(whole[name], parts[name])]
    start = checkpoint.collect(make_players(config, CPU))
    for part in ("player", "discriminator", "average"):
        assert any(not torch.equal(whole[name], x) for name, x in start.items() if name.startswith(f"{part}."))
    assert {"d", "g", "r1"} <= set(reports[-1].stats)
    model = hub.load(tmp_path / "whole")
    if system == "cyclegan":
        assert model.generator is None
        photo = torch.rand(1, 3, 19, 30)
        assert model.translator(photo).shape == photo.shape
    else:
        image, disparity = model.generator(torch.randn(2, 8))
        assert (image.shape, disparity.shape) == ((2, 3, 16, 16), (2, 1, 16, 16))
        sheet = Image.open(tmp_path / "whole" / "samples" / "step-0000002.png")
        assert sheet.height == 3 * 16


def scene_of(config: TrainConfig):
    players = make_players(config, CPU)
    assert isinstance(players, AperturePlayers)
    (draws,) = players.parts(rng())
    return players, draws, players.make(draws)


def test_a_model_knows_what_it_was_trained_to_show():
    shown = {system: make_players(tiny(system), CPU).shown_model()[0].mixture for system in ("gan", "rgbd", "argan")}
    assert shown == {"gan": "deep", "rgbd": "deep", "argan": "bernoulli"}


def test_the_gan_never_renders():
    _, draws, scene = scene_of(tiny("gan"))
    assert draws.scale.eq(0).all()
    assert torch.equal(scene.shown, scene.deep)


class NothingFromTheHost(TorchDispatchMode):
    """Refuses copies to another device, which a CUDA graph cannot hold."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
            devices = {x.device.type for x in (*args, result) if isinstance(x, torch.Tensor) and x.ndim}
            assert len(devices) == 1, f"{function} between {devices}"
        return result


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_step_waits_for_no_device_and_copies_nothing_to_it(system, monkeypatch):
    """On tensors without values, which nothing can be asked about: it could be recorded."""
    config, meta = tiny(system), torch.device("meta")
    players = make_players(replace(config, batch=8, loss=replace(config.loss, consistency_start=0)), meta)
    monkeypatch.setattr(players, "autocast", contextlib.nullcontext)  # which that device has not
    real = torch.rand(8, 3, 16, 16, device=meta)
    parts, options = ([], {}) if system == "cyclegan" else (players.parts(rng()), {"consistent": True})
    with NothingFromTheHost():
        stats = players.turns(real, *parts, penalise=True, **options)
    assert all(value.device == meta for value in stats.values())


@pytest.mark.parametrize("accumulate", [1, 4])
def test_recorded_steps_are_of_few_kinds(accumulate, monkeypatch):
    """However many lenses are open: each part renders as many, and nobody beyond the part."""
    players = make_players(replace(tiny("argan"), batch=64, accumulate=accumulate), CPU)
    monkeypatch.setattr(players, "graphs", True)
    counts = set()
    for seed in range(40):
        parts = players.parts(rng(seed))
        (count,) = {len(part.rendered) for part in parts}
        counts.add(count)
        for part in parts:
            chosen = torch.zeros(64 // accumulate).index_fill(0, part.rendered, 1)
            assert (chosen >= part.scale).all()
            assert chosen.sum() == count
    assert 1 < len(counts) <= 8
    assert {count % (8 // accumulate) for count in counts} == {0}


@pytest.mark.gpu
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("system", SYSTEMS)
def test_recorded_steps_are_the_steps(system, accumulate):
    """Every kind is recorded at its second step: the same but for what additions in any order leave."""
    config, gpu = tiny(system), torch.device("cuda")
    loss = replace(config.loss, r1_interval=2, consistency_start=0)
    config = replace(config, batch=16, accumulate=accumulate, precision="float32", loss=loss)
    recorded, plain = make_players(config, gpu), make_players(replace(config, cuda_graphs=False), gpu)
    assert plain.graphs is None
    for step in range(12):
        real, seed = torch.rand(16, 3, 16, 16, generator=rng(step)).to(gpu), step % 3
        ours, theirs = recorded.step(real, step, rng(seed)), plain.step(real, step, rng(seed))
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, atol=1e-3 * (step + 1), rtol=1e-3 * (step + 1), msg=name)
    assert recorded.graphs.recordings
    start = checkpoint.collect(make_players(config, gpu))
    ours, theirs = checkpoint.collect(recorded), checkpoint.collect(plain)
    assert ours.keys() == theirs.keys()
    moved = sum(float((theirs[name] - x).square().sum()) for name, x in start.items())
    apart = sum(float((theirs[name] - ours[name]).square().sum()) for name in start)
    assert apart < 0.02 * moved


def test_viewpoints_pair_the_same_noise():
    _, draws, scene = scene_of(tiny("argan-rgbd"))
    assert torch.equal(draws.noise[0::2], draws.noise[1::2])
    assert not torch.equal(draws.camera[0::2], draws.camera[1::2])
    assert not torch.equal(scene.deep[0::2], scene.deep[1::2])
    assert draws.scale.unique().tolist() == [0.0, 1.0] or len(draws.scale.unique()) == 1


def test_consistency_sets_in_when_it_is_told_to():
    config = replace(tiny("rgbd"), loss=replace(tiny("rgbd").loss, consistency_start=5))
    players, draws, scene = scene_of(config)
    real = torch.rand(4, 3, 16, 16)
    before, terms = players.generator_terms(real, scene, draws, consistent=False)
    after, _ = players.generator_terms(real, scene, draws, consistent=True)
    torch.testing.assert_close(after - before, config.loss.consistency * terms["consistency"])


def test_consistency_that_has_set_in_stays_in_a_longer_run(tmp_path):
    """Its start goes with the steps where it is not asked for; the run keeps the one that it began with."""
    short, long = (replace(tiny("rgbd"), steps=steps) for steps in (2, 6))
    short, long = (replace(c, loss=replace(c.loss, consistency_start=c.steps // 2)) for c in (short, long))
    loop.train(short, tmp_path / "parts", device="cpu")
    with pytest.warns(UserWarning, match="sets in at step 1"):
        loop.train(long, tmp_path / "parts", device="cpu")
    whole = replace(long, loss=replace(long.loss, consistency_start=1))
    loop.train(whole, tmp_path / "whole", device="cpu")
    ours, theirs = (final_state(tmp_path / name) for name in ("parts", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_short_run_lowers_the_3d_loss():
    """Against no discriminator: twenty steps of 3D consistency alone make two views of a scene agree better."""
    config = tiny("rgbd")
    players = make_players(replace(config, batch=16, model=replace(config.model, resolution=32)), CPU)
    (draws,) = players.parts(rng())
    optimizer = torch.optim.Adam(players.generator.parameters(), lr=2e-3)
    history = []
    for _ in range(20):
        scene = players.make(draws)
        loss, _ = losses.consistency_loss(scene.deep, scene.disparity, draws.camera, config.model.aperture_step, 3.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.5 * history[0]


def test_accumulated_parts_make_the_same_step_as_the_whole_batch(monkeypatch):
    """All but the discriminator's batch statistics, which see a part at a time: here they are held constant."""
    monkeypatch.setattr("argan.models.discriminator.batch_std", lambda x: x.new_ones(x.shape[1:]))
    config = replace(tiny("argan-rgbd"), batch=8, loss=replace(tiny("argan-rgbd").loss, consistency_start=0, r2=0.5))
    real = torch.rand(8, 3, 16, 16)
    states = []
    for accumulate in (1, 2, 4):
        players = make_players(replace(config, accumulate=accumulate), CPU)
        torch.nn.init.normal_(players.generator.renderer.expansion.convs[-1].weight, std=0.1, generator=rng())
        stats = players.step(real, 0, rng(3))
        states.append((checkpoint.collect(players), stats))
    for state, stats in states[1:]:
        for name, value in states[0][0].items():
            torch.testing.assert_close(state[name], value, atol=2e-5, rtol=2e-4, msg=name)
        for name in ("d", "g", "r1", "r2", "prior", "expansion", "consistency"):
            torch.testing.assert_close(stats[name], states[0][1][name], atol=1e-5, rtol=1e-4, msg=name)


def test_a_batch_of_one_photograph_has_no_spread_and_still_a_gradient():
    players = make_players(replace(tiny("argan"), accumulate=4), CPU)
    stats = players.step(torch.rand(4, 3, 16, 16), 0, rng())
    assert all(torch.isfinite(value) for value in stats.values())
    assert all(torch.isfinite(x).all() for x in checkpoint.collect(players).values())


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(UsageError, match="batch of 4"):
        loop.train(replace(TINY, accumulate=3), tmp_path, device="cpu")
    with pytest.raises(UsageError, match="pairs"):
        loop.train(replace(tiny("rgbd"), batch=3), tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())


def test_relativistic_losses_compare_the_two():
    real, fake = torch.tensor([0.3, -1.0]), torch.tensor([0.2, 2.0])
    ours = losses.relativistic_discriminator_loss(real, fake)
    torch.testing.assert_close(ours, -torch.sigmoid(real - fake).log().mean())
    torch.testing.assert_close(losses.relativistic_generator_loss(fake, real), ours)  # the same game, sides swapped


def test_channels_last_and_bfloat16_change_the_layout_and_the_digits_only():
    config = tiny("argan")
    real, plain = torch.rand(4, 3, 16, 16), make_players(config, CPU)
    fast = make_players(replace(config, channels_last=True, precision="bfloat16"), CPU)
    weight = fast.discriminator.blocks["8"].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    ours, theirs = fast.step(real, 0, rng()), plain.step(real, 0, rng())
    torch.testing.assert_close(ours["d"], theirs["d"], atol=0.05, rtol=0.05)
    assert not torch.equal(ours["d"], theirs["d"])
    torch.testing.assert_close(ours["r1"], theirs["r1"], atol=1e-5, rtol=1e-4)  # the penalty stays in float32


def test_what_adam_goes_on_with_is_laid_out_as_the_weights_are():
    """GPUs' fused Adam refuses anything else."""
    config = replace(tiny("argan"), channels_last=True)
    before = make_players(config, CPU)
    before.step(torch.rand(4, 3, 16, 16), 0, rng())
    after = make_players(config, CPU)
    checkpoint.restore(after, {name: x.contiguous() for name, x in checkpoint.collect(before).items()})
    for optimizer in after.optimizers.values():
        assert optimizer.state
        for weight, moments in optimizer.state.items():
            assert moments["exp_avg"].stride() == moments["exp_avg_sq"].stride() == weight.stride()
    for name, x in checkpoint.collect(before).items():
        assert torch.equal(checkpoint.collect(after)[name], x), name
