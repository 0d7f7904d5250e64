"""Frames for the eye, and the GIF."""

import numpy as np
import pytest
import torch
from PIL import Image

from wmkit.evaluation.film import (
    CONTEXT_COLOUR,
    CONTEXT_SHOWN,
    GAP,
    QUERY_COLOUR,
    SCALE,
    TEXT_HEIGHT,
    Film,
    page,
    write_gif,
)


def make_film(episodes=3, channels=3, context=4, length=9, side=8):
    truth = torch.randint(256, (episodes, length, channels, side, side), dtype=torch.uint8)
    return Film(truth, 255 - truth, context)


def test_page_has_two_pairs_side_by_side_and_is_enlarged():
    side = (8 + 2) * SCALE
    one, two, three = (page(make_film(episodes=n), 0).size for n in (1, 2, 3))
    assert one == (2 * side, side + TEXT_HEIGHT)
    assert two == (4 * side + GAP * SCALE, side + TEXT_HEIGHT)
    assert three == (4 * side + GAP * SCALE, 2 * side + GAP * SCALE + TEXT_HEIGHT)


@pytest.mark.parametrize(("time", "colour"), [(0, CONTEXT_COLOUR), (3, CONTEXT_COLOUR), (4, QUERY_COLOUR)])
def test_frames_are_marked_as_context_or_query(time, colour):
    pixels = np.asarray(page(make_film(), time).convert("RGB"))
    assert np.abs(pixels[TEXT_HEIGHT, 5].astype(int) - colour).max() <= 8  # the palette may round
    assert (pixels[:TEXT_HEIGHT] == colour).all(axis=-1).sum() > 100  # so is the text


def test_page_shows_truth_beside_the_model():
    black = torch.zeros(1, 3, 3, 8, 8, dtype=torch.uint8)
    pixels = np.asarray(page(Film(black, black + 200, context=1), 2).convert("RGB"))
    middle = TEXT_HEIGHT + 5 * SCALE
    assert pixels[middle, 5 * SCALE].max() <= 4
    assert abs(int(pixels[middle, 15 * SCALE].mean()) - 200) <= 4


def test_gif_has_a_frame_per_step_and_loops(tmp_path):
    film = make_film()
    write_gif(film, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as image:
        assert image.n_frames == 9
        assert image.size == page(film, 0).size
        assert image.info["loop"] == 0


def test_gif_begins_a_little_before_the_query(tmp_path):
    film = make_film(episodes=1, context=60, length=63)
    write_gif(film, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as image:
        assert image.n_frames == CONTEXT_SHOWN + 3


def test_grey_images_are_shown_too():
    film = make_film(channels=1)
    assert film.frame(film.truth, 0, 0).shape == (8, 8, 3)


def test_other_file_types_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.gif"):
        write_gif(make_film(), tmp_path / "film.mp4")


def test_films_that_do_not_match_are_refused():
    frames = torch.zeros(1, 5, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="two equal shapes"):
        Film(frames, frames[:, :4], 2)
    with pytest.raises(ValueError, match="uint8"):
        Film(frames, frames.float(), 2)
    with pytest.raises(ValueError, match=r"context within 1\.\.4"):
        Film(frames, frames, 5)
