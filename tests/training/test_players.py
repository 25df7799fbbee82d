"""What the players minimise, term by term, with which optimizers, and what of it is shown and shipped."""

import copy
from dataclasses import replace

import pytest
import torch

from argan.config import LossConfig, ModelConfig, TrainConfig, TranslatorConfig, with_system
from argan.training import diff_augment, losses, pictures
from argan.training.cyclegan import CyclePlayers
from argan.training.gan import AperturePlayers, Scene
from argan.training.systems import make_players

TINY = TrainConfig(
    name="tiny",
    batch=4,
    synthetic_photos=9,
    model=ModelConfig(resolution=16, z_dim=8, width=8, discriminator_width=8),
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs() -> torch.Tensor:
    return torch.rand(4, 3, 16, 16, generator=rng(1))


def players_of(model: dict | None = None, **loss) -> AperturePlayers:
    """Of a tiny AR-GAN with these settings, and an expansion T that expands."""
    settings = replace(TINY, loss=LossConfig(**loss), model=replace(TINY.model, **(model or {})))
    players = make_players(settings, torch.device("cpu"))
    if (expansion := players.generator.renderer.expansion) is not None:
        torch.nn.init.normal_(expansion.convs[-1].weight, generator=rng())
    return players


def generator_total(players: AperturePlayers, consistent: bool = False) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    (draws,) = players.parts(rng())
    return players.generator_terms(photographs(), players.make(draws), draws, consistent)


@pytest.mark.parametrize("name", ["prior", "smoothness", "expansion"])
def test_terms_of_the_generator_count_as_much_as_asked(name):
    without, terms = generator_total(players_of(**{name: 0.0}))
    with_it, _ = generator_total(players_of(**{name: 0.7}))
    assert terms[name] > 0
    torch.testing.assert_close(with_it - without, 0.7 * terms[name])


def test_smoothness_is_as_sensitive_to_edges_as_asked():
    players = players_of(edge_sensitivity=3.0)
    (draws,) = players.parts(rng())
    scene = players.make(draws)
    _, terms = players.generator_terms(photographs(), scene, draws, consistent=False)
    torch.testing.assert_close(terms["smoothness"], losses.smoothness_loss(scene.disparity, scene.deep, 3.0))


def test_consistency_weighs_depth_as_asked():
    players = players_of({"yaw": 0.3, "pitch": 0.1}, consistency=2.0, geometry=5.0)
    (draws,) = players.parts(rng())
    scene = players.make(draws)
    _, terms = players.generator_terms(photographs(), scene, draws, consistent=True)
    step = players.config.model.aperture_step
    expected, _ = losses.consistency_loss(scene.deep, scene.disparity, draws.camera, step, 5.0)
    torch.testing.assert_close(terms["consistency"], expected)


@pytest.mark.parametrize("adversarial", ["logistic", "relativistic"])
def test_the_adversarial_loss_is_the_one_that_is_asked_for(adversarial):
    players = players_of(adversarial=adversarial)
    (draws,) = players.parts(rng())
    real, scene = photographs(), players.make(draws)
    real_logits, fake_logits = players.discriminator(real), players.discriminator(scene.shown)
    _, judged = players.discriminator_terms(real, scene.shown.detach(), penalise=False)
    _, made = players.generator_terms(real, scene, draws, consistent=False)
    if adversarial == "logistic":
        expected = losses.discriminator_loss(real_logits, fake_logits), losses.generator_loss(fake_logits)
    else:
        expected = (
            losses.relativistic_discriminator_loss(real_logits, fake_logits),
            losses.relativistic_generator_loss(real_logits, fake_logits),
        )
    torch.testing.assert_close((judged["d"], made["g"]), expected)


def test_penalties_count_for_the_steps_without_and_are_of_their_own_images():
    players = players_of(r1=2.0, r2=0.5, r1_interval=4)
    real, fake = photographs(), torch.rand(4, 3, 16, 16, generator=rng(2))
    without, none = players.discriminator_terms(real, fake, penalise=False)
    total, terms = players.discriminator_terms(real, fake, penalise=True)
    assert not {"r1", "r2"} & none.keys()
    for name, images in (("r1", real), ("r2", fake)):
        torch.testing.assert_close(terms[name], losses.gradient_penalty(players.discriminator, images))
    torch.testing.assert_close(total - without, 4 * (2.0 * terms["r1"] + 0.5 * terms["r2"]))


def test_penalties_and_consistency_come_when_they_are_due(monkeypatch):
    players, seen = players_of(r1_interval=3, consistency_start=2), []
    monkeypatch.setattr(players, "play", lambda *_, **due: seen.append((due["penalise"], due["consistent"])) or {})
    for step in range(4):
        players.step(photographs(), step, rng())
    assert seen == [(True, False), (False, False), (False, True), (True, True)]


def watch(players, monkeypatch) -> list[tuple]:
    """What both players are asked about from now on, in order."""
    asked = []
    for name in ("discriminator_terms", "generator_terms"):
        own = getattr(players, name)
        monkeypatch.setattr(players, name, lambda *given, own=own: asked.append(given) or own(*given))
    return asked


@pytest.mark.parametrize("accumulate", [1, 2])
def test_turns_are_of_photographs_as_they_are_shown_and_of_what_is_due(accumulate, monkeypatch):
    players = players_of(augment=1.0)
    players.config = replace(players.config, accumulate=accumulate)
    parts, asked = players.parts(rng()), watch(players, monkeypatch)
    shown = [players.photographs(*pair) for pair in zip(photographs().chunk(accumulate), parts, strict=True)]
    for due in (False, True):
        asked.clear()
        players.turns(photographs(), *parts, penalise=due, consistent=not due)
        for (real, fake, penalise), (beside, scene, part, consistent), photos, draws in zip(
            asked[:accumulate], asked[accumulate:], shown, parts, strict=True
        ):
            assert real.equal(photos) and beside.equal(photos)
            assert fake.equal(scene.shown) and not fake.equal(scene.deep)
            assert part is draws
            assert (penalise, consistent) == (due, not due)


def test_the_generator_is_judged_by_what_has_just_learned(monkeypatch):
    players, asked = players_of(), []
    before = players.discriminator.logit.weight.clone()
    monkeypatch.setattr(players, "judge", lambda images: asked.append(None) or players.discriminator(images))
    own = players.generator_terms

    def terms(*given):
        assert len(asked) == 2  # of photographs and of samples
        assert not players.discriminator.logit.weight.equal(before)
        return own(*given)

    monkeypatch.setattr(players, "generator_terms", terms)
    players.step(photographs(), 0, rng())
    assert len(asked) == 3


@pytest.mark.parametrize("system", ["argan", "cyclegan"])
def test_a_step_teaches_every_weight(system):
    """T's too, which learns with the generator, and both ways of translators."""
    players = cycle_players_of() if system == "cyclegan" else players_of(mixture="shallow")
    before = [copy.deepcopy(network.state_dict()) for network in (players.generator, players.discriminator)]
    players.step(photographs(), 0, rng())
    for network, was in zip((players.generator, players.discriminator), before, strict=True):
        assert not [name for name, x in network.named_parameters() if x.equal(was[name])]


def test_framing_comes_before_rendering_and_colours_after_it(monkeypatch):
    players = players_of(augment=1.0)
    (draws,) = players.parts(rng())
    deep, disparity = players.generator.generator(draws.noise, None)
    framed = diff_augment.reframe(torch.cat([deep, disparity], dim=1), draws.augment_fake)
    shown, _ = players.render(framed[:, :3], framed[:, 3:], draws)
    scene = players.make(draws)
    torch.testing.assert_close(scene.shown, diff_augment.recolor(shown, draws.augment_fake))
    torch.testing.assert_close((scene.deep, scene.disparity), (deep, disparity))  # which the prior is asked of
    seen = diff_augment.recolor(diff_augment.reframe(photographs(), draws.augment_real), draws.augment_real)
    torch.testing.assert_close(players.photographs(photographs(), draws), seen)


def test_optimizers_and_the_average_are_as_asked():
    settings = replace(TINY, generator_lr=1e-3, discriminator_lr=2e-3, ema_images=77.0)
    players = make_players(settings, torch.device("cpu"))
    (made,), (judged,) = players.generator_optimizer.param_groups, players.discriminator_optimizer.param_groups
    assert (made["lr"], judged["lr"]) == (1e-3, 2e-3)
    assert made["betas"] == judged["betas"] == (0.0, 0.99)
    assert players.average.half_life == 77


def test_the_average_counts_images(monkeypatch):
    players, seen = players_of(), []
    monkeypatch.setattr(players.average, "update", lambda network, batch, step: seen.append((batch, step)))
    players.step(photographs(), 5, rng())
    assert seen == [(4, 5)]


def test_what_is_shown_and_shipped_is_the_average(tmp_path, monkeypatch):
    players, shown = players_of(), []
    players.step(photographs(), 0, rng())
    average, own = players.average.module.state_dict(), players.generator.state_dict()
    _, weights = players.shown_model()
    assert all(torch.equal(x, average[name]) for name, x in weights.items())
    assert any(not torch.equal(x, own[name]) for name, x in weights.items())
    monkeypatch.setattr(pictures, "save_samples", lambda model, noise, path: shown.append((model, noise)))
    for seed in (0, 0, 1):
        players.config = replace(players.config, seed=seed)
        players.save_samples(tmp_path / "samples.png")
    assert all(model is players.average.module for model, _ in shown)
    assert torch.equal(shown[0][1], shown[1][1])
    assert not torch.equal(shown[0][1], shown[2][1])


def test_viewpoints_run_from_left_to_right():
    network = ModelConfig(yaw=0.5)
    noise, cameras = pictures.in_views(network, count=2, views=3, seed=0)
    assert cameras.tolist() == 2 * [[0, -0.5], [0, 0], [0, 0.5]]
    assert noise[0].equal(noise[2]) and not noise[2].equal(noise[3])
    assert pictures.in_views(network, count=1, views=1, seed=0)[1].tolist() == [[0, 0]]
    assert pictures.in_views(ModelConfig(), count=1, views=1, seed=0)[1] is None


def test_what_is_nearer_is_brighter_in_a_picture_of_depth():
    disparity = torch.tensor([-3.0, -1.0, 0.0, 1.0]).expand(2, 1, 4, 4) * torch.tensor([1.0, 5.0]).view(2, 1, 1, 1)
    expected = torch.tensor([0.0, 0.5, 0.75, 1.0]).expand(2, 3, 4, 4)
    torch.testing.assert_close(pictures.depth_picture(disparity), expected)


def test_many_samples_are_made_in_batches_and_are_the_same(monkeypatch):
    players, noise = players_of(), torch.randn(5, 8, generator=rng())
    with torch.no_grad():
        whole = pictures.generate_apertures(players.generator, noise, [0.0, 1.0])
        monkeypatch.setattr(pictures, "BATCH", 2)
        parts = pictures.generate_apertures(players.generator, noise, [0.0, 1.0])
    torch.testing.assert_close(parts, whole)


def test_a_scene_without_an_open_lens_asks_nothing_of_the_expansion():
    players = players_of(mixture="deep", expansion=5.0)
    (draws,) = players.parts(rng())
    scene = players.make(draws)
    assert isinstance(scene, Scene)
    assert scene.expansion == 0
    assert torch.equal(scene.shown, scene.deep)


# CycleGAN's


class Affine(torch.nn.Module):
    """A translator whose pictures are known: scale x + offset."""

    def __init__(self, scale: float, offset: float):
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.scale * image + self.offset


def cycle_players_of(**loss) -> CyclePlayers:
    """Of a tiny CycleGAN with these settings."""
    settings = replace(with_system(TINY, "cyclegan", "tiny"), batch=4, translator=TranslatorConfig(width=4, blocks=1))
    return make_players(replace(settings, loss=replace(settings.loss, **loss)), torch.device("cpu"))


def cycle_players(**loss) -> CyclePlayers:
    """With a translator to shallow that adds 0.1 and one back that halves."""
    players = cycle_players_of(**loss)
    players.generator.translator, players.generator.back = Affine(1.0, 0.1), Affine(0.5, 0.0)
    return players


def test_translators_are_asked_for_the_other_domain_and_for_the_way_back():
    players = cycle_players(cycle=3.0, identity=0.7)
    deep, shallow = photographs()[0::2], photographs()[1::2]
    total, terms = players.generator_terms(deep, shallow)
    judges = players.discriminator
    expected = {
        "g": losses.generator_loss(judges.shallow(deep + 0.1)) + losses.generator_loss(judges.deep(shallow / 2)),
        "cycle": (0.05 - deep / 2).abs().mean() + (0.1 - shallow / 2).abs().mean(),
        "identity": (deep / 2).mean() + 0.1,
    }
    torch.testing.assert_close(terms, expected)
    torch.testing.assert_close(total, expected["g"] + 3 * expected["cycle"] + 0.7 * expected["identity"])


def test_each_judge_tells_its_own_domain_from_what_becomes_of_the_other():
    players = cycle_players(r1=2.0, r1_interval=4)
    deep, shallow = photographs()[0::2], photographs()[1::2]
    without, none = players.discriminator_terms(deep, shallow, penalise=False)
    total, terms = players.discriminator_terms(deep, shallow, penalise=True)
    judges = players.discriminator
    expected = losses.discriminator_loss(judges.deep(deep), judges.deep(shallow / 2))
    expected = expected + losses.discriminator_loss(judges.shallow(shallow), judges.shallow(deep + 0.1))
    torch.testing.assert_close(none, {"d": expected})
    penalties = losses.gradient_penalty(judges.deep, deep) + losses.gradient_penalty(judges.shallow, shallow)
    torch.testing.assert_close(terms["r1"], penalties)
    torch.testing.assert_close(total - without, 4 * 2 * penalties)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_translators_and_judges_are_told_which_photographs_are_deep_and_pay_penalties_when_due(accumulate, monkeypatch):
    players = cycle_players_of(r1_interval=3)
    players.config = replace(players.config, accumulate=accumulate)
    asked = watch(players, monkeypatch)
    for step in range(4):
        players.step(photographs(), step, rng())
    assert [given[2] for given in asked if len(given) == 3] == accumulate * [True] + 2 * accumulate * [False] + (
        accumulate * [True]
    )
    parts = 4 * 2 * list(photographs().chunk(accumulate))  # of each step, for the judges and for the translators
    for (deep, shallow, *_), part in zip(asked, parts, strict=True):
        assert deep.equal(part[0::2]) and shallow.equal(part[1::2])


def test_deep_photographs_and_what_becomes_of_them_are_shown_and_the_way_there_is_shipped(tmp_path, monkeypatch):
    players, shown = cycle_players_of(), []
    monkeypatch.setattr(pictures, "save_picture", lambda rows, path: shown.extend(rows))
    players.save_samples(tmp_path / "none.png")
    assert shown == []
    players.step(photographs(), 0, rng())
    players.save_samples(tmp_path / "samples.png")
    average = players.average.module
    torch.testing.assert_close(shown, [photographs()[0::2], average.translator(photographs()[0::2]).detach()])
    config, weights = players.shown_model()
    assert config.translator == players.config.translator
    assert all(torch.equal(weights[f"translator.{name}"], x) for name, x in average.translator.state_dict().items())
