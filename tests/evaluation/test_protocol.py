"""Context, query, and what the model is asked for."""

import dataclasses

import pytest
import torch
from torch import nn

from wmkit.build import build_world_model
from wmkit.evaluation import rollout
from wmkit.evaluation.errors import frame_error
from wmkit.evaluation.old_predictors import COPY_LAST, GENERATION, MEAN_IMAGE, MISLED, OTHER_FRAME, RECONSTRUCTION, ROWS
from wmkit.evaluation.protocol import evaluate, make_film
from wmkit.evaluation.table import error_sheet
from wmkit.world_model import Imagined


class ClockWorld(nn.Module):
    """A perfect model of a world whose frame is the running sum of its first action: its state is that sum."""

    device = torch.device("cpu")

    def draw_noise(self, batch_size, length, generator):
        return torch.zeros(batch_size, length, 1)

    def initial_state(self, batch_size, context):
        return torch.zeros(batch_size, 1, 1)

    def observe(self, image, action, *, state, noise, return_state=True):
        sums = state + action[..., :1].cumsum(dim=1)
        return Seen(sums), sums[:, -1:]

    def imagine(self, action, state, *, noise):
        return Imagined(state + action[..., :1].cumsum(dim=1), None)

    def decode(self, features):
        return (features / 255)[..., None, None].expand(*features.shape[:2], 3, 8, 8)


@dataclasses.dataclass
class Seen:
    features: torch.Tensor


@pytest.fixture
def clock_batch(batch):
    sums = batch.action[..., 0].cumsum(dim=1)
    image = sums.to(torch.uint8)[:, :, None, None, None].expand_as(batch.image)
    return dataclasses.replace(batch, image=image)


def test_perfect_model_has_no_error_and_other_actions_do(clock_batch):
    result = evaluate(ClockWorld(), clock_batch, context=6, horizon=8)
    assert result.on_context[RECONSTRUCTION].per_episode.max() < 1e-9
    assert result.on_query[RECONSTRUCTION].per_episode.max() < 1e-9
    assert result.on_query[GENERATION].per_episode.max() < 1e-9
    assert result.on_query[MISLED].per_episode[:, -1].max() > 0


def test_other_actions_are_those_of_the_row_before_on_the_state_of_this_row(clock_batch):
    result = evaluate(ClockWorld(), clock_batch, context=6, horizon=8)
    start = clock_batch.action[:, :6, 0].sum(dim=1, keepdim=True)
    other = start + clock_batch.action.roll(1, dims=0)[:, 6:14, 0].cumsum(dim=1)
    truth = start + clock_batch.action[:, 6:14, 0].cumsum(dim=1)
    expected = 192 * ((other - truth) / 255).square()
    torch.testing.assert_close(result.on_query[MISLED].per_episode, expected)


def test_rolling_passes_over_the_borders_of_groups(clock_batch, monkeypatch):
    whole = evaluate(ClockWorld(), clock_batch, context=6, horizon=8)
    monkeypatch.setattr(rollout, "FRAMES_AT_ONCE", 2 * 14)
    grouped = evaluate(ClockWorld(), clock_batch, context=6, horizon=8)
    for name in ROWS:
        torch.testing.assert_close(grouped.on_query[name].per_episode, whole.on_query[name].per_episode)


def test_curves_are_as_long_as_context_and_horizon(model, batch):
    result = evaluate(model, batch, context=5, horizon=7)
    assert (result.episodes, result.context, result.horizon, result.pixels) == (5, 5, 7, 192)
    assert set(result.on_query) == set(ROWS)
    assert {len(errors) for errors in result.on_query.values()} == {7}
    assert {len(errors) for errors in result.on_context.values()} == {4}


def test_baselines_are_measured_on_the_query_frames(model, batch):
    training = torch.randint(256, (2, 9, 3, 8, 8), dtype=torch.uint8)
    result = evaluate(model, batch, context=5, horizon=7, training_frames=training)
    query = batch.image[:, 5:12]
    mean = (training.double() / 255).mean(dim=(0, 1)).float()
    assert torch.allclose(result.on_query[MEAN_IMAGE].per_episode, frame_error(mean, query))
    assert torch.equal(result.on_query[COPY_LAST].per_episode, frame_error(batch.image[:, 4:5], query))
    assert result.mean_image_of == "training frames"
    assert "held-out" in evaluate(model, batch, context=5, horizon=7).mean_image_of


