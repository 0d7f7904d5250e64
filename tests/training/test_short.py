"""`WMKIT_SHORT=1` makes a run short, and its config says so."""

import dataclasses
from pathlib import Path

import pytest

from wmkit.comparison import read_results, run_comparison
from wmkit.config import EvalConfig, RunConfig
from wmkit.training.overrides import compose
from wmkit.training.short import LONG, SENTENCE, SHORT, is_short, shortened
from wmkit_envs import DistractingMemory


def test_a_shortened_run_has_two_steps_tiny_sizes_and_few_episodes_and_is_what_it_was_otherwise() -> None:
    whole = compose(RunConfig(), ["backbone=transformer_xl", "model.kl_scale=0.5", "train.lr=0.01", "train.minutes=9"])
    short = shortened(whole)
    assert (short.size, short.train.steps, short.train.minutes, short.eval.episodes) == ("tiny", 2, None, 2)
    assert (short.model.depth, short.model.units, short.backbone.memory) == (8, 64, 6)
    assert (short.data.batch_size, short.data.length, short.data.episode_length) == (2, 8, 24)
    assert (short.model.kl_scale, short.train.lr, short.world) == (0.5, 0.01, whole.world)
    assert short.model.latent == whole.model.latent
    assert shortened(short) == short


@pytest.mark.parametrize("preset", ["s4wm-3d", "rssm-tbtt-2d", "tssm-xl-3d", "cwvae-mmnist", "cwvae-minerl"])
def test_presets_are_shortened(preset: str) -> None:
    words = [f"preset={preset}", *(["world=moving_mnist"] if "mnist" in preset else [])]
    short = shortened(compose(RunConfig(), words))
    wide = {name: value for name, value in dataclasses.asdict(short.backbone).items() if type(value) is int}
    assert max(wide.values()) <= 32
    assert short.model.depth <= 8


@pytest.mark.reported(
    "settings",
    "",
    "`WMKIT_SHORT=1` with a smaller eval.context or eval.horizon; `WMKIT_SHORT=false` or `no`",
    "the smaller ones stay; the run is not made short",
)
def test_a_shorter_evaluation_than_the_short_one_stays() -> None:
    short = shortened(RunConfig(eval=EvalConfig(context=3, horizon=2)))
    assert (short.eval.context, short.eval.horizon) == (3, 2)
    short = shortened(RunConfig())
    assert (short.eval.context, short.eval.horizon) == (6, 6)


def test_episodes_that_end_with_a_question_stay_whole() -> None:
    world = DistractingMemory(width=16, tile=4)
    assert world.episode_length < LONG
    short = shortened(RunConfig(world=world))
    assert short.data.episode_length is None
    assert short.eval.context is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", True),
        ("yes", True),
        ("0", False),
        ("", False),
        (None, False),
        ("false", False),
        ("No", False),
        (" ", False),
    ],
)
def test_the_environment_decides(value: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SHORT, raising=False)
    if value is not None:
        monkeypatch.setenv(SHORT, value)
    assert is_short() is expected
    assert (compose(RunConfig(), ["train.steps=50"]).train.steps == 2) is expected


@pytest.mark.usefixtures("cells_in_this_process", "without_drawings")
def test_a_comparison_has_one_seed_and_one_rate_and_its_plan_says_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SHORT, "1")
    base = RunConfig(world=DistractingMemory(width=8, tile=4), size="tiny")
    grid = ("systems=gru", "seeds=3,4", "lrs=1e-2,1e-3", "minutes=7", f"out={tmp_path}/out")
    assert run_comparison(base, {}, grid, []) == 0
    assert f"{SENTENCE}; of seeds and lrs the first" in " ".join(capsys.readouterr().out.split())
    plan = read_results(tmp_path / "out").plan
    assert (plan.seeds, plan.lrs, plan.steps, plan.minutes) == ((3,), (0.01,), 2, None)
