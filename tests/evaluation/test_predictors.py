"""One name, label and line for each predictor, and the frames of those without a model."""

import pytest
import torch

from wmkit.batch import Batch
from wmkit.evaluation.predictors import (
    BLACK,
    COPY_LAST,
    IMAGINED,
    INITIAL_MAP,
    MEAN_IMAGE,
    OBSERVED,
    OTHER_CLIP,
    PREDICTORS,
    RANDOM_FRAME,
    TRUE_FRAMES,
    Clips,
    in_order,
    make_baselines,
    mean_image,
    predictor,
    register_baseline,
)


def test_no_two_predictors_look_alike():
    assert len({(p.colour, p.dash) for p in PREDICTORS.values()}) == len(PREDICTORS)
    assert len({p.label for p in PREDICTORS.values()}) == len(PREDICTORS)


def test_an_unknown_predictor_has_a_line_that_depends_on_its_name_alone():
    assert predictor("no_memory") == predictor("no_memory")
    assert predictor("no_memory").label == "no memory"


def test_order_is_that_of_the_table_and_others_come_last():
    assert in_order({"zebra", IMAGINED, "ape", MEAN_IMAGE, OBSERVED}) == [
        OBSERVED,
        IMAGINED,
        MEAN_IMAGE,
        "ape",
        "zebra",
    ]


def numbered_clips(rows: int, length: int, context: int, seed: int = 1) -> Clips:
    """Frame (b, t) is constant, 20 b + t."""
    values = 20 * torch.arange(rows)[:, None] + torch.arange(length)
    image = values.to(torch.uint8)[:, :, None, None, None].expand(-1, -1, 3, 4, 4)
    zeros = torch.zeros(rows, length)
    batch = Batch(
        image=image,
        action=zeros[..., None],
        reward=zeros,
        is_first=zeros.bool(),
        is_terminal=zeros.bool(),
        mask=~zeros.bool(),
        inner_reset=False,
    )
    return Clips(batch, context, mean_image(image), torch.Generator().manual_seed(seed))


def values_of(clips: Clips, name: str) -> list[list[int]]:
    frames = make_baselines(clips)[name]
    return [frames(row)[:, 0, 0, 0].tolist() for row in range(clips.batch.shape[0])]


def test_mean_image_is_the_mean_over_rows_and_times():
    clips = numbered_clips(2, 3, 2)  # 0 1 2 20 21 22
    torch.testing.assert_close(clips.mean, torch.full((3, 4, 4), 11 / 255))
    assert make_baselines(clips)[MEAN_IMAGE](1).shape == (3, 3, 4, 4)  # context and query


def test_baselines_of_the_query_are_what_they_are_called():
    clips = numbered_clips(3, 9, 6)
    assert values_of(clips, COPY_LAST) == [[5] * 3, [25] * 3, [45] * 3]
    assert values_of(clips, BLACK) == [[0] * 3] * 3
    assert values_of(clips, OTHER_CLIP) == [[46, 47, 48], [6, 7, 8], [26, 27, 28]]
    assert values_of(clips, TRUE_FRAMES) == [[6, 7, 8], [26, 27, 28], [46, 47, 48]]


def test_what_the_episodes_do_not_have_is_left_out():
    assert INITIAL_MAP not in make_baselines(numbered_clips(2, 4, 2))


@pytest.mark.parametrize("rows", [2, 5])
def test_random_frames_are_never_of_the_same_episode(rows):
    clips = numbered_clips(rows, 12, 2)
    drawn = torch.cat([torch.tensor(values_of(clips, RANDOM_FRAME)) for _ in range(20)], dim=1)
    assert drawn.shape == (rows, 200)
    assert not (drawn // 20 == torch.arange(rows)[:, None]).any()
    assert set((drawn[0] // 20).tolist()) == set(range(1, rows))  # each other episode is used,
    assert set((drawn % 20).unique().tolist()) == set(range(12))  # at each time


def test_random_frames_are_fixed_by_the_generator():
    first, same, other = (values_of(numbered_clips(4, 10, 4, seed), RANDOM_FRAME) for seed in (3, 3, 4))
    assert first == same != other


def test_random_frames_need_another_episode():
    with pytest.raises(ValueError, match="at least 2 episodes"):
        make_baselines(numbered_clips(1, 5, 3))


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(ValueError, match="'black' is already registered"):
        register_baseline(BLACK)(lambda clips: None)
