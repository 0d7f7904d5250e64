"""A trained run, evaluated and imagined from its folder."""

import argparse
import dataclasses
import io
import json

import pytest
import torch
from PIL import Image
from rich.console import Console

from wmkit.cli.__main__ import main
from wmkit.cli.imagine import add_arguments
from wmkit.cli.imagine import run as imagine
from wmkit.config import DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from wmkit.data import GeneratedEpisodes, find_world
from wmkit.data.collate import Piece, collate
from wmkit.evaluation.film import write_gif
from wmkit.evaluation.held_out import in_batches, query_of, whole_episodes
from wmkit.evaluation.protocol import evaluate, make_film
from wmkit.evaluation.rewards import reward_accuracy
from wmkit.evaluation.run import device_for, evaluate_run
from wmkit.loading import load, run_config
from wmkit.training.command import train_in_folder
from wmkit.training.run_folder import RunFolder
from wmkit_envs import DistractingMemory, MultiDoorsKeys


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


def test_evaluation_leaves_a_table_and_pictures(run):
    console = Console(file=io.StringIO(), width=100, record=True)
    evaluation = evaluate_run(run, console=console)
    assert (evaluation.episodes, evaluation.context, evaluation.horizon) == (3, 5, 7)
    assert evaluation.mean_image_of == "training frames"
    saved = json.loads((run / "evaluation.json").read_text())
    assert saved["query_table"] == json.loads(json.dumps(evaluation.to_json()["query_table"]))
    assert "| generation |" in (run / "evaluation.md").read_text()
    text = console.export_text()
    assert text.count("yes  ") + text.count("NO   ") == len(evaluation.verdicts())
    for name in ("strip.png", "imagination.gif", "error_curve.png"):
        with Image.open(run / "pictures" / name) as image:
            assert min(image.size) > 100


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


