"""AR-GAN-DR: an estimator learned from a generator's samples, and the augmentations that carry it to photos."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from argan.config import DepthConfig, ModelConfig
from argan.errors import ArganError, UsageError
from argan.guided import settle
from argan.models.aperture import render_mixture
from argan.models.encoder import pretrained
from argan.models.hub import Config, DepthInfo, Model
from argan.training import augment as augmentation
from argan.training import depth as learning
from argan.training.augment import augment, collage, compress, figure, invert, reframe, relight, stage
from argan.training.depth import Photographs, disparity_range, draw_pairs, train_depth


def make_model(name: str = "tiny", resolution: int = 16) -> Model:
    """A generator whose disparity is one of its image's channels, so that there is something to estimate."""
    torch.manual_seed(0)
    model = Model(Config(name, ModelConfig(resolution=resolution, z_dim=8, width=8)))
    model.generator.depth_head.weight.data = 2 * model.generator.image_head.weight[:1]
    return model.eval().requires_grad_(False)


def test_estimator_learns_the_generators_depth():
    model, reports = make_model(), []
    # Here depth is a colour: what gives figures other colours or other depths teaches something else.
    config = DepthConfig(width=8, steps=150, batch=8, lr=3e-3, stage=0, light=0, negatives=0)
    learned = train_depth(model, config, device="cpu", report=reports.append)
    image, disparity = model.generator(torch.randn(64, 8))
    estimate = learned.depth.estimator(image)
    assert (estimate - disparity).abs().mean() < 0.7 * (disparity - disparity.median()).abs().mean()
    assert reports[-1].step == 150
    assert learned.config.depth.resolution == 16
    assert 0 < learned.depth.focus < 1
    assert not any(p.requires_grad for p in learned.parameters())


def test_an_encoder_stays_as_it_is():
    learned = train_depth(make_model(), DepthConfig(width=8, steps=2, batch=4), device="cpu")
    assert learned.config.depth.encoder == "efficientnet-lite0"
    assert_close(learned.depth.estimator.down.encoder.state_dict(), pretrained().state_dict(), rtol=0, atol=0)


def test_with_no_encoder_it_is_a_small_u_net():
    config = DepthConfig(width=8, steps=2, batch=4, encoder="none")
    estimator = train_depth(make_model(), config, device="cpu").depth.estimator
    assert not any("encoder" in name for name, _ in estimator.named_parameters())


def test_training_is_reproducible():
    config = DepthConfig(width=8, steps=3, batch=2)
    first, second = (train_depth(make_model(), config, device="cpu").state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_pairs_are_seen_from_all_viewpoints_of_the_generator():
    torch.manual_seed(0)
    model = Model(Config("posed", ModelConfig(resolution=16, z_dim=8, width=8, yaw=0.6, pitch=0.3))).eval()
    seen = []
    model.generator.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[1]))
    draw_pairs([model], [1.0], DepthConfig(batch=5), torch.Generator().manual_seed(0))
    assert seen[0].shape == (5, 2)
    assert seen[0].unique(dim=0).shape == (5, 2)
    assert (seen[0].abs() <= torch.tensor([0.3, 0.6])).all()


@pytest.mark.parametrize(("images", "scales"), [("deep", {0.0}), ("shallow", {1.0}), ("both", {0.0, 1.0})])
def test_pairs_are_deep_or_shallow_as_asked(images, scales, monkeypatch):
    seen = set()

    def render(renderer, deep, disparity, scale):
        seen.update(scale.tolist())
        return render_mixture(renderer, deep, disparity, scale)

    monkeypatch.setattr("argan.training.depth.render_mixture", render)
    draw_pairs([make_model()], [1.0], DepthConfig(batch=16, images=images), torch.Generator().manual_seed(0))
    assert seen == scales


