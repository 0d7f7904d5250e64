"""What imagined frames follow once one part of the state is another episode's, or empty."""

import pytest
import torch

from tests.probing.conftest import both, cue
from wmkit.evaluation.held_out import read_episodes
from wmkit.probing import ForeignModel
from wmkit.probing.state import RESET, SWAP, replace_parts


def two_parts(shown: float, initial=True) -> ForeignModel:
    """Beside each other on the frames: 3, and `shown`, times the number of the episode, which actions tell; held while
    it imagines.
    """

    def empty(rows):
        return {"large": torch.zeros(rows, 1), "small": torch.zeros(rows, 1)}

    def step(embedding, action, state):
        if embedding is not None:
            number = action[:, :1]
            state = {"large": 3 * number, "small": shown * number}
        return torch.cat([state["large"], state["small"]], 1), state

    def decode(features):
        return features.repeat_interleave(32, 1).view(-1, 1, 8, 8)

    return ForeignModel(lambda image: image.flatten(1), step, decode, initial=empty if initial is True else initial)


def episodes():
    batch = read_episodes(both(cue)[1], range(3), 10)
    batch.action[..., 0] = torch.tensor([1.0, 2.0, 4.0])[:, None]
    return batch


@pytest.mark.parametrize("metric", [SWAP, RESET])
def test_frames_follow_the_part_that_they_show_and_not_one_that_they_do_not(metric) -> None:
    found = replace_parts(two_parts(0), episodes(), 6, [0, 1, 2])[metric]
    assert found.keys() == {"large", "small"}
    assert found["large"].shape == (3, 4)
    assert (found["large"] == 1).all()
    assert (found["small"] == 0).all()


@pytest.mark.parametrize("metric", [SWAP, RESET])
def test_frames_that_show_both_parts_follow_each_by_what_it_changes(metric) -> None:
    found = replace_parts(two_parts(1), episodes(), 6, [0, 1, 2])[metric]
    assert found["large"] == pytest.approx(0.75)
    assert found["small"] == pytest.approx(0.25)


def test_without_a_state_to_begin_with_nothing_is_reset() -> None:
    assert replace_parts(two_parts(1, initial=None), episodes(), 6, [0, 1, 2]).keys() == {SWAP}


def test_an_initial_state_of_other_parts_is_refused() -> None:
    model = two_parts(1, initial=lambda rows: {"large": torch.zeros(rows, 1)})
    with pytest.raises(
        ValueError, match=r"initial: expected a state with the parts \['large', 'small'\], got \['large'\]"
    ):
        replace_parts(model, episodes(), 6, [0, 1, 2])
