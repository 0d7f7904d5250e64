"""A run, measured at validations while it trains and evaluated from its folder afterwards."""

import argparse
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from rich.console import Console

from wmkit.cli import imagine
from wmkit.config import DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from wmkit.data import GeneratedEpisodes, find_world
from wmkit.data.samplers import Segment, collate
from wmkit.evaluation.evaluate import evaluate, evaluate_episodes, make_video
from wmkit.evaluation.held_out import context_and_horizon, in_batches, whole_episodes
from wmkit.evaluation.measures.doors import KEYS
from wmkit.evaluation.plots.video import GAP, TEXT_HEIGHT, strip_times, write_video
from wmkit.evaluation.record import CONSTANTS, Measurements
from wmkit.evaluation.run import HeldOutValidation, device_for, evaluate_run
from wmkit.loading import load, run_config
from wmkit.training.batches import training_source, validation_source
from wmkit.training.command import train_in_folder
from wmkit.training.log import read_lines
from wmkit.training.loop import build_model
from wmkit.training.run_folder import RunFolder
from wmkit.weights import VARIABLE
from wmkit_envs import DistractingMemory, MultiDoorsKeys


def without_drawings(patch: pytest.MonkeyPatch) -> None:
    """Matplotlib takes most of the time of a tiny evaluation, and is tested once."""
    for name in ("draw_strip", "draw_curves"):
        patch.setattr(f"wmkit.evaluation.plots.figures.{name}", lambda *_: None)


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    config = RunConfig(
        backbone="gru",
        size="tiny",
        data=DataConfig(length=6, batch_size=2, episode_length=12, episodes=2, workers=0),
        train=TrainConfig(steps=2, eval_every=2, checkpoint_every=2, device="cpu"),
        eval=EvalConfig(episodes=3, context=5, horizon=7),
    )
    train_in_folder(config, RunFolder(folder))
    return folder


def test_evaluation_leaves_tables_records_and_pictures(run):
    console = Console(file=io.StringIO(), width=100, record=True)
    measured = evaluate_run(run, console=console)
    assert (measured.episodes, measured.context, measured.horizon) == (3, 5, 7)
    assert measured.about["mean_image_of"] == "training frames"
    assert Measurements.load(run).summary() == measured.summary()
    records = pl.read_parquet(run / "records.parquet")
    assert {name: records[name].unique().to_list() for name in CONSTANTS} == {
        "run": ["tiny"], "world": ["ray_maze_9x9"], "seed": [0], "checkpoint": ["step-00000002"],
        "episodes_of": ["ray_maze_9x9"],
    }  # fmt: skip
    assert "| imagined |" in (run / "evaluation.md").read_text()
    text = console.export_text()
    assert text.count("yes  ") + text.count("?    ") == len(measured.verdicts)
    assert "; too few steps to judge (2)" in " ".join(text.split())
    assert "NO   " not in text
    for name in ("strip.png", "imagined.gif", "curves.png"):
        with Image.open(run / "pictures" / name) as image:
            assert min(image.size) > 100