def test_range_covers_the_generators_disparity_and_the_focal_plane():
    model = make_model()
    far, near = disparity_range(model, seed=0)
    signed = model.generator(torch.randn(256, 8))[1]
    assert far < 0 < near
    assert ((signed >= far) & (signed <= near)).float().mean() > 0.85


def test_a_model_without_generator_has_nothing_to_learn_from():
    with pytest.raises(UsageError, match="no generator"):
        train_depth(Model(Config("depth only", depth=DepthInfo(8, 16))), DepthConfig(steps=1), device="cpu")


def test_an_estimator_of_several_generators_sees_samples_of_all():
    first, second = make_model(), make_model("other")
    second.generator.depth_head.weight.data *= 0.5
    spans = [near - far for far, near in (disparity_range(model, seed=0) for model in (first, second))]
    assert spans[0] > 1.1 * spans[1]  # up to the squashing of what is large
    seen = {}
    for model in (first, second):
        model.generator.register_forward_hook(
            lambda _module, inputs, _out, model=model: seen.update({id(model): inputs})
        )
    image, disparity = draw_pairs([first, second], spans, DepthConfig(batch=5), rng())
    assert image.shape == (5, 3, 16, 16)
    assert disparity.shape == (5, 1, 16, 16)
    assert [len(seen[id(model)][0]) for model in (first, second)] == [3, 2]
    learned = train_depth(first, DepthConfig(width=8, steps=2, batch=4), others=[second], device="cpu")
    assert torch.equal(learned.generator.depth_head.weight, first.generator.depth_head.weight)


def test_samples_depth_settles_at_the_edges_of_their_images(monkeypatch):
    model, drawn = make_model(), []
    model.generator.register_forward_hook(lambda _module, _inputs, out: drawn.append(out))
    monkeypatch.setattr("argan.training.depth.augment", lambda image, disparity, *_: (image, disparity))
    config = DepthConfig(batch=3, collage=0, stage=0, images="deep")
    image, disparity = draw_pairs([model], [1.6], config, rng())
    assert_close(image, drawn[0][0])
    assert_close(disparity, 1.6 * settle(drawn[0][1] / 1.6, image))
    assert not torch.allclose(disparity, drawn[0][1], atol=1e-3)


def test_half_of_what_an_estimator_sees_are_photographs_as_another_sees_them(monkeypatch):
    model = train_depth(make_model(), DepthConfig(width=8, steps=2, batch=4, encoder="none"), device="cpu")
    photos = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8, generator=rng())
    far, near = -1.5, 0.5
    photographs = Photographs([photos], model.depth, (far, near))
    image, disparity = photographs.draw(20, rng())
    either_way = torch.cat([photos, photos.flip(3)]) / 255
    which = (image[:, None] - either_way).abs().amax((2, 3, 4)).argmin(1)
    assert_close(image, either_way[which], atol=1e-6, rtol=0)
    assert len(which.unique()) > 6
    assert_close((disparity - far) / (near - far), model.depth.coarse(image))

    drawn = []
    monkeypatch.setattr(
        Photographs, "draw", lambda _, count, rng: drawn.append(count) or (image[:count], disparity[:count])
    )
    assert len(draw_pairs([model], [1.0], DepthConfig(batch=6), rng(), photographs)[0]) == 6
    assert drawn == [3]


def test_every_set_of_photographs_is_seen_as_often_however_small():
    model = train_depth(make_model(), DepthConfig(width=8, steps=1, batch=4, encoder="none"), device="cpu")
    black, white = (torch.full((count, 3, 16, 16), value, dtype=torch.uint8) for count, value in ((40, 0), (2, 255)))
    image, _ = Photographs([black, white], model.depth, (-1.5, 0.5)).draw(400, rng())
    assert 160 < image.mean((1, 2, 3)).round().sum() < 240


