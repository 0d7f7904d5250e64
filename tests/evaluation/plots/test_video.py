"""Frames for the eye, and the GIF."""

import numpy as np
import pytest
import torch
from PIL import Image

from wmkit.evaluation.plots.video import (
    CONTEXT_COLOUR,
    CONTEXT_SHOWN,
    GAP,
    LAST_MILLISECONDS,
    MILLISECONDS,
    QUERY_COLOUR,
    SCALE,
    TEXT_HEIGHT,
    Video,
    page,
    write_video,
)


def make_video(episodes=3, channels=3, context=4, length=9, side=8):
    truth = torch.randint(256, (episodes, length, channels, side, side), dtype=torch.uint8)
    return Video(truth, 255 - truth, context)


def test_page_has_two_pairs_side_by_side_and_is_enlarged():
    side = (8 + 2) * SCALE
    one, two, three = (page(make_video(episodes=n), 0).size for n in (1, 2, 3))
    assert one == (2 * side, side + TEXT_HEIGHT)
    assert two == (4 * side + GAP * SCALE, side + TEXT_HEIGHT)
    assert three == (4 * side + GAP * SCALE, 2 * side + GAP * SCALE + TEXT_HEIGHT)


@pytest.mark.parametrize(("time", "colour"), [(0, CONTEXT_COLOUR), (3, CONTEXT_COLOUR), (4, QUERY_COLOUR)])
def test_frames_are_marked_as_context_or_query(time, colour):
    pixels = np.asarray(page(make_video(), time).convert("RGB"))
    assert np.abs(pixels[TEXT_HEIGHT, 5].astype(int) - colour).max() <= 8  # the palette may round
    assert (pixels[:TEXT_HEIGHT] == colour).all(axis=-1).sum() > 100  # so is the text


def test_page_shows_truth_beside_the_model():
    black = torch.zeros(1, 3, 3, 8, 8, dtype=torch.uint8)
    pixels = np.asarray(page(Video(black, black + 200, context=1), 2).convert("RGB"))
    middle = TEXT_HEIGHT + 5 * SCALE
    assert pixels[middle, 5 * SCALE].max() <= 4
    assert abs(int(pixels[middle, 15 * SCALE].mean()) - 200) <= 4


def test_gif_has_a_frame_per_step_and_loops(tmp_path):
    video = make_video()
    write_video(video, tmp_path / "video.gif")
    with Image.open(tmp_path / "video.gif") as image:
        assert image.n_frames == 9
        assert image.size == page(video, 0).size
        assert image.info["loop"] == 0


def test_gif_begins_a_little_before_the_query(tmp_path):
    video = make_video(episodes=1, context=60, length=63)
    write_video(video, tmp_path / "video.gif")
    with Image.open(tmp_path / "video.gif") as image:
        assert image.n_frames == CONTEXT_SHOWN + 3


def test_grey_images_are_shown_too():
    video = make_video(channels=1)
    assert video.frame(video.truth, 0, 0).shape == (8, 8, 3)


def test_other_file_types_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.gif or \.mp4"):
        write_video(make_video(), tmp_path / "video.avi")


def test_mp4_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install av"):
        write_video(make_video(), tmp_path / "video.mp4")


def test_mp4_has_a_frame_per_step_and_holds_the_last(tmp_path):
    av = pytest.importorskip("av")
    write_video(make_video(), tmp_path / "video.mp4")
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert len(list(container.decode(video=0))) == 9 + LAST_MILLISECONDS // MILLISECONDS


def test_videos_that_do_not_match_are_refused():
    frames = torch.zeros(1, 5, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="two equal shapes"):
        Video(frames, frames[:, :4], 2)
    with pytest.raises(ValueError, match="uint8"):
        Video(frames, frames.float(), 2)
    with pytest.raises(ValueError, match=r"context within 1\.\.4"):
        Video(frames, frames, 5)
