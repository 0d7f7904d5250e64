"""VTA: its published totals, its equations segment by segment, its windows, its boundaries, and that it learns."""

import dataclasses
import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional as F

from wmkit import Batch, WorldModel, build_world_model, tree
from wmkit.acting import Filter
from wmkit.dynamics import Inputs
from wmkit.presets import PRESETS
from wmkit.testing import examine_video_model
from wmkit.video_models import Vta, VtaConfig, VtaObserved
from wmkit.video_models.vta import FORCED, Boundary


def model_of(action_dim: int = 0, window: int = 4, **loss: Any) -> WorldModel:
    """Small, in float64, and undecided about boundaries: both answers come."""
    torch.manual_seed(0)
    config = VtaConfig(width=4, latent_size=2, window=window)
    model = build_world_model(config, "tiny", (1, 8, 8), action_dim, **loss).double()
    core = core_of(model)
    with torch.no_grad():
        for layer in (core.boundary_posterior.last, core.boundary_prior):
            assert layer.bias is not None
            layer.weight.mul_(30)
            layer.bias.zero_()
    return model.eval()


def core_of(model: WorldModel) -> Vta:
    assert isinstance(model.dynamics, Vta)
    return model.dynamics


def clips(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (rows, length, 1, 8, 8), generator=torch.Generator().manual_seed(seed)).byte()


def observed(model: WorldModel, image: Tensor, **options: Any) -> tuple[VtaObserved, Any]:
    seen, state = model.observe(image, torch.zeros(*image.shape[:2], 0), **options)
    assert isinstance(seen, VtaObserved)
    return seen, state


@pytest.mark.parametrize("preset", ["vta-bouncing-balls", "vta-video"])
@pytest.mark.parametrize(("channels", "total"), [(3, 2_760_775), (1, 2_752_581)])
def test_parameter_totals_are_the_published_ones_to_the_unit(preset: str, channels: int, total: int) -> None:
    with torch.device("meta"):
        model = build_world_model(preset=preset, image_shape=(channels, 64, 64), action_dim=0)
    assert sum(p.numel() for p in model.parameters()) == total


def test_totals_of_the_parts_are_those_of_the_released_code() -> None:
    with torch.device("meta"):
        core = core_of(build_world_model(preset="vta-video", image_shape=(3, 64, 64), action_dim=0))
    parts = {
        "networks": (core.encoder, core.decoder),
        "boundaries": (core.boundary_prior, core.boundary_posterior),
        "features": (core.abstract_feature, core.observation_feature),
        "units": (core.forward_gru, core.backward_gru, core.outward_gru, core.abstract_gru, core.observation_gru),
        "distributions": (core.abstract_prior, core.abstract_posterior, core.observation_prior,
                          core.observation_posterior),
    }  # fmt: skip
    totals = {name: sum(p.numel() for part in group for p in part.parameters()) for name, group in parts.items()}
    networks = 1_056_000 + 1_055_747
    assert totals == {
        "networks": networks, "boundaries": 258 + 148_994, "features": 35_072, "units": 452_352,
        "distributions": 12_352,
    }  # fmt: skip


@pytest.mark.parametrize(("action_dim", "laws"), [(2, None), (0, [1, 8])])
def test_vta_keeps_the_laws_of_video_models(action_dim: int, laws: list[int] | None) -> None:
    results = examine_video_model(core_of(model_of(action_dim)), laws=laws)
    assert [text for law in results for text in (*law.breaches, *law.notes)] == []