def test_seed_fixes_everything_and_the_mode_of_the_model_is_kept(model, batch):
    model.train()
    first = evaluate(model, batch, context=5, horizon=7, seed=1).to_json()
    assert model.training
    assert evaluate(model, batch, context=5, horizon=7, seed=1).to_json() == first
    assert evaluate(model, batch, context=5, horizon=7, seed=2).to_json() != first


def test_longer_episodes_are_cut(model, batch):
    short = batch.window(0, 12)
    assert (
        evaluate(model, batch, context=5, horizon=7).to_json() == evaluate(model, short, context=5, horizon=7).to_json()
    )


def test_context_is_one_scan_and_imagination_single_steps_decoded_afterwards(batch, monkeypatch):
    model = build_world_model("transformer_xl", "tiny", image_shape=(3, 8, 8), action_dim=3)
    calls = []

    def record(cls, name, value):
        original = getattr(cls, name)
        monkeypatch.setattr(cls, name, lambda self, *a, **k: calls.append((name, value(*a))) or original(self, *a, **k))

    record(type(model.dynamics), "observe", lambda inputs, _: inputs.embed.shape[1])
    record(type(model.dynamics.backbone), "step", lambda x, _: len(x))
    record(type(model), "decode", lambda features: features.shape[1])
    make_film(model, batch, context=5, horizon=7)
    assert model.dynamics.parallel
    assert calls == [("observe", 5), ("observe", 7), *[("step", 5)] * 7, ("decode", 12)]


def test_film_shows_truth_and_bytes_of_the_model(model, batch):
    film = make_film(model, batch, context=5, horizon=7)
    assert torch.equal(film.truth, batch.image[:, :12])
    assert film.model.shape == film.truth.shape
    assert film.model.dtype == torch.uint8
    assert (film.context, film.horizon, film.episodes) == (5, 7, 5)


def test_film_of_a_perfect_model_shows_what_happened(clock_batch):
    film = make_film(ClockWorld(), clock_batch, context=6, horizon=8)
    assert torch.equal(film.model, film.truth)
    assert len(film.truth.unique()) > 2  # the frames change


@pytest.mark.parametrize(
    ("context", "horizon", "message"),
    [
        (10, 5, "= 15 steps, but the episodes have 14"),
        (20, 1, "but the episodes have 14"),
        (1, 5, "context of at least 2"),
        (5, 0, "horizon of at least 1"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(model, batch, context, horizon, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, batch, context=context, horizon=horizon)


def test_windows_of_several_episodes_and_padding_are_refused(model, batch):
    packed = batch.is_first.clone()
    packed[2, 6] = True
    with pytest.raises(ValueError, match="whole episodes"):
        evaluate(model, dataclasses.replace(batch, is_first=packed, inner_reset=True), context=5, horizon=7)
    mask = batch.mask.clone()
    mask[1, 11:] = False
    with pytest.raises(ValueError, match="whole episodes"):
        evaluate(model, dataclasses.replace(batch, mask=mask), context=5, horizon=7)


def test_a_single_episode_is_refused_because_others_are_needed(model, batch):
    with pytest.raises(ValueError, match="at least 2 episodes"):
        evaluate(model, rollout.rows_of(batch, slice(0, 1)), context=5, horizon=7)
    assert OTHER_FRAME in evaluate(model, rollout.rows_of(batch, slice(0, 2)), context=5, horizon=7).on_query


def test_without_actions_there_are_no_wrong_ones(batch):
    model = build_world_model("gru", "tiny", image_shape=(3, 8, 8), action_dim=0)
    video = dataclasses.replace(batch, action=batch.action[..., :0])
    result = evaluate(model, video, context=6, horizon=8)
    assert set(result.on_query) == set(ROWS) - {MISLED}
    assert not any("actions" in verdict.claim for verdict in result.verdicts())
    assert "action_ratio" not in result.to_json()
    sheet = error_sheet(result)
    assert MISLED not in sheet.rows
    assert "Wrong actions" not in sheet.caption


def test_where_all_rows_do_the_same_there_are_no_wrong_actions(clock_batch):
    same = clock_batch.action.clone()
    same[:, 6:] = same[:1, 6:]  # in the context they may differ
    model, alike = ClockWorld(), dataclasses.replace(clock_batch, action=same)
    assert set(evaluate(model, alike, context=6, horizon=8).on_query) == set(ROWS) - {MISLED}
    same[2, 13] += 1
    assert MISLED in evaluate(model, alike, context=6, horizon=8).on_query
