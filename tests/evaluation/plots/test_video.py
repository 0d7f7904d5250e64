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
    caption,
    heading,
    page,
    sheet,
    strip_times,
    write_video,
)


def make_video(episodes=3, channels=3, context=4, length=9, side=8):
    truth = torch.randint(256, (episodes, length, channels, side, side), dtype=torch.uint8)
    return Video(truth, 255 - truth, context)


def test_page_has_two_pairs_side_by_side_and_is_enlarged():
    side = (64 + 2) * SCALE
    one, two, three = (page(make_video(episodes=n, side=64), 0).size for n in (1, 2, 3))
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


@pytest.mark.reported(
    "friction", "google/mediapy#2", "a film of frames of 1 channel", "grey: the channel is red, green and blue"
)
@pytest.mark.reported("friction", "ilastik/ilastik#1066", "a film of frames of 2 channels", "the last one in grey")
@pytest.mark.reported("friction", "google/mediapy#2", "a film of RGBA frames", "their red, green and blue, not black")
@pytest.mark.reported(
    "friction", "ilastik/ilastik#1066", "a film of 9 channels, three frames stacked", "the last three"
)
@pytest.mark.parametrize(
    ("channels", "shown", "words"),
    [(1, [0, 0, 0], ""), (2, [1, 1, 1], "channel 2 of 2"), (3, [0, 1, 2], ""), (4, [0, 1, 2], "channels 1-3 of 4"),
     (9, [6, 7, 8], "channels 7-9 of 9")],
)  # fmt: skip
def test_one_and_three_channels_are_shown_and_of_others_three_that_the_caption_names(channels, shown, words):
    video = make_video(channels=channels)
    frame = video.frame(video.truth, 1, 2)
    assert (frame == video.truth[1, 2, shown].permute(1, 2, 0).numpy()).all()
    assert caption(video, 2).endswith(words or "context 3 of 4")


@pytest.mark.reported(
    "friction", "", "a film of one episode of 16 pixels", "a page as wide as its caption, step number and all"
)
@pytest.mark.parametrize("side", [8, 16, 20])
def test_the_caption_of_a_small_episode_is_whole(side):
    narrow, wide = (make_video(episodes=n, side=side, channels=4) for n in (1, 8))
    assert caption(narrow, 8) == "truth | imagination    step 5 of 5    channels 1-3 of 4"
    for time in (0, 3, 4, 8):
        inked = [
            np.asarray(page(video, time).convert("RGB"))[:TEXT_HEIGHT].min(-1).min(0) < 200 for video in (narrow, wide)
        ]
        ends = [int(np.flatnonzero(columns).max()) for columns in inked]
        assert ends[0] == ends[1] < len(inked[0]) - 1
    assert len({page(narrow, time).size for time in range(9)}) == 1


def test_a_sheet_has_a_column_for_each_step_and_a_line_of_truth_above_each_of_the_model():
    video = make_video(episodes=2, context=2, length=5)
    picture = sheet(video, [heading(time, 2) for time in range(5)])
    scale = 10  # 10 pixels with the border, at least 100 a column
    assert picture.shape == (TEXT_HEIGHT + scale * 10 * 4, scale * (5 * 10 + 4 * GAP), 3)
    for column, colour in ((0, CONTEXT_COLOUR), (1, CONTEXT_COLOUR), (2, QUERY_COLOUR), (4, QUERY_COLOUR)):
        left = scale * column * (10 + GAP)
        assert (picture[TEXT_HEIGHT, left] == colour).all()
        assert (picture[:TEXT_HEIGHT, left : left + 60] == colour).all(-1).any(), "a heading in the colour"
        for line, frame in enumerate((video.truth[0], video.model[0], video.truth[1], video.model[1])):
            shown = picture[TEXT_HEIGHT + scale * (10 * line + 1) :, left + scale :][
                : 8 * scale : scale, : 8 * scale : scale
            ]
            assert (shown == frame[column].permute(1, 2, 0).numpy()).all()


def test_a_strip_shows_the_end_of_the_context_and_the_end_of_the_query():
    times = strip_times(context=50, horizon=50)
    assert times == [16, 33, 49, 50, 51, 54, 59, 69, 84, 99]
    assert [heading(time, 50) for time in times[1:5]] == ["seen 34", "seen 50", "+1", "+2"]
    assert strip_times(context=2, horizon=1) == [0, 1, 2]
    assert strip_times(context=10, horizon=8)[-1] == 17


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