def test_what_is_sharp_in_a_photograph_is_nearer_than_the_estimator_sees_it():
    model = train_depth(make_model(), DepthConfig(width=8, steps=1, batch=4, encoder="none"), device="cpu")
    photos = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8, generator=rng())
    focus = torch.zeros(6, 1, 16, 16, dtype=torch.float16)
    focus[..., 4:8], focus[..., 12:] = 1, -1  # mirrored with its photograph: the other way round
    far, near = -1.5, 0.5
    image, disparity = Photographs([photos], model.depth, (far, near), [focus]).draw(30, rng())
    seen = model.depth.coarse(image)
    inside = ((disparity - far) / (near - far) - seen).mean((1, 2))
    mirrored = (image[:, None] - photos / 255).abs().amax((2, 3, 4)).amin(1) > 1e-4
    assert 5 < mirrored.sum() < 25
    inside[mirrored] = inside[mirrored].flip(1)
    assert (inside[:, 4:8] > 0.05).all()
    assert (inside[:, 12:] < -0.05).all()
    assert inside[:, :4].abs().max() < 1e-5
    assert disparity.min() >= far - 1e-6
    assert disparity.max() <= near + 1e-6


def test_a_teacher_sees_photographs_in_place_of_the_models_own_estimator(monkeypatch):
    config, taken = DepthConfig(width=8, steps=1, batch=4, encoder="none"), []
    teacher = train_depth(make_model(), replace(config, seed=3), device="cpu")
    monkeypatch.setattr(learning, "Photographs", lambda *given: taken.append(given) or Photographs(*given))
    photos = [torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=rng())]
    learned = train_depth(make_model(), config, photos=photos, teacher=teacher, device="cpu")
    (_, seen_by, far_and_near, _), *others = taken
    assert seen_by is teacher.depth
    assert far_and_near == (learned.depth.far, learned.depth.near)  # the learner's range, whatever the teacher's is
    assert not others
    with pytest.raises(UsageError, match="has no estimator of argan's to learn from"):
        train_depth(make_model(), config, photos=photos, teacher=make_model(), device="cpu")


def test_with_photographs_and_no_estimator_it_learns_twice():
    photos, reports = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=rng()), []
    config = DepthConfig(width=8, steps=2, batch=4, encoder="none")
    once = train_depth(make_model(), config, device="cpu")
    goes_on = train_depth(once, config, photos=[photos], device="cpu").state_dict()
    at_once = train_depth(make_model(), config, photos=[photos], device="cpu", report=reports.append).state_dict()
    assert [report.step for report in reports] == [2, 2]
    assert all(torch.equal(goes_on[name], at_once[name]) for name in goes_on)
    assert any(not torch.equal(goes_on[name], value) for name, value in once.state_dict().items())


def test_the_error_is_the_mean_absolute_one_of_disparity(monkeypatch):
    """With steps of no length, so that the estimator that is learned is the one that was measured."""
    image, disparity, reports = torch.rand(4, 3, 16, 16), torch.randn(4, 1, 16, 16), []
    monkeypatch.setattr(learning, "draw_pairs", lambda *_: (image, disparity))
    config = DepthConfig(width=8, steps=1, batch=4, encoder="none", lr=0.0)
    learned = train_depth(make_model(), config, device="cpu", report=reports.append)
    error = (learned.depth.estimator(image) - disparity).abs().mean()
    assert reports[0].stats["error"] == pytest.approx(float(error), rel=1e-5)


def test_steps_grow_to_the_length_that_is_asked_for_and_shrink_to_nothing(monkeypatch):
    rates, step = [], torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self, *a: rates.append(self.param_groups[0]["lr"]) or step(self, *a)
    )
    monkeypatch.setattr(learning, "draw_pairs", lambda *_: (torch.rand(2, 3, 16, 16), torch.randn(2, 1, 16, 16)))
    train_depth(make_model(), DepthConfig(width=8, steps=20, batch=2, encoder="none", lr=7e-3), device="cpu")
    assert len(rates) == 20
    assert max(rates) == pytest.approx(7e-3)
    assert rates[0] < 0.1 * max(rates)
    assert rates[-1] < 1e-3 * max(rates)


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11])
def test_any_number_of_steps(steps):
    reports = []
    config = DepthConfig(width=8, steps=steps, batch=2, encoder="none")
    train_depth(make_model(), config, device="cpu", report=reports.append)
    assert reports[-1].step == steps


