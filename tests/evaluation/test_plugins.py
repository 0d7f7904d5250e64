"""A measure, and a probe with a baseline and a curve, each in one file outside the package: they appear everywhere."""

import dataclasses
import importlib
import io
import json
import sys

import pytest
import torch
from rich.console import Console

from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit.evaluation import HeldOutValidation, Measurements, evaluate_run
from wmkit.evaluation.measures import base
from wmkit.evaluation.plots import figures
from wmkit.evaluation.rollout import joined
from wmkit.loading import load
from wmkit.training.command import train_in_folder
from wmkit.training.run_folder import RunFolder

MEASURE = '''
"""How dark are imagined frames, compared with true ones?"""

from wmkit.evaluation import Beats, Measure, Metric, register_measure


@register_measure("brightness")
class Brightness(Measure):
    """The difference of the mean brightness of a frame."""

    metrics = (
        Metric("brightness_error", "grey levels", "lower", headline=True, claims=(Beats("imagined", "mean_image"),)),
    )

    def score(self, prediction, truth):
        ours, theirs = (frames.mean((-3, -2, -1)) for frames in (prediction.frames, truth.image / 255))
        return {"brightness_error": 255 * (ours - theirs).abs()}
'''
PROBE = '''
"""Where is the agent? A linear probe on features, beside the mean position."""

import torch

from wmkit.evaluation import Beats, Measure, Metric, register_measure


@register_measure("agent")
class AgentPosition(Measure):
    """Distance of a linear reading of the features to the agent's position."""

    metrics = (
        Metric("agent_distance", "cells", "lower", validated=True, claims=(Beats("imagined", "constant"),)),
    )
    needs, keys = "features", ("agent_pos",)
    predictors = ("observed", "imagined", "shuffled_actions")

    def prepare(self, setting, truth):
        batch = setting.training_batch(4, self.keys)
        features = setting.observed(batch).flatten(0, 1).cpu()
        position = batch.extras["agent_pos"].flatten(0, 1).float()
        self.mean = position.mean(0)
        square = features.T @ features + 1e-2 * torch.eye(features.shape[1])
        self.weights = torch.linalg.solve(square, features.T @ (position - self.mean))

    def score(self, prediction, truth):
        found = prediction.features.cpu() @ self.weights + self.mean
        return {"agent_distance": (found - truth.extras["agent_pos"].cpu()).norm(dim=-1)}

    def answers(self, truth):
        return {"constant": {"agent_distance": (truth.extras["agent_pos"] - self.mean).norm(dim=-1)}}
'''


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return RunConfig(
        backbone="gru",
        size="tiny",
        data=DataConfig(length=6, batch_size=2, episode_length=12, episodes=4, workers=0),
        train=TrainConfig(steps=1, device="cpu"),
        eval=EvalConfig(episodes=3, context=5, horizon=7),
    )


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train_in_folder(config, RunFolder(folder))
    return folder


@pytest.fixture
def plug_in(monkeypatch, tmp_path):
    """Write a module of at most 40 lines and import it as `plugins=` would; what it registers is forgotten."""
    monkeypatch.setattr(base._measures, "by_name", base.all_measures())
    monkeypatch.syspath_prepend(tmp_path)

    def load(name: str, text: str) -> None:
        assert len(text.strip().splitlines()) <= 40
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.import_module(name)

    return load


def everything_of(run, out, monkeypatch) -> tuple[Measurements, str, list[str]]:
    """Evaluate: what was measured, what was printed, and the labels and titles of the curves."""
    monkeypatch.setattr("wmkit.evaluation.plots.figures.draw_strip", lambda *_: None)
    drawn: list[str] = []
    finish = figures.finish_panel
    monkeypatch.setattr(
        figures,
        "finish_panel",
        lambda axes, metric, horizon: drawn.append(metric.name) or finish(axes, metric, horizon),
    )
    console = Console(file=io.StringIO(), width=160, record=True)
    return evaluate_run(run, out=out, console=console), console.export_text(), drawn


def test_a_measure_in_one_file_appears_in_tables_files_and_curves(plug_in, run, tmp_path, monkeypatch):
    plug_in("brightness_plugin", MEASURE)
    found, printed, drawn = everything_of(run, tmp_path / "out", monkeypatch)
    assert found.values("brightness_error", "imagined").shape == (3, 7)
    assert "brightness error: lower is better" in printed
    assert "brightness error: imagined is better than mean image" in " ".join(printed.split())
    assert "brightness_error" in drawn
    saved = json.loads((tmp_path / "out" / "evaluation.json").read_text())["measures"]["brightness_error"]
    assert (saved["unit"], saved["headline"]) == ("grey levels", True)
    assert len(saved["predictors"]["copy_last"]["curve"]["mean"]) == 7
    assert Measurements.load(tmp_path / "out").frame.equals(found.frame)
    assert "brightness error" in (tmp_path / "out" / "evaluation.md").read_text()


def test_a_probe_in_one_file_appears_with_its_baseline_and_its_curve(plug_in, run, tmp_path, monkeypatch):
    plug_in("agent_plugin", PROBE)
    found, printed, drawn = everything_of(run, tmp_path / "out", monkeypatch)
    assert found.predictors("agent_distance") == ["observed", "imagined", "shuffled_actions", "constant"]
    assert torch.isfinite(torch.from_numpy(found.values("agent_distance", "imagined"))).all()
    assert "agent distance: lower is better" in printed
    assert "agent_distance" in drawn
    assert found.curve("agent_distance", "constant").mean.shape == (7,)
    assert any(verdict.measure == "agent_distance" for verdict in found.verdicts)


@torch.no_grad()
def test_a_probe_that_says_so_is_measured_at_validations(plug_in, config, run, monkeypatch):
    lengths = []
    monkeypatch.setattr(
        "wmkit.evaluation.run.joined", lambda parts: lengths.extend(part.shape[1] for part in parts) or joined(parts)
    )
    plug_in("agent_plugin", PROBE)
    values = HeldOutValidation(
        dataclasses.replace(config, eval=EvalConfig(context=5, horizon=7, valid_reward_episodes=3))
    )
    assert values(load(run)).keys() == {"agent_distance_observed", "agent_distance_imagined", "latest"}
    assert set(lengths) == {12}  # context and query: the rest of an episode is not kept


def test_names_that_are_taken_are_refused(plug_in):
    plug_in("brightness_plugin", MEASURE)
    with pytest.raises(ValueError, match="'brightness' is already registered"):
        plug_in("again", MEASURE)
    with pytest.raises(ValueError, match="'brightness_error' is already measured by 'brightness'"):
        plug_in("twin", MEASURE.replace('register_measure("brightness")', 'register_measure("twin")'))
