"""Strips of frames, and curves: one panel per measure, one line per predictor."""

import numpy as np
import polars as pl
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from wmkit.evaluation.estimates import normal_curve
from wmkit.evaluation.plots.figures import DOTS_PER_INCH, draw_curve, draw_curves, draw_strip
from wmkit.evaluation.plots.video import Video, strip_times
from wmkit.evaluation.predictors import IMAGINED, MEAN_IMAGE
from wmkit.evaluation.record import Curve, Measurements, Metric, frame_of


def measured(*names: str, step: int | None = 1) -> Measurements:
    values = np.arange(40.0).reshape(2, 20) if step else np.ones((2, 1))
    rows = [frame_of(name, who, values, step) for name in names for who in (IMAGINED, MEAN_IMAGE)]
    return Measurements(pl.concat(rows), {name: Metric(name, "units", "lower") for name in names}, 5, 20)


def test_every_measure_with_steps_has_a_panel(tmp_path):
    draw_curves(measured("error"), tmp_path / "one.png", "A world")
    draw_curves(measured("error", "distance", "angle"), tmp_path / "three.png", "A world")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "three.png") as three:
        assert three.size[1] > 1.5 * one.size[1]


def test_measures_of_whole_episodes_have_no_curve(tmp_path):
    draw_curves(measured("right", step=None), tmp_path / "none.png", "A world")
    assert not (tmp_path / "none.png").exists()


def test_a_line_is_the_mean_and_its_band_the_interval():
    axes = Figure().subplots()
    values = np.array([[1.0, 2.0], [3.0, 2.0]])
    draw_curve(axes, Curve(np.array([1.0, 2.0]), *normal_curve(values, np.ones((2, 2), bool))), "us", "tab:red", "--")
    [line], [band] = axes.get_lines(), axes.collections
    assert line.get_ydata().tolist() == [2.0, 2.0]
    assert (line.get_label(), line.get_color(), line.get_linestyle()) == ("us", "tab:red", "--")
    assert band.get_paths()[0].vertices[:, 1].max() > 3.9


def test_strip_grows_with_episodes_and_times(tmp_path):
    frames = torch.randint(256, (2, 30, 3, 8, 8), dtype=torch.uint8)
    draw_strip(Video(frames, frames, 10), tmp_path / "strip.png", "A world")
    with Image.open(tmp_path / "strip.png") as image:
        width, height = image.size
    columns = len(strip_times(10, 20))
    assert abs(width - DOTS_PER_INCH * (1.05 * columns + 0.7)) <= 1
    assert abs(height - DOTS_PER_INCH * (1.08 * 4 + 0.9)) <= 1


def test_a_strip_shows_three_episodes_and_below_each_the_model_without_memory(tmp_path, monkeypatch):
    frames = torch.randint(256, (5, 30, 3, 8, 8), dtype=torch.uint8)
    shown = []
    keep = Axes.imshow
    monkeypatch.setattr(Axes, "imshow", lambda self, image, **k: shown.append(image) or keep(self, image, **k))
    draw_strip(Video(frames, 255 - frames, 10, frames[:, 9:] // 2), tmp_path / "strip.png", "A world")
    times = strip_times(10, 20)
    expected = [
        source[episode, time].permute(1, 2, 0).numpy()
        for episode in range(3)
        for source, first in ((frames, 0), (255 - frames, 0), (frames // 2, 9))
        for time in times
        if time >= first
    ]
    assert len(shown) == len(expected)
    for image, wanted in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(image, wanted)


@pytest.mark.reported("friction", "", "a strip of episodes with a horizon of 1 step", "its title is broken over lines")
@pytest.mark.reported("names", "", "a strip whose title, the name of an archive, has `$` in it", "the title as it is")
def test_a_title_is_whole_on_a_narrow_strip_and_is_no_formula(tmp_path, monkeypatch):
    titles = []
    keep = Figure.suptitle
    monkeypatch.setattr(Figure, "suptitle", lambda *a, **k: titles.append(keep(*a, **k)) or titles[-1])
    frames = torch.randint(256, (1, 3, 3, 8, 8), dtype=torch.uint8)
    draw_strip(Video(frames, frames, 2), tmp_path / "strip.png", "gru (tiny) on own$data/$x_^{")
    [title] = titles
    assert title.get_text().startswith("gru (tiny) on own$data/$x_^{\n")
    box = title.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= DOTS_PER_INCH * title.get_figure().get_figwidth()