def test_a_folder_of_weights_that_is_none_matters_to_those_who_ask_for_all(run, tmp_path, monkeypatch):
    without_drawings(monkeypatch)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    evaluate_run(run, out=tmp_path / "usual", console=quiet())
    with pytest.raises(ValueError, match=f"{VARIABLE}: expected a folder"):
        evaluate_run(run, measures=["all"], out=tmp_path / "all", console=quiet())
    (tmp_path / "nowhere").mkdir()
    console = Console(file=io.StringIO(), width=200, record=True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def stop(*_, **__):
        raise InterruptedError

    monkeypatch.setattr("wmkit.evaluation.run.measure_query", stop)
    with pytest.raises(InterruptedError):
        evaluate_run(run, measures=["all"], out=tmp_path / "all", console=console)
    line = next(line for line in console.export_text().splitlines() if line.startswith("Not measured:"))
    assert "lpips_alex" in line
    assert "fvd" not in line  # the query has seven frames, it would not apply


def test_held_out_episodes_are_those_of_split_test(run):
    config = RunConfig(backbone="gru", size="tiny")
    batch = whole_episodes(config, load(run), "test", count=2, length=9)
    episode = find_world(config.world).generate(seed=config.data.seed, split="test", index=1, length=9)
    assert torch.equal(batch.image[1], torch.from_numpy(episode["image"]).permute(0, 3, 1, 2))
    assert torch.equal(batch.action[1], torch.from_numpy(episode["action"]))
    assert not batch.inner_reset


def test_held_out_episodes_are_generated_no_longer_than_needed(run, monkeypatch):
    drawn = []
    generate = GeneratedEpisodes.episode

    def episode(self, index):
        drawn.append(len(generate(self, index)["image"]))
        return generate(self, index)

    monkeypatch.setattr(GeneratedEpisodes, "episode", episode)
    whole_episodes(RunConfig(backbone="gru", size="tiny"), load(run), "test", count=2, length=9)
    assert drawn == [9, 9]


def test_context_and_horizon_are_the_asked_ones_then_the_runs_then_the_worlds():
    config = RunConfig(backbone="gru", size="tiny", eval=EvalConfig(context=5, horizon=7))
    assert context_and_horizon(config, 3, 4) == (3, 4)
    assert context_and_horizon(config) == (5, 7)
    whole = RunConfig(
        backbone="gru", size="tiny", world=DistractingMemory(width=16, tile=4), eval=EvalConfig(horizon=None)
    )
    assert context_and_horizon(whole) == (31, 9)
    assert context_and_horizon(whole, context=30) == (30, 10)


def test_episodes_of_another_shape_are_refused(run):
    config = RunConfig(backbone="gru", size="tiny")
    model = load(run)
    model.action_dim = 3
    with pytest.raises(ValueError, match="and 6 actions, the model was trained on"):
        whole_episodes(config, model, "test", count=2, length=9)


def test_device_follows_the_runs_config():
    config = RunConfig(backbone="gru", size="tiny", train=TrainConfig(device="cpu"))
    assert device_for(config) == torch.device("cpu")


def tiny_run(folder, world, **model):
    """A run whose seed is not that of its data, evaluated."""
    config = RunConfig(
        world=world,
        backbone="gru",
        size="tiny",
        model=dataclasses.replace(ModelConfig.for_size("tiny"), **model),
        data=DataConfig(sampler="episodes", batch_size=2, workers=0, seed=3),
        train=TrainConfig(steps=1, device="cpu"),
        eval=EvalConfig(episodes=3, horizon=None, batches=1, reward_episodes=40, valid_reward_episodes=3),
        seed=5,
    )
    train_in_folder(config, RunFolder(folder))
    with pytest.MonkeyPatch.context() as patch:
        without_drawings(patch)
        return folder, evaluate_run(folder, console=quiet())


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("asked") / "run", DistractingMemory(width=8, tile=4), reward_head=True)


@pytest.fixture(scope="module")
def with_doors(tmp_path_factory):
    # nothing is asked there, whatever the model could answer
    return tiny_run(tmp_path_factory.mktemp("doors") / "run", MultiDoorsKeys(keys=2, tile=4), reward_head=True)


def generated(run, split, count, keys=()):
    """Whole episodes 0..count-1 of the run's world as the world itself makes them."""
    config = run_config(run)
    world = find_world(config.world)
    episodes = [world.generate(seed=config.data.seed, split=split, index=index) for index in range(count)]
    pieces = [Segment(index, 0, world.episode_length, fresh=True) for index in range(count)]
    return collate(pieces, episodes, world.episode_length, keys)


def test_a_world_that_asks_at_the_end_has_its_answers_counted(asked):
    run, measured = asked
    names = ["observed", "imagined", "majority", "constant"]
    assert measured.predictors("reward_accuracy") == names
    assert {measured.estimate("reward_accuracy", name).episodes for name in names} == {40}
    assert measured.measures == ["frame_error", "reward_accuracy"]
    assert "| majority |" in (run / "evaluation.md").read_text()