def test_observing_is_the_papers_equations_segment_by_segment() -> None:
    """One window of twelve steps, with every unit run over each segment by itself."""
    model = model_of(window=12)
    core, image, noise = core_of(model), clips(1, 12), model.draw_noise(1, 12).double()
    with torch.no_grad():
        seen, _ = observed(model, image, noise=noise)
        code = core.encode(image)
        x = code.transpose(1, 2)
        for layer, norm in zip(core.boundary_posterior.layers, core.boundary_posterior.norms, strict=True):
            x = F.elu(norm(layer(x)))
        read, copy = core.boundary_posterior.last(x)[0]
        torch.testing.assert_close(seen.of_boundary[0][0, :, 0], read - copy)
        begins = [0, *(t for t in range(1, 12) if read[t] > copy[t])]
        assert seen.read[0].nonzero().flatten().tolist() == begins
        assert 3 < len(begins) < 10
        ends = [*begins[1:], 12]
        forward = core.forward_gru.scan(code)[0]
        width, size = 4, 2
        b, z, s = torch.zeros(1, width).double(), torch.zeros(1, size).double(), torch.zeros(1, size).double()
        for start, end in zip(begins, ends, strict=True):
            outward = core.outward_gru.scan(code[:, start:end])[0]
            backward = core.backward_gru.scan(code[:, start:end].flip(1))[0].flip(1)
            before = forward[:, start - 1] if start else torch.zeros(1, width).double()
            b = core.abstract_gru.step(z, {"h": b})[0] if start else before
            q, p = (
                Normal(mean, raw.sigmoid())
                for mean, raw in (
                    core.abstract_posterior(torch.cat([before, backward[:, 0]], -1)).chunk(2, -1),
                    core.abstract_prior(b).chunk(2, -1),
                )
            )
            z = q.mean + q.stddev * noise[:, start, :size]
            kl = core.kl(seen, None, 0.0)
            torch.testing.assert_close(kl["kl_abstract"][:, start], kl_divergence(q, p).sum(-1))
            assert not kl["kl_abstract"][:, start + 1 : end].any()
            f = core.abstract_feature(torch.cat([b, z], -1))
            d = f
            for t in range(start, end):
                d = d if t == start else core.observation_gru.step(torch.cat([s, f], -1), {"h": d})[0]
                params = (
                    core.observation_posterior(torch.cat([outward[:, t - start], f], -1)),
                    core.observation_prior(d),
                )
                q, p = (Normal(mean, raw.sigmoid()) for mean, raw in (each.chunk(2, -1) for each in params))
                s = q.mean + q.stddev * noise[:, t, size : 2 * size]
                torch.testing.assert_close(seen.features[:, t], torch.cat([b, d, z, s], -1))
                torch.testing.assert_close(kl["kl_observation"][:, t], kl_divergence(q, p).sum(-1))
                drawn = core.decoder(core.observation_feature(torch.cat([d, s], -1))[..., None, None])
                torch.testing.assert_close(model.decode(seen.features[:, t]), 0.5 * drawn + 0.5)
                expected = core.boundary_prior(core.observation_feature(torch.cat([d, s], -1)))
                if t < 11 and t + 1 not in (0, 12):
                    posterior, prior = (
                        Bernoulli(logits=x) for x in (read[t + 1] - copy[t + 1], -expected.diff()[0, 0])
                    )
                    torch.testing.assert_close(kl["kl_boundary"][0, t + 1], kl_divergence(posterior, prior))
    assert kl["kl_boundary"][0, 0] == 0


def test_imagination_begins_a_segment_from_the_forward_state_and_goes_on_by_the_prior() -> None:
    model = model_of()
    core, noise = core_of(model), model.draw_noise(2, 9).double()
    with torch.no_grad():
        _, state = observed(model, clips(2, 6))
        future = model.imagine(torch.zeros(2, 9, 0), state, noise=noise).features
    b, d, z, s = future.split([4, 4, 2, 2], -1)
    torch.testing.assert_close(b[:, 0], state["forward"])
    with torch.no_grad():
        logits = core.boundary_prior(core.observation_feature(torch.cat([d, s], -1)))
        new = core.abstract_gru.step(z[:, :-1].flatten(0, 1), {"h": b[:, :-1].flatten(0, 1)})[0].unflatten(0, (2, 8))
    reads = (logits[..., :1] > logits[..., 1:])[:, :-1]
    assert 0 < int(reads.sum()) < reads.numel()
    torch.testing.assert_close(b[:, 1:], torch.where(reads, new, b[:, :-1]))


def test_gradients_flow_through_the_state_of_a_dream() -> None:
    model = model_of()
    _, state = observed(model, clips(2, 4))
    with torch.no_grad():
        dream = model.imagine(torch.zeros(2, 3, 0), state).state
    leaves = {name: x.detach().clone().requires_grad_() for name, x in dream.items() if x.is_floating_point()}
    model.imagine(torch.zeros(2, 3, 0), {**dream, **leaves}).features.square().sum().backward()
    assert {name for name, x in leaves.items() if x.grad is not None and bool(x.grad.any())} == {"b", "z", "d", "s"}