def imagine_with(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return imagine(parser.parse_args([str(word) for word in words]))


def test_imagine_writes_a_gif_with_a_frame_per_step(run, tmp_path, capsys):
    out = tmp_path / "new" / "film.gif"
    assert imagine_with(run, "--out", out, "--episodes", 2, "--context", 4, "--horizon", 6) == 0
    with Image.open(out) as image:
        assert image.n_frames == 10
    assert "2 held-out episodes, 4 steps observed, 6 imagined" in capsys.readouterr().out


def test_imagine_is_a_verb_and_takes_lengths_from_the_run(run, tmp_path, capsys):
    assert main(["imagine", str(run), "--out", str(tmp_path / "film.gif"), "--checkpoint", "last"]) == 0
    assert main(["imagine", str(tmp_path / "no"), "--out", str(tmp_path / "film.gif")]) == 2
    assert "no does not exist: expected the folder of a run" in capsys.readouterr().err
    with Image.open(tmp_path / "film.gif") as image:
        assert image.n_frames == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--context", "0"], "--context: expected at least 1"),
        (["--episodes", "0"], "--episodes: expected at least 1"),
        (["--context", "1000", "--horizon", "10"], "are 1010 steps, but an episode of ray_maze_9x9 has 1001"),
        (["--held-out", "no_such_world"], "Unknown world"),
        (["--checkpoint", "newest"], "expected 'best', 'last' or the folder"),
        (["--out", "film.mp4"], "ends in .gif"),
    ],
)
def test_imagine_refuses_what_cannot_be(run, tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        imagine_with(run, "--out", tmp_path / "film.gif", *words)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_named(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--out: cannot write .*film\.gif"):
        imagine_with(run, "--out", tmp_path / "file" / "film.gif", "--episodes", 1)


def test_context_and_horizon_are_the_asked_ones_then_the_runs_then_the_worlds():
    config = RunConfig(backbone="gru", size="tiny", eval=EvalConfig(context=5, horizon=7))
    assert query_of(config, 3, 4) == (3, 4)
    assert query_of(config) == (5, 7)
    whole = RunConfig(
        backbone="gru", size="tiny", world=DistractingMemory(width=16, tile=4), eval=EvalConfig(horizon=None)
    )
    assert query_of(whole) == (31, 9)
    assert query_of(whole, context=30) == (30, 10)


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
    return folder, evaluate_run(folder, console=Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("asked") / "run", DistractingMemory(width=8, tile=4), reward_head=True)


@pytest.fixture(scope="module")
def with_doors(tmp_path_factory):
    # nothing is asked there, whatever the model could answer
    return tiny_run(tmp_path_factory.mktemp("doors") / "run", MultiDoorsKeys(keys=2, tile=4), reward_head=True)


def generated(run, split, count):
    """Whole episodes 0..count-1 of the run's world as the world itself makes them."""
    config = run_config(run)
    world = find_world(config.world)
    episodes = [world.generate(seed=config.data.seed, split=split, index=index) for index in range(count)]
    pieces = [Piece(index, 0, world.episode_length, fresh=True) for index in range(count)]
    return collate(pieces, episodes, world.episode_length, ())


def test_a_world_that_asks_at_the_end_has_its_answers_counted(asked):
    run, evaluation = asked
    saved = json.loads((run / "evaluation.json").read_text())["reward_accuracy"]
    assert {name: row["episodes"] for name, row in saved.items()} == dict.fromkeys(
        ("inference", "imagination", "always_1", "majority"), 40
    )
    assert evaluation.tiles is None
    assert "| majority |" in (run / "evaluation.md").read_text()


def test_figures_and_pictures_are_of_the_worlds_test_episodes_and_its_whole_context(asked, tmp_path):
    run, evaluation = asked
    model, held_out = load(run), generated(run, "test", 3)
    query = {"context": 15, "horizon": 5, "seed": 5}
    expected = evaluate(model, held_out, **query, training_frames=generated(run, "train", 16).image)
    rewards = reward_accuracy(model, [generated(run, "test", 40)], context=15, seed=5)
    assert 0 < rewards.rows["imagination"].hits < 40  # answers differ, so they tell what they were asked with
    assert evaluation.to_json() == dataclasses.replace(expected, rewards=rewards).to_json()
    write_gif(make_film(model, held_out, **query), tmp_path / "film.gif")
    assert (run / "pictures" / "imagination.gif").read_bytes() == (tmp_path / "film.gif").read_bytes()


def test_imagine_films_the_first_test_episodes_after_the_context_asked_for(asked, tmp_path):
    run, _ = asked
    words = ("--episodes", 2, "--context", 12, "--horizon", 8, "--seed", 4)
    assert imagine_with(run, "--out", tmp_path / "film.gif", *words) == 0
    film = make_film(load(run), generated(run, "test", 2), context=12, horizon=8, seed=4)
    write_gif(film, tmp_path / "expected.gif")
    assert (tmp_path / "film.gif").read_bytes() == (tmp_path / "expected.gif").read_bytes()


def test_a_world_with_doors_has_them_judged(with_doors):
    run, evaluation = with_doors
    assert evaluation.rewards is None
    saved = json.loads((run / "evaluation.json").read_text())
    assert saved["tile_accuracy"]["generation"]["door, open or shut"]["curve"]
    assert saved["query_table"]["first map, true walk"]["50"]["mean"] > 0
    assert len(saved["query_curves"]["first map, true walk"]["mean"]) == 96


def test_the_error_on_the_walk_is_of_the_steps_up_to_the_last_change_of_the_view(with_doors):
    run, evaluation = with_doors
    query = generated(run, "test", 3).image[:, evaluation.context :]
    changed = (query[:, 1:] != query[:, :-1]).flatten(2).any(-1)
    lengths = [int(row.nonzero().max()) + 2 for row in changed]
    assert max(lengths) < evaluation.horizon  # after it they stand still
    assert evaluation.on_walk.keys() == evaluation.on_query.keys()
    for name, errors in evaluation.on_query.items():
        rows = zip(errors.per_episode.double(), lengths, strict=True)
        means = torch.stack([row[:length].mean() for row, length in rows])
        assert evaluation.on_walk[name].mean == pytest.approx(float(means.mean()))


def test_episodes_come_in_batches_that_bound_memory(monkeypatch):
    source = GeneratedEpisodes(DistractingMemory(width=8, tile=4), seed=0)
    monkeypatch.setattr("wmkit.evaluation.held_out.PIXELS_AT_ONCE", 4 * 20 * 20 * source.episode_length(0) + 1)
    batches = list(in_batches(source, 10))
    assert [batch.shape for batch in batches] == [(4, 20), (4, 20), (2, 20)]
    last = torch.from_numpy(source.episode(9)["image"]).permute(0, 3, 1, 2)
    assert torch.equal(batches[-1].image[-1], last)
    monkeypatch.setattr("wmkit.evaluation.held_out.PIXELS_AT_ONCE", 1)
    assert [batch.shape[0] for batch in in_batches(source, 2)] == [1, 1]


def test_episodes_of_another_world_are_judged_beside_the_runs_own_evaluation(asked, tmp_path):
    run, _ = asked
    own = (run / "evaluation.json").read_text()
    assert json.loads(own)["checkpoint"] == "step-00000001"
    other = DistractingMemory(width=10, tile=4)
    evaluation = evaluate_run(run, held_out=other, console=Console(file=io.StringIO()))
    assert (evaluation.context, evaluation.horizon) == (19, 6)  # of that width, not of the run's
    assert (run / "evaluation.json").read_text() == own
    assert json.loads((run / "held_out" / other.name / "evaluation.json").read_text())["episodes_of"] == other.name
    evaluate_run(run, held_out=other, out=tmp_path / "there", console=Console(file=io.StringIO()))
    assert (tmp_path / "there" / "pictures" / "strip.png").exists()