def test_values_and_pictures_are_of_the_worlds_test_episodes_and_its_whole_context(asked, tmp_path):
    run, measured = asked
    model, held_out = load(run), generated(run, "test", 3)
    query = {"context": 15, "horizon": 5, "seed": 5}
    frames = evaluate(model, held_out, **query, training_frames=generated(run, "train", 16).image)
    rewards = evaluate_episodes(model, [generated(run, "test", 40)], context=15, seed=5)
    assert 0 < rewards.values("reward_accuracy", "imagined").sum() < 40  # they tell what they were asked with
    assert measured.frame.equals(pl.concat([frames.frame, rewards.frame]))
    assert measured.verdicts == tuple(dataclasses.replace(one, early=1) for one in frames.verdicts + rewards.verdicts)
    write_video(make_video(model, held_out, **query), tmp_path / "video.gif")
    assert (run / "pictures" / "imagined.gif").read_bytes() == (tmp_path / "video.gif").read_bytes()


def test_a_world_with_doors_has_them_judged(with_doors):
    run, measured = with_doors
    assert measured.measures == [
        "frame_error", "tiles_right", "door_state", "door_state_and_colour", "frame_error_moving",
    ]  # fmt: skip
    saved = json.loads((run / "evaluation.json").read_text())["measures"]
    assert len(saved["door_state"]["predictors"]["imagined"]["curve"]["mean"]) == 96
    assert saved["frame_error"]["predictors"]["initial_map"]["ranges"]["50"]["mean"] > 0
    evaluated = evaluate(load(run), generated(run, "test", 3, KEYS), context=measured.context, horizon=96, seed=5)
    same = measured.frame.filter(pl.col("predictor") != "mean_image")
    assert same.equals(evaluated.frame.filter(pl.col("predictor") != "mean_image"))


def test_the_error_while_the_view_changes_is_of_the_steps_up_to_its_last_change(with_doors):
    run, measured = with_doors
    query = generated(run, "test", 3).image[:, measured.context :]
    changed = (query[:, 1:] != query[:, :-1]).flatten(2).any(-1)
    lengths = [int(row.nonzero().max()) + 2 for row in changed]
    assert max(lengths) < measured.horizon  # after it they stand still
    assert measured.predictors("frame_error_moving") == measured.predictors("frame_error")
    for name in measured.predictors("frame_error"):
        rows = zip(measured.values("frame_error", name), lengths, strict=True)
        expected = np.mean([row[:length].mean() for row, length in rows])
        assert measured.estimate("frame_error_moving", name).mean == pytest.approx(expected)


def test_episodes_come_in_batches_that_bound_memory(monkeypatch):
    source = GeneratedEpisodes(DistractingMemory(width=8, tile=4), seed=0)
    monkeypatch.setattr("wmkit.evaluation.held_out.PIXELS_AT_ONCE", 4 * 20 * 20 * source.episode_length(0) + 1)
    batches = list(in_batches(source, 10))
    assert [batch.shape for batch in batches] == [(4, 20), (4, 20), (2, 20)]
    last = torch.from_numpy(source.episode(9)["image"]).permute(0, 3, 1, 2)
    assert torch.equal(batches[-1].image[-1], last)
    monkeypatch.setattr("wmkit.evaluation.held_out.PIXELS_AT_ONCE", 1)
    assert [batch.shape[0] for batch in in_batches(source, 2)] == [1, 1]


