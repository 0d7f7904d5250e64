"""The strip as a file."""

import torch
from PIL import Image

from wmkit.evaluation.plots.strips import DOTS_PER_INCH, draw_strip, strip_times
from wmkit.evaluation.plots.video import Video


def test_strip_grows_with_episodes_and_times(tmp_path):
    frames = torch.randint(256, (2, 30, 3, 8, 8), dtype=torch.uint8)
    draw_strip(Video(frames, frames, 10), tmp_path / "strip.png", "A world")
    with Image.open(tmp_path / "strip.png") as image:
        width, height = image.size
    columns = len(strip_times(10, 20))
    assert abs(width - DOTS_PER_INCH * (1.05 * columns + 0.7)) <= 1
    assert abs(height - DOTS_PER_INCH * (1.08 * 4 + 0.9)) <= 1


def test_strip_shows_the_end_of_the_context_and_the_end_of_the_query():
    times = strip_times(context=50, horizon=50)
    assert times == [16, 33, 49, 50, 51, 54, 59, 69, 84, 99]
    assert strip_times(context=2, horizon=1) == [0, 1, 2]
    assert strip_times(context=10, horizon=8)[-1] == 17