def test_an_estimator_that_is_not_finite_is_none():
    with pytest.raises(ArganError, match="not finite at step 2"):
        train_depth(make_model(), DepthConfig(width=8, steps=2, batch=2, encoder="none", light=math.inf), device="cpu")


def test_a_generator_that_was_never_rendered_has_no_depth_to_learn(recwarn):
    model = make_model()
    config = DepthConfig(width=8, steps=1, batch=2, encoder="none")
    train_depth(model, config, device="cpu")
    assert not [said for said in recwarn if "no depth" in str(said.message)]
    model.config = replace(model.config, mixture="deep")
    with pytest.warns(UserWarning, match="has learned no depth"):
        train_depth(model, config, device="cpu")


def test_the_seed_decides_and_nothing_else():
    model, config = make_model(), DepthConfig(width=8, steps=3, batch=4, encoder="none", seed=5)
    learned = []
    for before in (1, 2):
        torch.manual_seed(before)
        learned.append(train_depth(model, config, device="cpu").state_dict())
    assert all(torch.equal(learned[0][name], learned[1][name]) for name in learned[0])
    other = train_depth(model, replace(config, seed=6), device="cpu").state_dict()
    assert not all(torch.equal(learned[0][name], other[name]) for name in other)


def test_samples_are_changed_as_much_as_asked(monkeypatch):
    asked = {}

    def spy(name):
        def change(image, disparity, rng, *shares):
            asked[name] = shares
            return image, disparity

        monkeypatch.setattr(f"argan.training.depth.{name}", change)

    for name in ("collage", "stage", "augment"):
        spy(name)
    config = DepthConfig(batch=4, collage=0.1, close=0.2, stage=0.3, light=0.4, negatives=0.6)
    draw_pairs([make_model()], [1.0], config, rng())
    assert asked == {"collage": (0.1, 0.2), "stage": (0.3,), "augment": (0.4, 0.6)}


def test_another_generators_disparity_comes_in_the_unit_of_the_first(monkeypatch):
    first, second, drawn = make_model(), make_model("other"), []
    second.generator.register_forward_hook(lambda _module, _inputs, out: drawn.append(out))
    monkeypatch.setattr("argan.training.depth.augment", lambda image, disparity, *_: (image, disparity))
    config = DepthConfig(batch=6, collage=0, stage=0, images="deep")
    image, disparity = draw_pairs([first, second], [1.6, 0.8], config, rng())
    assert_close(image[3:], drawn[0][0])
    assert_close(disparity[3:], 1.6 * settle(drawn[0][1] / 0.8, image[3:]))


def test_every_generator_has_room_in_a_batch():
    with pytest.raises(UsageError, match="2 generators"):
        train_depth(make_model(), DepthConfig(steps=1, batch=1, encoder="none"), others=[make_model()], device="cpu")


def test_photographs_take_room_in_a_batch_beside_samples():
    with pytest.raises(UsageError, match="at least 2"):
        train_depth(make_model(), DepthConfig(steps=1, batch=1), photos=[torch.zeros(2, 3, 16, 16)])


def test_generators_of_other_sizes_cannot_share_an_estimator():
    with pytest.raises(UsageError, match="16 and 32 px"):
        train_depth(make_model(), DepthConfig(steps=1), others=[make_model(resolution=32)], device="cpu")


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_augmentation_keeps_shapes_and_range_and_is_reproducible():
    image, disparity = torch.rand(6, 3, 16, 16), torch.randn(6, 1, 16, 16)
    new_image, new_disparity = augment(image, disparity, rng())
    again, _ = augment(image, disparity, rng())
    assert new_image.shape == image.shape
    assert new_disparity.shape == disparity.shape
    assert new_image.min() >= 0
    assert new_image.max() <= 1
    assert torch.equal(new_image, again)
    assert not torch.equal(new_image, image)