def test_episodes_of_another_world_are_judged_beside_the_runs_own_evaluation(asked, tmp_path, monkeypatch):
    without_drawings(monkeypatch)
    run, _ = asked
    own = (run / "evaluation.json").read_text()
    assert json.loads(own)["checkpoint"] == "step-00000001"
    other = DistractingMemory(width=10, tile=4)
    measured = evaluate_run(run, episodes_from=other, console=quiet())
    assert (measured.context, measured.horizon) == (19, 6)  # of that width, not of the run's
    assert measured.about["mean_image_of"] == "the held-out contexts"
    assert (run / "evaluation.json").read_text() == own
    assert json.loads((run / "held_out" / other.name / "evaluation.json").read_text())["episodes_of"] == other.name
    evaluate_run(run, episodes_from=other, out=tmp_path / "there", console=quiet())
    assert Measurements.load(tmp_path / "there").frame.equals(measured.frame)


def test_the_video_of_another_world_has_its_context_and_lies_beside_its_evaluation(asked, capsys):
    run, _ = asked
    own = (run / "pictures" / "imagined.gif").read_bytes()
    other = DistractingMemory(width=12, tile=4)
    parser = argparse.ArgumentParser()
    imagine.add_arguments(parser)
    arguments = parser.parse_args([str(run), "--episodes", "1"])
    arguments.episodes_from = other  # which has no name of its own
    assert imagine.run(arguments) == 0
    assert f"{other.context_length} steps observed" in capsys.readouterr().out
    assert other.context_length != find_world(run_config(run).world).context_length
    assert (run / "held_out" / other.name / "pictures" / "imagined.gif").is_file()
    assert (run / "pictures" / "imagined.gif").read_bytes() == own


def test_as_many_whole_episodes_are_measured_as_asked_for(asked, tmp_path, monkeypatch):
    without_drawings(monkeypatch)
    run, _ = asked
    console = Console(file=io.StringIO(), width=200, record=True)
    for count in (43, 42):  # more than eval.reward_episodes
        found = evaluate_run(run, episodes=count, measures=["rewards"], out=tmp_path, console=console)
        assert found.estimate("reward_accuracy", "imagined").episodes == count
    assert console.export_text().count("Records of an earlier evaluation are replaced: reward_accuracy") == 1


BOTH = {"reward_accuracy_observed", "reward_accuracy_imagined"}


def config_of(episodes: int = 5, head: bool = True, length: int | None = None) -> RunConfig:
    every = {"log_every": 2, "eval_every": 4, "checkpoint_every": 3}
    return RunConfig(
        world=DistractingMemory(width=8, tile=4),
        backbone="gru",
        size="tiny",
        model=dataclasses.replace(ModelConfig.for_size("tiny"), reward_head=head),
        data=DataConfig(sampler="episodes", batch_size=2, episodes=4, workers=0, episode_length=length),
        train=TrainConfig(steps=6, warmup=2, threads=1, **every),
        eval=EvalConfig(horizon=None, batches=1, valid_reward_episodes=episodes),
    )


def values(run: Path, split: str) -> list[dict[str, float]]:
    return [line["values"] for line in read_lines(run / "metrics.jsonl") if line["split"] == split]


def test_validations_log_both_accuracies_which_training_does_not_feel_and_a_resumed_run_repeats(tmp_path: Path) -> None:
    config = config_of()
    train_in_folder(config, RunFolder(tmp_path / "run"), HeldOutValidation(config))
    lines = values(tmp_path / "run", "valid")
    assert len(lines) == 2
    for line in lines:
        assert line.keys() >= BOTH
        assert {round(5 * line[name], 6) % 1 for name in BOTH} == {0.0}

    train_in_folder(config, RunFolder(tmp_path / "without"))
    assert values(tmp_path / "without", "train") == values(tmp_path / "run", "train")
    assert not any(BOTH & line.keys() for line in values(tmp_path / "without", "valid"))

    expected = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    newest = tmp_path / "run" / "checkpoints" / "step-00000006" / "training.pt"
    newest.write_bytes(b"torn")  # back to the one before
    train_in_folder(config, RunFolder(tmp_path / "run"), HeldOutValidation(config))
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == expected


