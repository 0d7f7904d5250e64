import dataclasses

import numpy as np
import pytest
import torch

from wmkit.data import Episode, GeneratedEpisodes, WholeEpisodes, check_batch, check_episode


def with_value(array, index, value):
    array = array.copy()
    array[index] = value
    return array


BAD = {
    "image": [
        (lambda x: x.astype(np.float32), r"image: expected \(T, H, W, C\) uint8"),
        (lambda x: x.transpose(0, 3, 1, 2), r"image: expected \(4, 4, 4, 3\) uint8, got \(4, 3, 4, 4\)"),
        (lambda x: x[..., 0], r"image: expected \(T, H, W, C\)"),
        (lambda x: x[:0], "T >= 1"),
    ],
    "action": [
        (lambda x: x[:, :1], r"action: expected \(4, 2\) float32, got \(4, 1\)"),
        (lambda x: x[1:], r"action: expected \(4, 2\) float32, got \(3, 2\)"),
        (lambda x: x.astype(np.float64), "got .* float64"),
        (lambda x: x[:, 0].astype(int), r"got int64 \(4,\): one-hot they are np.eye\(A, dtype=np.float32\)\[action\]"),
        (lambda x: x[:, 0], r"action: expected \(4, 2\) float32, got \(4,\) float32"),
        (lambda x: x[0, 0][()], r"action: expected \(4, 2\) float32, got \(\) float32"),
        (lambda x: x.tolist(), r"action: expected a NumPy array, got a list; np.asarray makes one"),
        (lambda x: x.astype(">f4"), r"action: expected \(4, 2\) float32, got \(4, 2\) >f4"),
        (lambda x: with_value(x, (2, 1), np.inf), r"action at t = 2 is inf \(index \(2, 1\)\)"),
    ],
    "reward": [(lambda x: with_value(x, 3, np.nan), "reward at t = 3 is nan"), (lambda x: x[None], "reward: expected")],
    "is_first": [(lambda x: ~x, r"is_first\[0\] is False"), (lambda x: x.astype(np.uint8), "is_first: expected")],
    "agent_pos": [
        (lambda x: with_value(x, (1, 0), np.nan), "agent_pos at t = 1 is nan"),
        (lambda x: x.astype(str), "agent_pos: expected a bool, integer or float array"),
        (lambda x: {"x": x}, r"agent_pos: expected a NumPy array, got a dict; each of its entries needs a key"),
        (lambda x: None, r"agent_pos: expected a NumPy array, got a NoneType; np.asarray makes one"),
        (lambda x: torch.from_numpy(x), r"agent_pos: expected a NumPy array, got a Tensor; np.asarray makes one"),
        (lambda x: np.ma.masked_less(x, 1), r"expected a NumPy array, got a MaskedArray; array.filled\(...\) says"),
        (lambda x: x.astype(object), "agent_pos: expected a bool, integer or float array, got object"),
        (lambda x: x.astype(np.longdouble), r"agent_pos: expected at most 8 bytes a number .* got .f16; array.astype"),
        (lambda x: x.astype(">f8"), r"agent_pos: expected at most 8 bytes a number in this machine's order, got >f8"),
        (lambda x: x[1:], r"agent_pos: expected a leading axis of T = 4 steps, got \(3, 2\); put it into constants"),
        (lambda x: x[0, 0], r"agent_pos: expected a leading axis of T = 4 steps, got \(\); put it into constants"),
    ],
    "context_length": [(lambda x: np.asarray(np.nan), "context_length is nan")],
}


