"""Dicts of arrays, as people have them, become episodes, or a sentence says why not."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wmkit.batch import check_batch
from wmkit.data import Episodes, PersistentWindows, RandomWindows, WholeEpisodes, write_archive
from wmkit.data.own import SIDES
from wmkit.networks.dreamer import stages_and_side


def given(length: int = 5, side: tuple[int, ...] = (8, 8, 3), **changed: Any) -> dict[str, Any]:
    rng = np.random.default_rng(length)
    arrays = {
        "image": rng.integers(0, 256, (length, *side), dtype=np.uint8),
        "action": rng.normal(size=(length, 2)) * (np.arange(length) > 0)[:, None],
    }
    return {key: value for key, value in {**arrays, **changed}.items() if value is not None}


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sentences of warnings: that they come is tested where it matters."""
    sentences: list[str] = []
    monkeypatch.setattr("wmkit.data.own.warnings.warn", lambda note, stacklevel: sentences.append(note))
    return sentences


@pytest.mark.reported(
    "data",
    "",
    "`Episodes([{'image': ..., 'action': ...}, ...])`, float64 actions, no reward, episodes of different lengths",
    "a source: reward, `is_first` and `is_terminal` are filled in, float32; every sampler and `write_archive` take it",
)
def test_episodes_of_dicts_work_in_every_sampler_and_archive(tmp_path, said: list[str]) -> None:
    source = Episodes([given(5), given(9)])
    assert (source.image_shape, source.action_dim, source.num_episodes) == ((3, 8, 8), 2, 2)
    assert said == []
    for sampler in (
        WholeEpisodes(source, 2),
        RandomWindows(source, 2, 4),
        PersistentWindows(source, 2, 4),
        WholeEpisodes(write_archive(source, tmp_path / "archive"), 2),
    ):
        batch = next(sampler)
        check_batch(batch)
        assert batch.image.dtype == torch.uint8
    episode = source.episode(1)
    assert episode["action"].dtype == np.float32
    assert episode["is_first"].tolist() == [True] + [False] * 8
    assert not episode["reward"].any()
    assert not episode["is_terminal"].any()


@pytest.mark.reported(
    "data",
    "Farama-Foundation/Minari#127",
    "integer actions (T,)",
    "one-hot, the width given or the largest one's, said",
)
def test_integer_actions_become_one_hot(said: list[str]) -> None:
    source = Episodes([given(5, action=np.array([0, 1, 0, 2, 1])), given(3, action=np.array([0, 3, 0]))])
    assert source.action_dim == 4
    assert "one-hot of width 4" in said[0]
    assert source.episode(0)["action"].argmax(-1).tolist() == [0, 1, 0, 2, 1]
    assert source.episode(0)["action"].sum(-1).tolist() == [0, 1, 1, 1, 1]
    assert Episodes([given(5, action=np.zeros(5, int))], action_dim=6).action_dim == 6
    wide = given(3, action=np.array([0, 10**7, 0]))
    with pytest.raises(
        ValueError, match=r"episode 1: action: .* one-hot of width 10000001. If .* say action_dim=10000001"
    ):
        Episodes([given(3, action=np.zeros(3, int)), wide])
    assert Episodes([given(3, action=np.array([0, 600, 0]))], action_dim=601).episode(0)["action"][1, 600] == 1
    with pytest.raises(ValueError, match="action_dim: 2, but the largest action is 3: expected at least 4"):
        Episodes([given(3, action=np.array([0, 3, 0]))], action_dim=2)


@pytest.mark.reported(
    "data",
    "",
    "`action` one shorter than `image`, as most logs have it",
    "`ValueError`: action[t] led to image[t]; `actions='after'` puts zeros first",
)
def test_actions_one_short_are_refused_with_the_convention_and_the_way_out() -> None:
    short = given(5, action=np.arange(8.0).reshape(4, 2), reward=np.arange(4.0), is_terminal=np.arange(4) == 3)
    with pytest.raises(ValueError, match=r"episode 0: action: .* action\[t\] .* led to image\[t\].* actions='after'"):
        Episodes([short])
    episode = Episodes([short], actions="after").episode(0)
    assert episode["action"].tolist() == [[0, 0], [0, 1], [2, 3], [4, 5], [6, 7]]
    assert episode["reward"].tolist() == [0, 0, 1, 2, 3]
    assert episode["is_terminal"].tolist() == [False] * 4 + [True]