def test_framing_moves_image_and_disparity_together():
    disparity = torch.rand(4, 1, 16, 16)
    image, moved = reframe(disparity.expand(-1, 3, -1, -1), disparity, rng())
    torch.testing.assert_close(image[:, :1], moved)
    assert not torch.equal(moved, disparity)


def test_what_is_framed_is_framed_with_its_disparity():
    image, disparity = torch.rand(4, 3, 16, 16), torch.rand(4, 1, 16, 16)
    assert torch.equal(augment(image, disparity, rng())[1], reframe(image, disparity, rng())[1])


@pytest.mark.parametrize("change", ["soften", "relight", "invert", "recolor", "add_noise", "compress"])
def test_augmentation_makes_every_change(change, monkeypatch):
    called, do = [], getattr(augmentation, change)
    monkeypatch.setattr(augmentation, change, lambda *given: called.append(change) or do(*given))
    augment(torch.rand(4, 3, 16, 16), torch.rand(4, 1, 16, 16), rng(), 0.3, 0.5)
    assert called == [change]


def test_what_each_change_of_light_and_lens_does():
    image = torch.rand(40, 3, 16, 16)
    soft = augmentation.soften(image, rng())
    assert (soft.var((1, 2, 3)) <= image.var((1, 2, 3)) + 1e-6).all()
    assert soft.var() < 0.9 * image.var()
    noise = augmentation.add_noise(torch.full((200, 3, 16, 16), 0.5), rng()).std((1, 2, 3))
    assert noise.max() < 0.05
    assert 0.015 < noise.mean() < 0.025
    grey = torch.full((200, 3, 4, 4), 0.5)
    coloured = augmentation.recolor(grey, rng())[..., 0, 0]
    assert coloured.mean(1).std() > 0.05
    assert coloured.std(1).mean() > 0.02


def test_pictures_are_mirrored_half_of_the_time_and_turned_both_ways():
    """A ramp that rises to the right falls in half of the pictures, and leans up in about half of them."""
    ramp = torch.linspace(0, 1, 32).expand(400, 1, 32, 32)
    framed, place = reframe(ramp.expand(-1, 3, -1, -1), ramp, rng())
    torch.testing.assert_close(framed[:, :1], place)
    inner = place[..., 8:-8, 8:-8]
    rises, leans = inner.diff(dim=3).mean((1, 2, 3)), inner.diff(dim=2).mean((1, 2, 3))
    assert 0.4 < (rises > 0).float().mean() < 0.6
    for mirrored in (rises > 0, rises < 0):
        assert 0.3 < (leans[mirrored] > 0).float().mean() < 0.7


def test_jpeg_is_as_coarse_as_its_quality(monkeypatch):
    qualities = []
    monkeypatch.setattr(augmentation, "as_jpeg", lambda pixels, q: qualities.extend(q.tolist()) or pixels)
    compress(torch.rand(300, 3, 8, 8), rng(), share=1.0)
    assert min(qualities) < 40
    assert max(qualities) > 80


def test_figures_of_a_collage_come_from_other_pictures():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    disparity = (x**2 + y**2 < 0.2).float().expand(16, 1, 32, 32).clone()
    level = torch.linspace(0.1, 1, 16).view(16, 1, 1, 1)
    image = (level * disparity).expand(-1, 3, -1, -1)
    pasted, _ = collage(image, disparity, rng(), share=1.0)
    brighter = (pasted[:, :1] > level + 0.05).flatten(1).any(1)
    assert brighter.float().mean() > 0.2