def test_vta_in_pieces_equals_the_whole_and_a_saved_state_goes_on() -> None:
    """Cut where windows end: from an episode's first step, and from a context, whose last window ends with it."""
    model = model_of()
    image, noise = clips(3, 10), model.draw_noise(3, 10).double()
    for before, cut in ((None, 8), (model.initial_state(3, 10), 6)):
        with torch.no_grad():
            whole, last = observed(model, image, noise=noise, state=before)
            first, state = observed(model, image[:, :cut], noise=noise[:, :cut], state=before)
            file = io.BytesIO()
            torch.save(state, file)
            file.seek(0)
            loaded = torch.load(file, weights_only=True)
            rest, end = observed(model, image[:, cut:], noise=noise[:, cut:], state=loaded)
        torch.testing.assert_close(torch.cat([first.features, rest.features], 1), whole.features)
        torch.testing.assert_close(VtaObserved.joined([first, rest]).read, whole.read)
        for ours, theirs in zip(tree.leaves(end), tree.leaves(last), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert last["phase"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("context", [3, 4, 6])
def test_no_frame_after_the_context_changes_what_is_drawn_of_it(context: int) -> None:
    """Read in one call with it, by a posterior that is a smoother."""
    model = model_of()
    noise = model.draw_noise(2, 12).double()

    def drawn(image: Tensor) -> Tensor:
        seen, _ = observed(model, image, state=model.initial_state(2, context), noise=noise)
        return model.decode(seen.features[:, :context])

    image, other = clips(2, 12), clips(2, 12, seed=1)
    with torch.no_grad():
        plain = drawn(image)
        torch.testing.assert_close(drawn(torch.cat([image[:, :context], other[:, context:]], 1)), plain)
        last = drawn(torch.cat([image[:, : context - 1], other[:, context - 1 :]], 1))
    assert not torch.allclose(last[:, -2:], plain[:, -2:])


def test_padding_enters_no_step_before_it() -> None:
    model = model_of(window=8)
    core, image = core_of(model), clips(2, 8)
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[0, 5:] = False
    noise = model.draw_noise(2, 8).double()
    inputs = Inputs(
        embed=core.encode(image), action=torch.zeros(2, 8, 0).double(), is_first=torch.zeros(2, 8).bool(), noise=noise,
        mask=mask,
    )  # fmt: skip
    with torch.no_grad():
        seen, _ = core.observe(inputs)
        short, _ = core.observe(inputs.window(0, 5))
    torch.testing.assert_close(seen.features[0, :5], short.features[0])


def test_episodes_begin_where_windows_do() -> None:
    model = model_of()
    is_first = torch.zeros(2, 12, dtype=torch.bool)
    is_first[:, 0] = is_first[1, 8] = True
    seen, _ = model.observe(clips(2, 12), torch.zeros(2, 12, 0), is_first)
    alone, _ = observed(model, clips(2, 12)[1:, 8:])
    torch.testing.assert_close(seen.features[1:, 8:], alone.features)
    is_first[1, 6] = True
    with pytest.raises(ValueError, match=r"in row 1 an episode begins at step 6, 2 steps into a window of vta;"):
        model.observe(clips(2, 12), torch.zeros(2, 12, 0), is_first)
    _, state = observed(model, clips(2, 6))
    late = torch.tensor([[False], [True]])
    with pytest.raises(ValueError, match=r"in row 1 an episode begins at step 0, 2 steps into a window of vta;"):
        model.observe(clips(2, 1), torch.zeros(2, 1, 0), late, state=state)


def test_nobody_can_filter_with_it_frame_by_frame() -> None:
    with pytest.raises(ValueError, match="its dynamics read ahead"):
        Filter(model_of())


def test_boundaries_in_training_are_hard_samples_with_the_gradient_of_relaxed_ones() -> None:
    boundary, noise = Boundary().train(), Boundary().draw_noise((20_000,), torch.Generator().manual_seed(0))
    logit = torch.full((20_000, 1), 0.7, requires_grad=True)
    m = boundary.sample(logit, noise)
    assert torch.equal(m.detach().round(), m.detach())
    assert m.mean().item() == pytest.approx(torch.sigmoid(torch.tensor(0.7)).item(), abs=0.01)
    (gradient,) = torch.autograd.grad(m.sum(), logit)
    relaxed = torch.sigmoid(logit.detach() + noise)
    torch.testing.assert_close(gradient, relaxed * (1 - relaxed))
    assert torch.equal(boundary.eval().sample(torch.tensor([[0.1], [-0.1]]), None), torch.tensor([[1.0], [0.0]]))


def test_the_kl_and_the_entropy_of_a_boundary_are_those_of_bernoullis() -> None:
    left, right = torch.randn(7, 1), torch.randn(7, 1)
    q, p = Bernoulli(logits=left), Bernoulli(logits=right)
    torch.testing.assert_close(Boundary().kl(left, right), kl_divergence(q, p).sum(-1))
    torch.testing.assert_close(Boundary().entropy(left), q.entropy().sum(-1))


def test_half_a_precision_does_not_round_what_a_boundary_costs_to_nothing() -> None:
    """In bf16 a probability of 0.999 is 1, and what is left of it 0."""
    left, right = torch.tensor([[8.0], [-8.0], [0.5]]).bfloat16(), torch.tensor([[-8.0], [8.0], [FORCED]]).bfloat16()
    boundary = Boundary()
    for training in (True, False):
        assert boundary.train(training).sample(left, torch.zeros(3, 1)).dtype == torch.float32
    torch.testing.assert_close(boundary.kl(left, right), boundary.kl(left.float(), right.float()))
    torch.testing.assert_close(boundary.entropy(left), boundary.entropy(left.float()))
    assert bool((boundary.entropy(left) > 0).all())


def test_weights_in_bf16_are_trained_and_imagine() -> None:
    model = model_of().bfloat16().train()
    out = model(Batch.of(clips(2, 8), torch.zeros(2, 8, 0)), None, model.draw_noise(2, 8))
    out.total.backward()
    assert torch.isfinite(out.total)
    assert {leaf.dtype for leaf in tree.leaves(out.state)} == {torch.bfloat16, torch.int64, torch.bool}
    assert bool(core_of(model).boundary_posterior.last.weight.grad.any())
    future = model.imagine(torch.zeros(2, 3, 0), tree.detach(out.state), noise=model.draw_noise(2, 3))
    assert future.features.dtype == torch.bfloat16


def test_the_temperature_falls_with_every_update_and_is_saved() -> None:
    model = model_of()
    boundary = core_of(model).boundary
    assert float(boundary.temperature) == pytest.approx(1.0)
    for _ in range(3):
        model.after_update()
    assert float(boundary.temperature) == pytest.approx(0.1 + 0.9 * 0.999**0.03)
    other = model_of()
    other.load_state_dict(model.state_dict())
    assert int(core_of(other).boundary.updates) == 3


def test_the_image_loss_reaches_the_boundaries_in_training_and_not_in_evaluation() -> None:
    model = model_of()
    weight = core_of(model).boundary_posterior.last.weight
    batch = Batch.of(clips(2, 8), torch.zeros(2, 8, 0))
    noise = model.draw_noise(2, 8).double()
    for training in (True, False):
        image = model.train(training)(batch, None, noise).terms["image"].sum()
        (gradient,) = torch.autograd.grad(image, weight, allow_unused=True)
        assert (gradient is not None and bool(gradient.any())) is training


def test_the_priors_rule_ends_long_segments_and_stops_many() -> None:
    config = VtaConfig(width=4, latent_size=2, window=12, longest=3, segments=4)
    core = Vta(config, image_shape=(1, 8, 8), action_dim=0)
    read = torch.tensor([[1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0]]).bool()
    start = torch.zeros_like(read)
    start[0, 0] = start[0, 12] = True
    rule = core._ruled(torch.full(read.shape, 0.5), read, start)
    # After three steps one is expected; after four boundaries none, unless the segment is long; then a window begins.
    expected = [0.5, 0.5, 0.5, FORCED, FORCED, 0.5, 0.5, -FORCED, -FORCED, FORCED, FORCED, FORCED, 0.5, 0.5]
    torch.testing.assert_close(rule, torch.tensor([expected]))


@pytest.mark.parametrize(("preset", "window", "segments"), [("vta-bouncing-balls", 20, 5), ("vta-video", 50, 12)])
def test_the_rule_of_a_preset_is_scaled_to_its_window(preset: str, window: int, segments: int) -> None:
    options = PRESETS[preset].backbone_options
    assert (options["window"], options["segments"], options["longest"]) == (window, segments, 8)
    assert (PRESETS[preset].length or 0) > window  # else nothing trains what imagination begins with


def test_the_rule_counts_in_training_alone() -> None:
    model = model_of(window=8)
    image, noise = clips(2, 8), model.draw_noise(2, 8).double()
    logits = [abs(observed(model.train(training), image, noise=noise)[0].of_boundary[1]) for training in (True, False)]
    assert [bool(torch.isclose(x, torch.tensor(FORCED).double()).any()) for x in logits] == [True, False]


@pytest.mark.parametrize("preset", ["vta-bouncing-balls", "vta-video"])
def test_every_preset_overfits_eight_clips(preset: str) -> None:
    """A square that goes its way and round the edges, in windows of a fifth; the last four frames are foretold."""
    chosen = PRESETS[preset]
    published = VtaConfig(**chosen.backbone_options)
    assert published.segments is not None
    window, segments = published.window // 5, published.segments // 5
    length = max(12, 2 * window + 1)
    context = length - 4
    x = (torch.arange(8)[:, None] + torch.tensor([-1, 1]).repeat(4)[:, None] * torch.arange(length)) % 8  # (8, T)
    lit = (torch.arange(8) - x.unsqueeze(-1)) % 8 < 3  # (8, T, W)
    rows = (torch.arange(8) - torch.arange(8)[:, None]) % 8 < 3  # (8, H)
    batch = Batch.of(255 * (rows[:, None, None, :, None] & lit[:, :, None, None, :]).byte(), torch.zeros(8, length, 0))
    torch.manual_seed(0)
    config = dataclasses.replace(published, width=32, window=window, segments=segments)
    model = build_world_model(config, "tiny", (1, 8, 8), 0, **chosen.model)
    optimiser, generator = torch.optim.Adam(model.parameters(), lr=5e-3), torch.Generator().manual_seed(1)
    pixels = batch.image / 255
    spread = (pixels - pixels.mean((0, 1))).square().sum((2, 3, 4)).mean()
    for _ in range(300):
        out = model(batch, None, model.draw_noise(8, length, generator), return_state=False)
        if out.metrics["squared_error"] < 0.1 * spread:
            break
        optimiser.zero_grad()
        out.total.backward()
        optimiser.step()
        model.after_update()
    model.eval()
    with torch.no_grad():
        seen = model(batch, None, model.draw_noise(8, length, generator)).metrics["squared_error"]
        before = model.initial_state(8, context)
        _, state = model.observe(batch.image[:, :context], batch.action[:, :context], state=before)
        future = model.decode(model.imagine(batch.action[:, context:], state).features)
    imagined = F.mse_loss(future, pixels[:, context:], reduction="sum") / (8 * 4)
    copied = (pixels[:, context - 1 : context] - pixels[:, context:]).square().sum((2, 3, 4)).mean()
    assert seen < 0.2 * spread, (float(seen), float(spread))
    assert imagined < 0.5 * copied, (float(imagined), float(copied))
    assert imagined < 0.7 * spread, (float(imagined), float(spread))  # better than their mean, too


@pytest.mark.parametrize(
    ("options", "message"),
    [({"window": 1}, "VtaConfig.window: expected at least 2"), ({"segments": 0}, "VtaConfig.segments")],
)
def test_numbers_that_make_no_model_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VtaConfig(**options)


@pytest.mark.parametrize("shape", [(1, 20, 20), (1, 16, 32), (1, 4, 4)])
def test_other_images_than_squares_of_a_power_of_two_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="vta expects a square whose side is a power of two, 8 or more"):
        build_world_model("vta", "tiny", shape, 0)
