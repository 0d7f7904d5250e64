import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from wmkit.config import DataConfig, EvalConfig, ModelConfig, RunConfig
from wmkit.data import Episodes, EpisodeSource, GeneratedEpisodes, WholeEpisodes, open_source, write_archive
from wmkit.training.batches import (
    build_sampler,
    check_windows,
    held_out_source,
    settle,
    training_source,
    validation_batches,
    validation_source,
)
from wmkit.training.loop import Summary
from wmkit.training.overrides import compose
from wmkit_envs import DistractingMemory, MovingMnist

MakeConfig = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One small archive of ray-cast mazes per split."""
    folder = tmp_path_factory.mktemp("archives")
    for split in ("train", "valid"):
        source = GeneratedEpisodes("ray_maze_9x9", seed=0, split=split, length=15, num_episodes=4)
        write_archive(source, folder / split)
    return {split: str(folder / split) for split in ("train", "valid")}


def test_an_archive_gives_the_batches_of_its_world(make_config: MakeConfig, archives: dict[str, str]) -> None:
    stored = make_config(data={"source": archives["train"]})
    with (
        build_sampler(stored, training_source(stored)) as ours,
        build_sampler(make_config(), training_source(make_config())) as theirs,
    ):
        assert torch.equal(next(ours).image, next(theirs).image)


def test_a_run_trains_and_validates_on_archives(
    make_config: MakeConfig, train_in: Callable[[RunConfig, Path], Summary], archives: dict[str, str], tmp_path: Path
) -> None:
    data = {"source": archives["train"], "valid_source": archives["valid"]}
    assert train_in(make_config(data=data, train={"steps": 1}), tmp_path / "run").step == 1


@pytest.mark.reported(
    "data", "PrimeIntellect-ai/prime-rl#2871", "`data.source` names an archive of split valid or test", "`ValueError`"
)
def test_a_held_out_archive_is_not_trained_on(make_config: MakeConfig, archives: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="holds split 'valid'"):
        training_source(make_config(data={"source": archives["valid"]}))


@pytest.mark.reported(
    "data",
    "Farama-Foundation/Minari#304",
    "a training archive of another world than `world=`, no validation archive",
    "`ValueError` with the words to type",
)
def test_an_archive_of_another_world_is_refused(make_config: MakeConfig, archives: dict[str, str]) -> None:
    config = make_config(world="ray_two_rooms", data={"source": archives["train"]})
    with pytest.raises(ValueError, match="ray_maze_9x9"):
        training_source(config)
    training_source(dataclasses.replace(config, data=dataclasses.replace(config.data, valid_source=archives["valid"])))


def test_an_archive_of_a_world_with_settings_of_its_own_is_none_of_the_usual_one(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    usual = DistractingMemory(width=8, tile=4)
    bare = usual.with_settings(distractor_rate=0.0)
    write_archive(GeneratedEpisodes(bare, seed=0, num_episodes=2), tmp_path / "bare")
    with pytest.raises(ValueError, match="holds episodes of"):
        write_archive(GeneratedEpisodes(usual, seed=0, num_episodes=4), tmp_path / "bare")
    training_source(make_config(world=bare, data={"source": str(tmp_path / "bare")}))
    say = "say world=distracting_memory world.tile=4 world.width=8 world.distractor_rate=0.0, or name"
    with pytest.raises(ValueError, match=say):
        training_source(make_config(world=usual, data={"source": str(tmp_path / "bare")}))
    # archives of older versions say a name, which is still the name of a published world
    maze = GeneratedEpisodes("ray_maze_9x9", seed=0, length=2, num_episodes=2)
    write_archive(maze, tmp_path / "old", origin={"world": "ray_maze_9x9", "split": "train"})
    training_source(make_config(data={"source": str(tmp_path / "old")}))
    with pytest.raises(
        ValueError, match=r"holds episodes of ray_maze_9x9: say world=\.\.\., as that world is called now"
    ):
        training_source(make_config(world=usual, data={"source": str(tmp_path / "old")}))


def test_validation_data_of_other_shapes_are_refused(make_config: MakeConfig) -> None:
    class Wide:
        image_shape, action_dim, num_episodes = (3, 64, 128), 6, 1

    with pytest.raises(ValueError, match=r"Set data\.valid_source"):
        validation_source(make_config(), like=Wide())


@pytest.mark.parametrize("sampler", ["windows", "episodes", "persistent"])
def test_validation_batches_are_the_same_each_time_and_of_the_held_out_split(
    make_config: MakeConfig, sampler: str
) -> None:
    config = make_config(data={"sampler": sampler})
    like = training_source(config)

    def frames() -> Iterator[np.ndarray]:
        for batch in validation_batches(config, validation_source(config, like)):
            yield batch.image.numpy()

    first, again = list(frames()), list(frames())
    assert len(first) == (3 if sampler == "persistent" else config.eval.batches)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    rows = [row.tobytes() for batch in first for row in batch]
    assert len(set(rows)) == len(rows)
    seen = {image.tobytes() for index in range(4) for image in np.moveaxis(like.episode(index)["image"], -1, 1)}
    assert not any(image.tobytes() in seen for batch in first for row in batch for image in row)


@pytest.mark.parametrize("processes", [1, 2])
def test_where_rows_persist_validation_walks_whole_episodes(make_config: MakeConfig, processes: int) -> None:
    config = make_config(data={"sampler": "persistent", "length": 6, "batch_size": 4, "episode_length": 17})
    source = validation_source(config, training_source(config))
    ranks = [validation_batches(config, source, rank, processes) for rank in range(processes)]
    whole = next(WholeEpisodes(source, 4, seed=config.seed))
    for number, windows in enumerate(zip(*ranks, strict=True)):
        assert torch.equal(torch.cat([w.image for w in windows]), whole.image[:, 6 * number : 6 * number + 6])
        assert all(bool(w.is_first.any()) == (number == 0) for w in windows)
    assert number == 2


@pytest.mark.parametrize("key", ["source", "valid_source", "test_source"])
def test_a_missing_folder_is_not_taken_for_a_world(make_config: MakeConfig, key: str) -> None:
    config = make_config(data={key: "/no/such/archive"})
    with pytest.raises(ValueError, match=f"data.{key}=/no/such/archive: there is no such folder"):
        settle(config)
    if key == "test_source":
        return
    with pytest.raises(ValueError, match=f"data.{key}=/no/such/archive: there is no such folder"):
        validation_source(config, training_source(config))


def test_windows_that_persist_hold_whole_periods_of_a_clock() -> None:
    data = DataConfig(sampler="persistent", length=10)
    source = GeneratedEpisodes(MovingMnist(side=32), seed=0)
    assert not any(check_windows(data, source, source, period=period, first_step="model") for period in (5, 10, 1))
    with pytest.raises(ValueError, match=r"data\.length=10 .* Take a multiple of 4"):
        check_windows(data, source, source, period=4, first_step="model")


def test_windows_without_a_second_period_of_the_dynamics_are_pointed_out() -> None:
    source = GeneratedEpisodes(MovingMnist(side=32), seed=0, length=20)
    whole = GeneratedEpisodes(MovingMnist(side=32), seed=0)
    assert check_windows(DataConfig(length=32), whole, whole, period=16, first_step="model") == []
    for data, of, length in (
        (DataConfig(length=32), whole, 32),
        (DataConfig(sampler="episodes", length=99), source, 20),
    ):
        [note] = check_windows(data, of, of, period=36, first_step="model")
        assert f"{length} steps hold one period of the dynamics, which has 36" in note


def test_an_evaluation_beyond_the_episodes_is_refused_before_training(make_config: MakeConfig) -> None:
    config = make_config(eval=EvalConfig(horizon=500))
    assert settle(config) == (config, [])
    with pytest.raises(ValueError, match=r"501 \+ 501 steps, but an episode of ray_maze_9x9 has 1001"):
        settle(make_config(eval=EvalConfig(horizon=501)))


Own = Callable[..., str]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    """Writes an archive of recordings, of which no world is known, of the given lengths; returns its folder."""
    folder = tmp_path_factory.mktemp("own")

    def write(name: str, lengths: Sequence[int], *, actions: int = 2, moving: bool = True, **constants: int) -> str:
        if not (folder / name).exists():
            rng = np.random.default_rng(list(name.encode()))
            episodes = [
                {
                    "image": rng.integers(0, 256, (length, 8, 8, 3), np.uint8)
                    if moving
                    else np.full((length, 8, 8, 3), 9 + number, np.uint8),
                    "action": np.zeros((length, actions)),
                    **constants,
                }
                for number, length in enumerate(lengths)
            ]
            write_archive(Episodes(episodes), folder / name)
        return str(folder / name)

    return write


def stored(make_config: MakeConfig, own: Own, **data: object) -> RunConfig:
    """A run on archives of its own, less what `data` says."""
    usual = {"source": own("ball_train", [12] * 5), "valid_source": own("ball_valid", [12] * 5)}
    usual |= {"episodes": None, "episode_length": None}
    evaluation = data.pop("eval", EvalConfig(context=None, horizon=None))
    return make_config(data={**usual, **data}, eval=evaluation)


@pytest.mark.reported(
    "data",
    "Farama-Foundation/Minari#304, PrimeIntellect-ai/prime-rl#2871, danijar/dreamerv3#113",
    "a run on two archives, no test archive named",
    "the validation archive is tested on, said before step 1; what was chosen is in `config.json`",
)
def test_a_run_on_archives_is_tested_on_its_validation_archive(make_config: MakeConfig, own: Own) -> None:
    config, notes = settle(stored(make_config, own))
    assert config.data.test_source == own("ball_valid", ())
    assert "the test archive is the validation archive, by which the best checkpoint is chosen" in notes[0]
    assert "all 5 episodes of" in notes[1]
    assert "6 steps observed, 6 imagined" in notes[1]
    assert (config.eval.context, config.eval.horizon, config.eval.episodes) == (6, 6, 5)
    _, notes = settle(stored(make_config, own, test_source=config.data.source))
    assert notes[0].endswith("the test archive is the training archive, so that nothing new is asked.")
    assert config.label == "ball_train"
    assert settle(config)[0] == config
    named, notes = settle(stored(make_config, own, test_source=own("ball_test", [8, 16])))
    assert (named.eval.context, named.eval.horizon, named.eval.episodes) == (4, 4, 2)
    assert len(notes) == 1


@pytest.mark.reported(
    "data",
    "",
    "one folder with archives `train`, `valid` and `test`: `data.source=FOLDER`",
    "all three are found in it",
)
def test_a_folder_of_archives_is_one_word(make_config: MakeConfig, own: Own, tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / "ball [9x9]" / split).parent.mkdir(exist_ok=True)
        (tmp_path / "ball [9x9]" / split).symlink_to(own("ball_train", [12] * 5))
    config = make_config(data={"source": str(tmp_path / "ball [9x9]")}, eval=EvalConfig(context=None, horizon=None))
    found = settle(config)[0].data
    assert [Path(str(one)).name for one in (found.source, found.valid_source, found.test_source)] == [
        "train", "valid", "test",
    ]  # fmt: skip
    assert config.label == settle(config)[0].label == "ball [9x9]"
    assert training_source(config).num_episodes == 5


def test_the_context_is_the_scripts_where_episodes_have_one(make_config: MakeConfig, own: Own) -> None:
    config, _ = settle(stored(make_config, own, test_source=own("scripted", [12, 12], context_length=9)))
    assert (config.eval.context, config.eval.horizon) == (9, 3)


@pytest.mark.reported(
    "data",
    "",
    "a test archive of another action width, of one episode, or of episodes too short for eval.context + eval.horizon",
    "`ValueError` before step 1, with the words to type",
)
@pytest.mark.parametrize(
    ("name", "lengths", "more", "evaluation", "words"),
    [
        ("tiny", [2, 1], {}, EvalConfig(context=None, horizon=None), "It takes episodes of at least 3 steps"),
        ("wide", [12, 12], {"actions": 3}, EvalConfig(), r"both with --action-dim 3; else set data\.test_source"),
        ("one", [12], {}, EvalConfig(context=4, horizon=4), "one holds 1 episode: .* expected at least 2"),
        (
            "short", [9, 7, 50], {}, EvalConfig(context=10, horizon=20),
            r"10 \+ 20 steps, but 1 of the 3 episodes .* shortest has 7, .* Say eval\.context=3 eval\.horizon=4\.",
        ),
    ],
)  # fmt: skip
def test_a_test_archive_that_will_not_do_is_refused_before_training(
    make_config: MakeConfig, own: Own, name: str, lengths: list[int], more: dict[str, int], evaluation: EvalConfig,
    words: str,
) -> None:  # fmt: skip
    with pytest.raises(ValueError, match=words):
        settle(stored(make_config, own, test_source=own(name, lengths, **more), eval=evaluation))


@pytest.mark.reported(
    "data",
    "",
    "test episodes of different lengths, some too short",
    "those long enough are used, how many are not is said",
)
def test_short_test_episodes_are_left_out_with_a_word(make_config: MakeConfig, own: Own) -> None:
    evaluation = EvalConfig(context=4, horizon=6)
    config, notes = settle(stored(make_config, own, test_source=own("mixed", [5, 10, 12]), eval=evaluation))
    assert config.eval.episodes == 2
    assert notes[0] == "Left out: 1 of 3 test episodes, shorter than 10 steps."


@pytest.mark.reported(
    "data",
    "",
    "an archive that names no world, without a validation archive; the same archive for both",
    "`ValueError` naming `data.valid_source`; a sentence that the best checkpoint is chosen on training episodes",
)
def test_recordings_are_not_validated_on_a_world(make_config: MakeConfig, own: Own) -> None:
    with pytest.raises(ValueError, match=r"does not say of which world .* data\.valid_source="):
        settle(stored(make_config, own, valid_source=None))
    config, notes = settle(stored(make_config, own, valid_source=own("ball_train", ())))
    assert "chosen on episodes that were trained on" in notes[0]
    assert config.data.test_source == config.data.source


def test_what_is_for_generated_episodes_is_said_to_do_nothing(make_config: MakeConfig, own: Own) -> None:
    assert "are for generated episodes" in settle(stored(make_config, own, episodes=3))[1][0]


def test_rewards_are_not_judged_in_episodes_that_end_in_the_context(make_config: MakeConfig, own: Own) -> None:
    model = dataclasses.replace(ModelConfig.for_size("tiny"), reward_head=True)
    config = stored(make_config, own, test_source=own("long", [40, 40]))
    with pytest.raises(ValueError, match=r"eval\.context=20: no validation episode is longer"):
        settle(dataclasses.replace(config, model=model))


@pytest.mark.reported(
    "data",
    "hydra-ecosystem/hydra#1577",
    "`data.source=$DATA` with DATA unset, so too `valid_source`, `test_source` and `plugins`",
    "`ValueError`: expected a folder, got nothing",
)
def test_nothing_is_no_folder() -> None:
    for key in ("source", "valid_source", "test_source"):
        for nothing in ("", " "):
            with pytest.raises(ValueError, match=f"data.{key}: expected a folder, got nothing"):
                DataConfig(**{key: nothing})
        with pytest.raises(ValueError, match=f"data.{key}: expected a folder, got nothing"):
            compose(RunConfig(backbone="gru"), [f"data.{key}="])
    with pytest.raises(ValueError, match="plugins: expected the name of a module, got nothing"):
        RunConfig(backbone="gru", plugins=[""])
    with pytest.raises(ValueError, match="plugins: expected the name of a module, got nothing"):
        compose(RunConfig(backbone="gru"), ["plugins="])


def notes_of(data: DataConfig, source: EpisodeSource, held_out: EpisodeSource, first_step: str = "model") -> str:
    return " ".join(check_windows(data, source, held_out, period=1, first_step=first_step))


@pytest.mark.reported(
    "data",
    "NM512/dreamerv3-torch, questions on batch_length",
    "windows of one step, or windows longer than every episode",
    "`ValueError` before step 1: nothing would be learnt; the longest that there is",
)
def test_windows_from_which_nothing_is_learnt_are_refused(own: Own) -> None:
    source, single = open_source(own("ball_train", ())), open_source(own("single", [1, 1]))
    with pytest.raises(ValueError, match=r"data\.length=1: the first step .* nothing would be learnt"):
        notes_of(DataConfig(length=1), source, source, "condition")
    assert "2 of 2" not in notes_of(DataConfig(length=1, batch_size=2), source, source)
    for sampler in ("episodes", "persistent"):
        with pytest.raises(ValueError, match="Episodes of one step"):
            notes_of(DataConfig(sampler=sampler), single, source, "condition")
    with pytest.raises(
        ValueError, match=r"data\.length=13: the longest training episode has 12 steps. Take .*=12 or less"
    ):
        notes_of(DataConfig(length=13), source, source)
    with pytest.raises(ValueError, match=r"data\.length=10: the longest validation episode has 9 steps"):
        notes_of(DataConfig(length=10), source, open_source(own("nine", [9])))


@pytest.mark.reported(
    "data",
    "",
    "batches larger than the archive, windows longer than some episodes, images that never change",
    "a sentence each before step 1",
)
def test_what_teaches_little_is_said(own: Own) -> None:
    source = open_source(own("mixed", [5, 10, 12]))
    said = notes_of(DataConfig(length=11, batch_size=4), source, source)
    assert "data.batch_size=4, but there are 3 training episodes" in said
    assert "2 of 3 training episodes are shorter than data.length=11" in said
    assert "never change" not in said
    white = open_source(own("white", [6, 6], moving=False))
    assert "images of the first 2 training episodes never change" in notes_of(DataConfig(length=4), white, white)


@pytest.mark.reported(
    "data", "", "test episodes that are training episodes too, in another folder", "how many is said before step 1"
)
def test_copies_between_training_and_test_are_said(make_config: MakeConfig, own: Own, tmp_path: Path) -> None:
    source = open_source(own("ball_train", ()))
    write_archive(source, tmp_path / "overlap", 2)
    notes = settle(stored(make_config, own, test_source=str(tmp_path / "overlap")))[1]
    assert notes[0].startswith("Test episodes that are training episodes too: 2.")


@pytest.mark.reported(
    "data",
    "",
    "`data.source` is the folder of the recordings themselves, or `FOLDER/train` beside `FOLDER/valid`",
    "`ValueError` naming `wmkit import`; or `data.source=FOLDER`",
)
def test_a_folder_that_is_nearly_right_is_answered_with_the_right_one(
    make_config: MakeConfig, own: Own, tmp_path: Path
) -> None:
    np.savez(tmp_path / "0.npz", image=np.zeros((3, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"no archive here .* `wmkit import`"):
        settle(stored(make_config, own, source=str(tmp_path)))
    for split in ("train", "valid"):
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / "own" / split).symlink_to(own("ball_train", [12] * 5))
    with pytest.raises(ValueError, match=f"all at once with data.source={tmp_path / 'own'}"):
        settle(stored(make_config, own, source=str(tmp_path / "own" / "train"), valid_source=None))


@pytest.mark.reported(
    "data", "", "`config.json` of an older run, without `data.test_source`", "loads; tested as said above"
)
def test_a_config_without_the_key_loads(make_config: MakeConfig, own: Own) -> None:
    config = stored(make_config, own)
    values = config.to_dict()
    del values["data"]["test_source"]
    assert RunConfig.from_dict(values) == config
    assert held_out_source(RunConfig.from_dict(values)).num_episodes == 5
