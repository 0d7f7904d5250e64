import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from wmkit.config import DataConfig, EvalConfig, RunConfig
from wmkit.data import GeneratedEpisodes, WholeEpisodes, write_archive
from wmkit.training.batches import (
    build_sampler,
    check_windows,
    settle,
    training_source,
    validation_batches,
    validation_source,
)
from wmkit.training.loop import Summary
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


def test_a_held_out_archive_is_not_trained_on(make_config: MakeConfig, archives: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="holds split 'valid'"):
        training_source(make_config(data={"source": archives["valid"]}))


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


@pytest.mark.parametrize("key", ["source", "valid_source"])
def test_a_missing_folder_is_not_taken_for_a_world(make_config: MakeConfig, key: str) -> None:
    config = make_config(data={key: "/no/such/archive"})
    with pytest.raises(ValueError, match=f"data.{key}=/no/such/archive: there is no such folder"):
        validation_source(config, training_source(config))


def test_windows_that_persist_hold_whole_periods_of_a_clock() -> None:
    data = DataConfig(sampler="persistent", length=10)
    source = GeneratedEpisodes(MovingMnist(side=32), seed=0)
    assert not any(check_windows(data, source, source, period=period, first_step="model") for period in (5, 10, 1))
    with pytest.raises(ValueError, match=r"data\.length=10 .* Take a multiple of 4"):
        check_windows(data, source, source, period=4, first_step="model")


def test_windows_without_a_second_tick_of_the_slowest_level_are_pointed_out() -> None:
    source = GeneratedEpisodes(MovingMnist(side=32), seed=0, length=20)
    whole = GeneratedEpisodes(MovingMnist(side=32), seed=0)
    assert check_windows(DataConfig(length=32), whole, whole, period=16, first_step="model") == []
    for data, of, length in (
        (DataConfig(length=32), whole, 32),
        (DataConfig(sampler="episodes", length=99), source, 20),
    ):
        [note] = check_windows(data, of, of, period=36, first_step="model")
        assert f"{length} steps hold one tick of the slowest level, which has one every 36" in note


def test_an_evaluation_beyond_the_episodes_is_refused_before_training(make_config: MakeConfig) -> None:
    config = make_config(eval=EvalConfig(horizon=500))
    assert settle(config) == (config, [])
    with pytest.raises(ValueError, match=r"501 \+ 501 steps, but an episode of ray_maze_9x9 has 1001"):
        settle(make_config(eval=EvalConfig(horizon=501)))