def test_compression_touches_a_share_of_the_images():
    image = torch.rand(8, 3, 16, 16)
    assert torch.equal(compress(image.clone(), rng(), share=0.0), image)
    changed = compress(image.clone(), rng(), share=1.0)
    assert (changed - image).abs().amax(dim=(1, 2, 3)).min() > 0.01


def test_a_collage_shows_the_nearest():
    """Pictures of a near disc get a second, smaller one, which never hides what is nearer."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    disparity = (x**2 + y**2 < 0.2).float().expand(8, 1, 32, 32).clone()
    image = torch.rand(8, 3, 1, 1) * disparity
    unchanged = collage(image, disparity, rng(), share=0.0)
    assert torch.equal(unchanged[0], image)
    assert torch.equal(unchanged[1], disparity)
    pasted, place = collage(image, disparity, rng(), share=1.0)
    new = ((place - disparity).abs() > 0.01)[:, 0]
    assert (place > disparity - 1e-6).all()
    assert (new.flatten(1).float().mean(1) < 0.2).all()  # at most the disc's own size
    assert new.flatten(1).any(1).float().mean() > 0.5  # some are hidden, or outside
    torch.testing.assert_close(pasted.movedim(1, -1)[~new], image.movedim(1, -1)[~new], rtol=0, atol=0.01)


def test_close_figures_are_large_and_nearer_than_all_else():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    disparity = (x**2 + y**2 < 0.2).float().expand(64, 1, 32, 32).clone()
    image = torch.rand(64, 3, 1, 1) * disparity
    usual, close = (collage(image, disparity, rng(), 1.0, close=share)[1] for share in (0.0, 1.0))
    covered = [(place - disparity > 0.01).float().mean() for place in (usual, close)]
    assert covered[1] > 2 * covered[0]
    assert close.amax() > usual.amax() + 0.3
    at_the_frame = [place[..., 0].gt(0.5).float().mean() for place in (usual, close)]
    assert at_the_frame[1] > at_the_frame[0] + 0.1


def test_a_stage_recedes_and_figures_stand_on_it():
    """Samples of a near disc on a far ground become discs on a plane, each as near as where it touches the plane."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    disparity = (x**2 + y**2 < 0.3).float().expand(8, 1, 64, 64) - 1
    image = torch.rand(8, 3, 64, 64)
    unchanged = stage(image, disparity, rng(), share=0.0)
    assert torch.equal(unchanged[0], image)
    assert torch.equal(unchanged[1], disparity)
    scene, place = stage(image, disparity, rng(), share=1.0)
    assert scene.min() >= 0
    assert scene.max() <= 1
    assert place.min() >= -1 - 1e-6
    for one in place[:, 0]:  # nothing is farther than what lies above it but where a figure ends
        lower_is_nearer = one[1:] >= one[:-1] - 1e-6
        assert lower_is_nearer.float().mean() > 0.9
        falls = one[:-1] - one[1:]
        assert falls.max() < 0.35  # feet: a figure ends where the plane is about as near


def test_a_stage_shows_what_its_depth_says(monkeypatch):
    """A wall of 0.5 that is farthest, a ground of 0.25 that recedes to it; of samples white on black, white alone."""
    monkeypatch.setattr(augmentation, "recolor", lambda image, _: image)
    monkeypatch.setattr(augmentation, "ground_plane", lambda texture, *_: torch.full_like(texture, 0.25))
    monkeypatch.setattr(augmentation, "backdrop", lambda texture, _: torch.full_like(texture, 0.5))
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    discs = [((x - side) ** 2 + y**2 < 0.15).float() for side in (-0.5, 0.5)]
    disparity = torch.stack(discs)[:, None].repeat(8, 1, 1, 1)
    image, chosen = disparity.expand(-1, 3, -1, -1).contiguous(), torch.rand(16, generator=rng()) < 0.6
    scene, place = stage(image, disparity, rng(), share=0.6)
    assert torch.equal(scene[~chosen], image[~chosen]) and torch.equal(place[~chosen], disparity[~chosen])
    scene, place = scene[chosen, :1], place[chosen]
    assert scene.min() > 0.2
    wall, ground, figures = scene == 0.5, scene == 0.25, scene > 0.99
    assert 0.01 < figures.float().mean() < wall.float().mean() + ground.float().mean()
    torch.testing.assert_close(place[wall], torch.zeros(int(wall.sum())))
    for one, seen in zip(place[:, 0], ground[:, 0], strict=True):
        rows = [row[here] for row, here in zip(one, seen, strict=True) if here.any()]
        assert all(row.max() - row.min() < 1e-5 for row in rows)
        assert all(lower[0] > upper[0] for upper, lower in pairwise(rows))


