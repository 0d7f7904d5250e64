"""SVG-LP: its published totals, the loop of its paper, what its state carries, and that it learns."""

import dataclasses
import io
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmkit import Batch, WorldModel, build_world_model, tree
from wmkit.dynamics import Inputs
from wmkit.presets import PRESETS
from wmkit.testing import examine_video_model
from wmkit.video_models import SvgLp, SvgLpConfig
from wmkit.video_models.svg_lp import Lstm

SMALL = SvgLpConfig(depth=2, code=4, hidden=5, latent_size=2, past=3)


def model_of(networks: str = "dcgan", action_dim: int = 0, **loss: object) -> WorldModel:
    torch.manual_seed(0)
    return build_world_model(dataclasses.replace(SMALL, networks=networks), "tiny", (1, 16, 16), action_dim, **loss)


def core_of(model: WorldModel) -> SvgLp:
    assert isinstance(model.dynamics, SvgLp)
    return model.dynamics


def clips(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (rows, length, 1, 16, 16), generator=torch.Generator().manual_seed(seed)).byte()


@pytest.mark.parametrize(("preset", "total"), [("svg-lp-dcgan", 12_614_057), ("svg-lp-vgg", 22_778_081)])
def test_parameter_totals_are_the_published_ones_to_the_unit(preset: str, total: int) -> None:
    with torch.device("meta"):
        model = build_world_model(preset=preset, image_shape=(1, 64, 64), action_dim=0)
    assert sum(p.numel() for p in model.parameters()) == total


def test_totals_of_the_parts_are_those_of_the_released_code() -> None:
    with torch.device("meta"):
        core = core_of(build_world_model(preset="svg-lp-dcgan", image_shape=(1, 64, 64), action_dim=0))
    parts = core.encoder, core.decoder, core.predictor, core.posterior, core.prior
    totals = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert totals == [3_805_376, 6_558_529, 1_121_152, 564_500, 564_500]


@pytest.mark.parametrize(("networks", "laws"), [("dcgan", None), ("vgg", [1, 5, 11, 12])])
def test_svg_keeps_the_laws_of_video_models(networks: str, laws: list[int] | None) -> None:
    config = SvgLpConfig(networks=networks, depth=2, code=4, hidden=4, latent_size=2, past=3)
    model = build_world_model(config, "tiny", (1, 8, 8), 2).double()
    assert [breach for law in examine_video_model(core_of(model), laws=laws) for breach in law.breaches] == []


def test_an_lstm_is_torchs_own() -> None:
    torch.manual_seed(0)
    net = Lstm(3, 4, 2, 1)
    state = {name: torch.randn(2, 2, 4) for name in ("h", "c")}
    x = torch.randn(2, 4)
    top, after = net.step(x, state)
    for layer, cell in enumerate(net.cells):
        x, c = cell(x, (state["h"][:, layer], state["c"][:, layer]))
        torch.testing.assert_close(after["h"][:, layer], x)
        torch.testing.assert_close(after["c"][:, layer], c)
    torch.testing.assert_close(top, x)