@pytest.mark.reported(
    "shapes",
    "Farama-Foundation/Minari#127",
    "an episode with numbers of actions (T,), lists, dicts, `longdouble` or objects",
    "`ValueError`, episode and key, and what to write",
)
@pytest.mark.reported(
    "shapes", "", "an episode with masked arrays, another byte order or tensors", "`ValueError`, episode and key"
)
@pytest.mark.parametrize(("key", "change", "message"), [(k, c, m) for k, cases in BAD.items() for c, m in cases])
def test_a_bad_episode_is_refused_with_its_key_and_place(list_source, key, change, message):
    episode = list_source([4]).episodes[0]
    check_episode(episode, "Episode 9", (3, 4, 4), 2)
    group = "steps" if key in episode.steps else "constants"
    changed = dataclasses.replace(episode, **{group: getattr(episode, group) | {key: change(episode[key])}})
    with pytest.raises(ValueError, match=rf"^Episode 9: .*{message}"):
        check_episode(changed, "Episode 9", (3, 4, 4), 2)


def test_a_missing_key_is_named(list_source):
    episode = list_source([4]).episodes[0]
    constants = {"reward": episode.steps.pop("reward")}
    for one in (episode, Episode(episode.steps, constants)):
        with pytest.raises(ValueError, match=r"missing \['reward'\]"):
            check_episode(one, "Episode 9")


def test_a_dict_is_no_episode(list_source):
    with pytest.raises(
        ValueError, match=r"^Episode 9: expected a wmkit\.data\.Episode\(steps, constants\), got <class 'dict'>"
    ):
        check_episode(dict(list_source([4]).episodes[0]), "Episode 9")


@pytest.mark.parametrize("key", ["action", "reward", "agent_pos"])
def test_a_nan_in_a_batch_is_named_by_row_and_step(list_source, key):
    batch = next(WholeEpisodes(list_source([4, 4]), 2, shuffle=False, keys=["agent_pos"]))
    check_batch(batch)
    value = batch.extras[key] if key in batch.extras else getattr(batch, key)
    value[1, 3] = torch.nan
    with pytest.raises(ValueError, match=rf"{key} is nan in row 1 at t = 3"):
        check_batch(batch)


def test_a_float_image_in_a_batch_is_refused(list_source):
    batch = next(WholeEpisodes(list_source([4]), 1))
    with pytest.raises(ValueError, match=r"Batch.image: expected torch.uint8, got torch.float32"):
        check_batch(batch.map(lambda x: x.float() if x.dtype == torch.uint8 else x))


def test_bad_arguments_of_a_generated_source_are_refused():
    with pytest.raises(ValueError, match=r"split: expected one of .*'valid'.*got 'dev'"):
        GeneratedEpisodes("toy", seed=0, split="dev")
    with pytest.raises(ValueError, match="1 to 23 steps, got 24"):
        GeneratedEpisodes("toy", seed=0, length=24)


def test_an_action_that_is_numbers_is_refused_whatever_the_width_is(list_source):
    episode = list_source([4]).episodes[0]
    for action, message in (
        (np.zeros(4, np.int64), "one-hot they are"),
        (np.zeros(4, np.float32), r"action: expected \(4, A\) float32, got \(4,\) float32"),
        (np.zeros((4, 0), np.float32), None),
        (np.zeros((4, 3), np.float32), None),
    ):
        changed = Episode({**episode.steps, "action": action}, episode.constants)
        if message is None:
            check_episode(changed, "Episode 9")
            continue
        with pytest.raises(ValueError, match=message):
            check_episode(changed, "Episode 9")


@pytest.mark.reported("shapes", "", "`Episode` of a list or of None", "`ValueError`: a dict of NumPy arrays")
def test_the_groups_of_an_episode_are_dicts():
    for steps in ([1], None):
        with pytest.raises(ValueError, match=r"Episode.steps: expected a dict of NumPy arrays, got a (list|NoneType)"):
            Episode(steps)
    with pytest.raises(ValueError, match=r"Episode.constants: expected a dict of NumPy arrays, got a list"):
        Episode({}, [])


@pytest.mark.reported("shapes", "", "`check_batch` of a dict", "`ValueError`: `Batch.of` makes one")
def test_a_dict_is_no_batch():
    with pytest.raises(ValueError, match=r"batch: expected a wmkit.Batch, got a dict; Batch.of makes one"):
        check_batch({"image": torch.zeros(1)})