def test_light_and_negatives_leave_the_share_that_is_asked_for():
    image = torch.rand(200, 3, 16, 16)
    assert torch.equal(invert(image, rng(), share=0.0), image)
    negative = invert(image, rng(), share=0.25)
    changed = (negative != image).flatten(1).any(1)
    torch.testing.assert_close(negative[changed], 1 - image[changed])
    assert 0.1 < changed.float().mean() < 0.4
    gain = relight(torch.ones(200, 1, 16, 16), rng(), light=0.35)
    assert gain.min() > 0
    assert 0.1 < gain.log().std() < 0.4
    steps = (gain[..., 1:] / gain[..., :-1]).log().abs().mean()
    assert steps < 0.4 * gain.log().abs().mean()  # smooth: noise has 1.4


def test_the_figure_is_the_nearer_part():
    disparity = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(2, 1, 4, 4) * torch.tensor([1.0, 5.0]).view(2, 1, 1, 1)
    assert (figure(disparity)[..., :2] < 0.01).all()
    assert (figure(disparity)[..., 2:] > 0.99).all()


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices, but for transfers and the scalars that CUDA too accepts."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        leaves = tree_leaves((args, kwargs or {}))
        devices = {x.device.type for x in leaves if isinstance(x, torch.Tensor) and x.dim() > 0}
        if len(devices) > 1 and func is not torch.ops.aten.copy_.default:
            raise AssertionError(f"{func} mixes {sorted(devices)}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("close", [0.0, 0.5])
def test_augmentation_stays_on_the_device_of_the_images_and_waits_for_nothing(close, monkeypatch):
    """On the meta device, whose tensors have no values: to ask for one, as for a decision, is an error."""

    def run(image: torch.Tensor, disparity: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        both = stage(*collage(image, disparity, generator, share=0.5, close=close), generator, share=0.5)
        return augment(*both, generator, light=0.3, negatives=0.5)

    monkeypatch.setattr("argan.training.augment.as_jpeg", lambda x, _: torch.zeros(x.shape, dtype=torch.uint8))
    image, disparity = torch.rand(8, 3, 16, 16), torch.rand(8, 1, 16, 16)
    on_cpu, on_meta = rng(), rng()
    run(image, disparity, on_cpu)
    with OneDevice():
        both = run(image.to("meta"), disparity.to("meta"), on_meta)
        with pytest.raises(AssertionError, match="mixes"):
            torch.add(both[0], image)
    assert [x.device.type for x in both] == ["meta", "meta"]
    assert [x.shape for x in both] == [image.shape, disparity.shape]
    assert torch.equal(on_cpu.get_state(), on_meta.get_state())  # the same is drawn for all devices


def test_images_that_are_not_chosen_for_compression_stay_where_they_are(monkeypatch):
    seen = []
    monkeypatch.setattr("argan.training.augment.as_jpeg", lambda pixels, q: seen.append((pixels, q)) or 0 * pixels)
    image = torch.rand(16, 3, 8, 8) + 0.01
    changed = (compress(image, rng(), share=0.25) != image).flatten(1).any(1)
    assert len(seen) == 1
    assert len(seen[0][0]) == len(seen[0][1]) == changed.sum()
    assert 0 < changed.sum() < 10