def papers_loop(core: SvgLp, image: Tensor, noise: Tensor, context: int, seen: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Predicted frames x_1, x_2, ... and KL terms by the paper's loop, one frame after the other: the posterior up to
    frame `seen`, then the prior; skips up to the last frame of the context.
    """
    hidden = {name: getattr(core, name).initial_state(len(image)) for name in ("predictor", "posterior", "prior")}

    def run(name: str, x: Tensor) -> Tensor:
        net = getattr(core, name)
        y, hidden[name] = net.step(net.read(x), hidden[name])
        return net.out(y)

    x, skips = image[:, 0], []
    for t in range(1, noise.shape[1]):
        maps = core.encoder.maps(x)
        h = core.encoder.code(maps)
        skips = maps if t <= context else skips
        params = prior = run("prior", h)
        if t < seen:
            params = run("posterior", core.encoder(image[:, t]))
        mean, log_variance = params.chunk(2, -1)
        z = mean + (0.5 * log_variance).exp() * noise[:, t]
        q, p = (
            torch.distributions.Normal(m, (0.5 * v).exp()) for m, v in (each.chunk(2, -1) for each in (params, prior))
        )
        predicted = core.decoder(torch.tanh(run("predictor", torch.cat([h, z], -1))), skips)
        yield predicted, torch.distributions.kl_divergence(q, p).sum(-1)
        x = image[:, t] if t < seen else predicted


@pytest.mark.parametrize("networks", ["dcgan", "vgg"])
def test_loss_and_imagination_are_the_papers_loop(networks: str) -> None:
    """Trained on three frames and the rest; then as in its evaluation, on five frames that are seen."""
    model = model_of(networks, image_loss="mse", kl_scale=0.5, kl_balance=None).double().eval()
    core, image = core_of(model), clips(2, 9)
    noise = model.draw_noise(2, 9).double()
    floats = image.double() / 255
    with torch.no_grad():
        out = model(Batch.of(image, torch.zeros(2, 9, 0)), None, noise)
        predicted, kl = (torch.stack(x, 1) for x in zip(*papers_loop(core, floats, noise, 3, 9), strict=True))
        torch.testing.assert_close(out.terms["image"][:, 1:], (predicted - floats[:, 1:]).square().mean((2, 3, 4)))
        torch.testing.assert_close(out.terms["kl"][:, 1:], 0.5 * kl)
        torch.testing.assert_close(out.total, out.terms["image"].sum() / 16 + out.terms["kl"].sum() / 16)
        _, state = model.observe(image[:, :5], torch.zeros(2, 5, 0), noise=noise[:, :5])
        future = model.imagine(torch.zeros(2, 4, 0), state, noise=noise[:, 5:])
        predicted = torch.stack([frame for frame, _ in papers_loop(core, floats, noise, 5, 5)], 1)
        torch.testing.assert_close(model.decode(future.features), predicted[:, 4:])


def test_beta_in_the_papers_unit_is_a_weight_in_nats() -> None:
    batch, noise = Batch.of(clips(2, 6), torch.zeros(2, 6, 0)), torch.randn(2, 6, 2)
    papers = model_of(image_loss="mse", kl_scale=1e-2, kl_balance=None).eval()
    nats = model_of(image_loss="nll", kl_scale=1e-2 * 16 * 16 / 2, kl_balance=None).eval()
    torch.testing.assert_close(nats(batch, None, noise).total, papers(batch, None, noise).total * 16 * 16 / 2)


def test_nothing_of_an_imagined_frame_enters_the_skips_of_the_state() -> None:
    model = model_of().eval()
    with torch.no_grad():
        _, state = model.observe(clips(2, 4), torch.zeros(2, 4, 0))
        future = model.imagine(torch.zeros(2, 3, 0), state)
    last = clips(2, 4)[:, -1].flatten(1) / 255
    torch.testing.assert_close(state["frame"], last)
    assert torch.equal(future.state["frame"], state["frame"])
    torch.testing.assert_close(future.features[..., 5 : 5 + 256], last.unsqueeze(1).expand(-1, 3, -1))
    assert not torch.equal(future.state["code"], state["code"])


def test_no_frame_after_the_context_changes_what_is_drawn_of_it() -> None:
    """Read in one call with it."""
    model = model_of().eval()
    with torch.no_grad():
        for weight in model.parameters():  # they start so small that a frame hardly makes a difference
            weight.mul_(40 if weight.ndim > 1 else 1)
    noise = model.draw_noise(2, 8)

    def drawn(image: Tensor) -> Tensor:
        seen, _ = model.observe(image, torch.zeros(2, 8, 0), noise=noise)
        return model.decode(seen.features[:, :4])

    image, other = clips(2, 8), clips(2, 8, seed=1)
    with torch.no_grad():
        plain = drawn(image)
        later, last = (drawn(torch.cat([image[:, :t], other[:, t:]], 1)) for t in (4, 3))
    torch.testing.assert_close(later, plain)
    assert not torch.allclose(last[:, 3], plain[:, 3], atol=1e-3)


def test_svg_in_pieces_equals_the_whole_and_a_saved_state_goes_on() -> None:
    model = model_of(action_dim=2).eval()
    image, action, noise = clips(3, 7), torch.randn(3, 7, 2), model.draw_noise(3, 7)
    with torch.no_grad():
        whole, last = model.observe(image, action, noise=noise)
        first, state = model.observe(image[:, :3], action[:, :3], noise=noise[:, :3])
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
        rest, end = model.observe(image[:, 3:], action[:, 3:], state=loaded, noise=noise[:, 3:])
    torch.testing.assert_close(torch.cat([first.features, rest.features], 1), whole.features)
    for ours, theirs in zip(tree.leaves(end), tree.leaves(last), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_state_of_nothing_begins_an_episode_wherever_it_comes_from() -> None:
    """Evaluation gives `initial_state(B, context)` and no `is_first`."""
    model = model_of().eval()
    with torch.no_grad():
        given, _ = model.observe(clips(2, 4), torch.zeros(2, 4, 0), state=model.initial_state(2, 4))
        none, _ = model.observe(clips(2, 4), torch.zeros(2, 4, 0))
    assert torch.equal(given.features, none.features)


def test_in_training_a_batch_is_normalised_by_itself_and_its_statistics_are_kept() -> None:
    model = model_of().train()
    before = {name: x.clone() for name, x in model.named_buffers()}
    batch = Batch.of(clips(2, 6), torch.zeros(2, 6, 0))
    model(batch, None, model.draw_noise(2, 6))
    assert all(not torch.equal(x, before[name]) for name, x in model.named_buffers())
    encoder = core_of(model).encoder.stages[0]
    assert isinstance(encoder, nn.Sequential)
    activations = encoder[1](encoder[0](clips(2, 6).flatten(0, 1) / 255))
    torch.testing.assert_close(activations.mean((0, 2, 3)), encoder[1].bias, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [None, torch.tensor([6, 1])])
def test_in_training_a_promise_of_no_resets_changes_neither_what_is_decoded_nor_the_statistics(
    frames: Tensor | None,
) -> None:
    found = []
    for inner_reset in (False, True):
        core = core_of(model_of()).train()
        is_first = torch.zeros(3, 7, dtype=torch.bool)
        inputs = Inputs(
            embed=core.encode(clips(3, 7)), action=torch.zeros(3, 7, 0), is_first=is_first, inner_reset=inner_reset
        )
        seen, _ = core.observe(inputs)
        found.append((core.reconstruct(seen, inputs, frames), dict(core.named_buffers())))
    torch.testing.assert_close(found[1][0], found[0][0])
    torch.testing.assert_close(found[1][1], found[0][1])


@pytest.mark.parametrize("preset", ["svg-lp-dcgan", "svg-lp-vgg"])
def test_every_preset_overfits_eight_clips(preset: str) -> None:
    """A square that goes its way and round the edges; after four frames the rest is foretold."""
    x = (torch.arange(8)[:, None] + torch.tensor([-1, 1]).repeat(4)[:, None] * torch.arange(7)) % 8  # (8, 7)
    lit = (torch.arange(8) - x.unsqueeze(-1)) % 8 < 3  # (8, 7, W)
    rows = (torch.arange(8) - torch.arange(8)[:, None]) % 8 < 3  # (8, H)
    image = 255 * (rows[:, None, None, :, None] & lit[:, :, None, None, :]).byte()
    batch = Batch.of(image, torch.zeros(8, 7, 0))
    chosen = PRESETS[preset]
    numbers = chosen.backbone_options | {"depth": 16, "code": 16, "hidden": 32, "latent_size": 4, "past": 3}
    torch.manual_seed(0)
    model = build_world_model(SvgLpConfig(**numbers), "tiny", (1, 8, 8), 0, **chosen.model)
    optimiser, generator = torch.optim.Adam(model.parameters(), lr=1e-2), torch.Generator().manual_seed(1)
    pixels = image / 255
    spread = (pixels - pixels.mean((0, 1))).square().sum((2, 3, 4)).mean()
    for _ in range(200):
        out = model(batch, None, model.draw_noise(8, 7, generator), return_state=False)
        if out.metrics["squared_error"] < 0.1 * spread:
            break
        optimiser.zero_grad()
        out.total.backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        seen = model(batch, None, model.draw_noise(8, 7, generator)).metrics["squared_error"]
        _, state = model.observe(image[:, :4], batch.action[:, :4])
        future = model.decode(model.imagine(batch.action[:, 4:], state).features)
    imagined = F.mse_loss(future, pixels[:, 4:], reduction="sum") / (8 * 3)
    copied = (pixels[:, 3:4] - pixels[:, 4:]).square().sum((2, 3, 4)).mean()
    assert seen < 0.2 * spread, (float(seen), float(spread))
    assert imagined < 0.7 * copied, (float(imagined), float(copied))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"networks": "resnet"}, r"SvgLpConfig.networks: expected one of dcgan, vgg"),
        ({"past": 0}, r"SvgLpConfig.past: expected at least 1"),
    ],
)
def test_numbers_that_make_no_model_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SvgLpConfig(**options)


@pytest.mark.parametrize("shape", [(1, 20, 20), (1, 16, 32), (1, 4, 4)])
def test_other_images_than_squares_of_a_power_of_two_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="svg_lp expects a square whose side is a power of two from 8 on"):
        build_world_model("svg_lp", "tiny", shape, 0)
