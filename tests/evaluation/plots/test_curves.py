"""Curves: one panel per measure, one line per predictor."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from PIL import Image

from wmkit.evaluation.intervals import normal_curve
from wmkit.evaluation.plots.curves import draw_curve, draw_curves
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