@pytest.mark.reported(
    "data",
    "",
    "T actions chosen at their images, `actions='after'`; or a first action that is not zero",
    "moved by one step, the last one dropped; without the word a sentence on the convention",
)
def test_actions_chosen_at_their_images_are_moved_by_one_step(said: list[str]) -> None:
    action = np.arange(1.0, 11).reshape(5, 2)
    assert Episodes([given(5, action=action)], actions="after").episode(0)["action"][:, 0].tolist() == [0, 1, 3, 5, 7]
    assert said == []
    assert Episodes([given(5, action=action)]).episode(0)["action"][:, 0].tolist() == [0, 3, 5, 7, 9]
    assert "action[t] led to image[t]" in said[0]


@pytest.mark.reported(
    "data", "", "images channels first (T, 3, H, W)", "`ValueError` with both orders and `image.transpose(0, 2, 3, 1)`"
)
def test_channels_first_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"episode 0: image: .* looks like \(T, C, H, W\): \(5, 3, 8, 8\); give image.tr"
    ):
        Episodes([given(image=np.zeros((5, 3, 8, 8), np.uint8))])
    for channels in (1, 2, 9, 12):
        with pytest.raises(ValueError, match=r"looks like \(T, C, H, W\)"):
            Episodes([given(image=np.zeros((5, channels, 16, 16), np.uint8))])
    assert Episodes([given(image=np.zeros((5, 16, 16, 9), np.uint8))]).image_shape == (9, 16, 16)
    with pytest.raises(ValueError, match=r"looks like one picture \(H, W, C\): \(16, 16, 3\); give a sequence"):
        Episodes([{"image": np.zeros((16, 16, 3), np.uint8)}])


@pytest.mark.reported(
    "data",
    "",
    "masks as images: bool, or integers that nowhere exceed 1; floats divided by 255 twice",
    "the first become 0 and 255; of the others it is said that they are nearly black",
)
def test_masks_are_taken_or_pointed_out(said: list[str]) -> None:
    mask = given()["image"] > 127
    assert (Episodes([given(image=mask)]).episode(0)["image"] == mask * 255).all()
    assert said == ["Images are True and False: they became 255 and 0."]
    said.clear()
    for kind, white in ((np.uint8, 1), (np.int64, 1), (np.float64, 1 / 255)):  # the last was divided twice
        Episodes([given(image=mask.astype(kind) * kind(white))])
        assert "nearly black, nowhere above 1 of 255: multiply them by 255" in said.pop()
    said.clear()
    Episodes([given(), given(image=mask.astype(np.uint8)), given(image=np.zeros_like(mask, np.uint8))])
    Episodes([given(image=np.zeros_like(mask, np.uint8))])
    assert said == []


@pytest.mark.reported(
    "data",
    "",
    "`is_terminal` True before the last step, timestamps as float64, other arrays of T - 1 rows",
    "a sentence each: split there; float32 loses the differences; kept as a constant, not moved",
)
def test_what_may_not_be_meant_is_said(said: list[str]) -> None:
    Episodes([given(is_terminal=np.eye(5)[2])])
    assert "is_terminal is True before the last step in 1 episodes, the first is episode 0" in said.pop()
    Episodes([given(time=1.7e9 + np.arange(5) / 100, place=np.arange(5) / 100)])
    assert said == ["'time' loses its differences as float32, which is kept: subtract its first value."]
    said.clear()
    Episodes([given(action=np.ones((4, 2)), done=np.zeros(4))], actions="after")
    assert "'done' has one row less than image: it is kept as a constant, and not moved" in said.pop()
    assert said == []


@pytest.mark.reported(
    "messages",
    "",
    "`Episodes` of a path, None, keys that are no names, tensors with a gradient or in bfloat16, masked arrays, flags "
    "that are neither 0 nor 1 or of another shape, a size that is no integer, an action_dim for videos",
    "`ValueError` in one sentence; an episode beyond the end: `IndexError` with the range",
)
@pytest.mark.parametrize(
    ("changed", "more", "words"),
    [
        ({1: np.ones(5)}, {}, "episode 0: 1: expected names as keys, got int"),
        ({"obs/pos": np.ones(5)}, {}, "'obs/pos': expected a name .* --rename obs/pos=obs_pos"),
        ({"../../esc": np.ones(5)}, {}, r"'\.\./\.\./esc': expected a name .*=esc"),
        ({"action": torch.zeros(5, 2, requires_grad=True)}, {}, r"action: .* tensor\.detach\(\)"),
        ({"place": torch.zeros(5, 2).bfloat16()}, {}, r"place: .*BFloat16.* tensor\.detach\(\)\.float\(\)"),
        ({"action": np.ma.masked_array(np.ones((5, 2)), np.ones((5, 2)))}, {}, "action: it is masked; array.filled"),
        ({"is_first": True}, {}, r"is_first: expected \(T,\) = \(5,\), True at t = 0 alone, got \(\)"),
        ({"is_first": np.array([1, 0])}, {}, r"is_first: .* got \(2,\)"),
        ({"is_first": np.eye(5)[:, :1]}, {}, r"is_first: .* got \(5, 1\)"),
        ({"is_terminal": np.full(5, np.nan)}, {}, "is_terminal at t = 0 is nan, expected True or False, 1 or 0"),
        ({"is_terminal": np.arange(5) - 1}, {}, "is_terminal at t = 0 is -1"),
        ({"place": np.full((5, 2), 1e300)}, {}, "place at t = 0 is inf"),
        ({}, {"size": 64.0}, r"size: expected a whole number of at least 1, got 64.0 \(float\)"),
        ({}, {"size": "64"}, "size: expected a whole number"),
        ({"action": None}, {"action_dim": 3}, "action_dim: 3, but there are no actions: leave it out for videos"),
        ({"action": np.zeros((0, 2))}, {"actions": "after"}, r"action: expected 5 steps, as image has, got \(0, 2\)"),
    ],
)
def test_raw_values_are_refused_in_a_sentence(changed: dict[Any, Any], more: dict[str, Any], words: str) -> None:
    arrays = {key: value for key, value in {**given(), **changed}.items() if value is not None}
    with pytest.raises(ValueError, match=words):
        Episodes([arrays], **more)