def test_they_are_of_the_first_held_out_episodes() -> None:
    config = config_of(episodes=7)
    source = training_source(config)
    model = build_model(config, source.image_shape, source.action_dim)
    held_out = validation_source(config, like=source, episodes=7)
    assert held_out.num_episodes == 7
    expected = evaluate_episodes(model, in_batches(held_out, 7), context=15, seed=config.seed)
    validation = HeldOutValidation(config)
    found = validation(model)
    assert validation.pictures == ("latest",)
    assert found.pop("latest").dtype == np.uint8
    assert found == {
        f"reward_accuracy_{name}": expected.estimate("reward_accuracy", name).mean for name in ("observed", "imagined")
    }
    assert model.training
    assert torch.is_grad_enabled()


def test_ground_truth_of_other_measures_is_not_read() -> None:
    config = dataclasses.replace(config_of(), world=MultiDoorsKeys(keys=2, tile=4))
    validation = HeldOutValidation(config)
    assert "agent_pos" in validation.first
    assert validation.keys == []


@pytest.mark.parametrize("config", [config_of(head=False), config_of(length=12)])
def test_without_a_head_or_with_episodes_cut_before_they_end_nothing_is_measured(config: RunConfig) -> None:
    source = training_source(config)
    model = build_model(config, source.image_shape, source.action_dim)
    assert HeldOutValidation(config)(model).keys() == {"latest"}


@pytest.mark.reported(
    "friction",
    "",
    "looking at what a run imagines while it trains",
    "`pictures/latest.png` at each validation, in TensorBoard too; its path is said at the start",
)
@pytest.mark.reported("numbers", "", "a run with pictures and one without", "the same metrics byte for byte")
def test_pictures_of_validations_change_no_number_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(head=False)
    for name, validate in (("with", HeldOutValidation(config)), ("without", None)):
        train_in_folder(config, RunFolder(tmp_path / name), validate)
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("with", "without")]
    assert metrics[0] == metrics[1]
    assert f"Each validation draws {tmp_path}/with/pictures/latest.png\n" in capsys.readouterr().out
    with Image.open(tmp_path / "with" / "pictures" / "latest.png") as image:
        first = np.asarray(image)
    model = load(tmp_path / "with", "last")
    assert (HeldOutValidation(config)(model)["latest"] == first).all(), "the same samples each time"
    assert not (tmp_path / "without" / "pictures").exists()


def test_the_picture_has_the_truth_above_what_the_model_imagines() -> None:
    config = config_of(head=False)
    source = training_source(config)
    model = build_model(config, source.image_shape, source.action_dim)
    validation = HeldOutValidation(config)
    picture = validation(model)["latest"]
    context, horizon = validation.query
    assert (context, horizon) == context_and_horizon(config)
    whole = make_video(model, validation.shown, context=context, horizon=horizon, seed=config.seed)
    side, last = 100 // 22 + 1, context + horizon - 1  # how often a pixel of 20 + 2 is repeated to be 100 wide
    times = strip_times(context, horizon)
    assert (whole.truth[0].numpy() == validation.source.episode(0)["image"].transpose(0, 3, 1, 2)[: last + 1]).all()
    for row, frames in enumerate((whole.truth, whole.model)):
        left, top = side * (1 + (len(times) - 1) * (22 + GAP)), TEXT_HEIGHT + side * (1 + 22 * row)
        shown = picture[top : top + 20 * side : side, left : left + 20 * side : side]
        assert (shown == frames[0, last].permute(1, 2, 0).numpy()).all()


@pytest.mark.reported("friction", "", "validation episodes too short for `eval.context`", "half of them is the context")
@pytest.mark.parametrize(("length", "query"), [(18, (15, 3)), (12, (6, 5)), (4, (2, 2)), (3, None)])
def test_short_episodes_are_drawn_as_far_as_they_go(length: int, query: tuple[int, int] | None) -> None:
    validation = HeldOutValidation(config_of(head=False, length=length))
    assert (validation.shown is None) == (query is None)
    assert query is None or validation.query == query
    assert bool(validation.pictures) == (query is not None)