def test_what_is_no_list_of_episodes_is_refused() -> None:
    for wrong in ("recordings", Path("recordings")):
        with pytest.raises(ValueError, match=r"got the path 'recordings': wmkit import .* makes archives"):
            Episodes(wrong)
    with pytest.raises(ValueError, match="expected a list of dicts, one for each episode, got NoneType"):
        Episodes(None)
    one = Episodes([given(1, action=np.zeros(0, int))], actions="after", action_dim=2)  # a step, and no action yet
    assert one.episode(0)["action"].tolist() == [[0, 0]]
    for index in (1, -1):
        with pytest.raises(IndexError, match=f"there are 0 to 0, got {index}"):
            one.episode(index)


@pytest.mark.reported(
    "data",
    "danijar/dreamerv3#12, Eclectic-Sheep/sheeprl#229",
    "images of 84 x 84, 48 x 64 or mixed sizes",
    "resized to the nearest square side that models take, 64 at most, said; `size=` chooses",
)
@pytest.mark.parametrize(
    ("sides", "side", "words"),
    [
        ([(84, 84)], 64, "84 x 84 pixels"),
        ([(48, 64)], 40, "48 x 64 pixels .* 40 x 40, which changes their proportions"),
        ([(30, 30), (16, 16)], 16, "30 x 30"),
        ([(128, 128)], 64, "128 x 128"),
    ],
)
def test_any_size_is_resized_with_a_word(sides: list[tuple[int, int]], side: int, words: str, said: list[str]) -> None:
    image = np.full((5, 128, 128, 3), 7, np.uint8)
    episodes = [given(image=image[:, :height, :width]) for height, width in sides]
    source = Episodes(episodes)
    assert source.image_shape == (3, side, side)
    with pytest.warns(UserWarning, match=words):
        warnings.warn_explicit(said[0], UserWarning, "", 1)
    assert (source.episode(0)["image"] == 7).all()
    assert Episodes(episodes, size=20).image_shape == (3, 20, 20)
    with pytest.raises(ValueError, match=r"size: expected a side that models take, 8, 10, 16, 20, 32, .* got 84"):
        Episodes(episodes, size=84)


def test_sides_are_those_that_networks_take() -> None:
    def taken(side: int) -> bool:
        try:
            stages_and_side((3, side, side))
        except ValueError:
            return False
        return True

    assert [side for side in range(1, SIDES[-1] + 1) if taken(side)] == list(SIDES)


@pytest.mark.reported(
    "data",
    "",
    "images in grey (T, H, W), with transparency, or both kinds and colour",
    "one channel stays one; transparency is dropped, said; beside colour grey gets three channels, said",
)
def test_grey_and_transparent_images_are_handled(said: list[str]) -> None:
    grey, colour, clear = (given(side=side) for side in ((8, 8), (8, 8, 3), (8, 8, 4)))
    assert Episodes([grey]).image_shape == (1, 8, 8)
    assert said == []
    assert Episodes([clear]).image_shape == (3, 8, 8)
    mixed = Episodes([grey, colour])
    assert mixed.image_shape == (3, 8, 8)
    assert (mixed.episode(0)["image"] == grey["image"][..., None]).all()
    assert "transparency" in said[0]
    assert "in grey, others in colour" in said[1]
    with pytest.raises(ValueError, match=r"same number of channels in all episodes, got \[3, 9\]"):
        Episodes([colour, given(side=(8, 8, 9))])


@pytest.mark.reported(
    "data",
    "jsikyoon/dreamer-torch#11",
    "images as floats: in [0, 1], or in 0..255, or negative",
    "the first become bytes, said; the others are a `ValueError` with their range",
)
def test_float_images_are_taken_between_zero_and_one(said: list[str]) -> None:
    image = given()["image"]
    source = Episodes([given(image=image / 255)])
    assert (source.episode(0)["image"] == image).all()
    assert said == ["Images are floats: 0 to 1 became 0 to 255."]
    assert (Episodes([given(image=image.astype(np.int64))]).episode(0)["image"] == image).all()
    for wrong in (image.astype(np.float32), image / 127.5 - 1, np.full(image.shape, np.nan), image.astype(int) + 1):
        with pytest.raises(
            ValueError, match=r"episode 0: image: expected uint8 in 0\.\.255 or floats in \[0, 1\], got"
        ):
            Episodes([given(image=wrong)])


@pytest.mark.reported(
    "data", "", "no `action` in any episode, or in some", "videos (`action_dim` 0), said; else a `ValueError` with both"
)
def test_without_actions_episodes_are_videos(said: list[str]) -> None:
    source = Episodes([given(action=None), given(7, action=None)])
    assert source.action_dim == 0
    assert "no actions" in said[0]
    assert next(WholeEpisodes(source, 2)).action.shape == (2, 7, 0)
    with pytest.raises(ValueError, match="episode 1: no 'action', but episode 0 has one"):
        Episodes([given(), given(action=None)])


def test_other_arrays_are_kept_as_steps_or_constants(said: list[str]) -> None:
    more = {"place": np.ones((5, 2)), "square": np.eye(5), "name": np.array("robot"), "rank": 3}
    other = {"place": np.ones((7, 2)), "square": np.eye(5), "name": np.array("arm"), "rank": 4, "late": np.ones(3)}
    source = Episodes([given(5, **more), given(7, **other)])
    episode = source.episode(0)
    assert set(episode.constants) == {"square", "rank"}
    assert episode.steps["place"].dtype == np.float32
    assert [note.split()[0] for note in said] == ["'late'", "'name'"]


@pytest.mark.reported(
    "data",
    "",
    "no `image`, no episodes, a reset inside, NaN, integers (T, 1), actions (T, 2, 2), other lengths or widths",
    "`ValueError` in one sentence, naming episode and key",
)
@pytest.mark.parametrize(
    ("episodes", "words"),
    [
        ([], "expected at least one, got none"),
        (given(), "expected a list of dicts"),
        ([[1, 2]], "episode 0: expected a dict of arrays such as image and action, got list"),
        ([{"frames": np.zeros(3)}], r"episode 0: no 'image' among \['frames'\]"),
        ([given(image=np.zeros((0, 8, 8, 3), np.uint8))], r"image: expected \(T, H, W, C\), all of them at least 1"),
        ([given(), given(is_first=np.arange(5) % 3 == 0)], "episode 1: another episode begins inside it, .* t = 3"),
        ([given(action=np.full((5, 2), np.nan))], "episode 0: action at t = 1 is nan"),
        ([given(action=np.ones((5, 1), int))], r"integers \(5, 1\) can be read in two ways"),
        ([given(action=np.ones((5, 2, 2)))], r"expected \(T, A\) numbers or \(T,\) integers, got \(5, 2, 2\)"),
        ([given(action=np.array([0, -1, 0, 0, 0]))], "expected integers from 0 on, got -1"),
        ([given(action=np.ones((3, 2)))], r"action: expected 5 steps, as image has, got \(3, 2\)"),
        ([given(), given(action=np.ones((5, 3)))], "episode 1: action: 3 numbers, but 2 numbers in episode 0"),
        ([given(), given(action=np.ones(5, int))], "episode 1: action: integers .* but 2 numbers in episode 0"),
        ([given(reward=np.zeros((5, 1)))], r"reward: expected \(T,\) = \(5,\), got \(5, 1\)"),
        ([given(reward=[[1], [1, 2], [], [], []])], "reward: expected one array of numbers, got Python objects"),
        ([given(image=np.array(["a"] * 5))], "image: expected an array of numbers"),
    ],
)  # fmt: skip
def test_what_makes_no_episode_is_refused(episodes: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Episodes(episodes)


@pytest.mark.reported(
    "data", "", "the same recording twice in a folder or list", "said: it may be trained and tested on"
)
def test_copies_are_pointed_out(said: list[str]) -> None:
    Episodes([given(5), given(6), given(5)])
    assert said == ["Copies of other episodes: 1. One may come to be trained on, and the other tested on."]
