"""A run on archives is measured, shown and labelled by its archives, never by a world that it did not see."""

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from wmkit.cli.__main__ import main
from wmkit.config import DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig, archive_name
from wmkit.data import Episodes, write_archive
from wmkit.evaluation.held_out import context_and_horizon, in_batches, other_episodes, training_frames, whole_episodes
from wmkit.evaluation.run import HeldOutValidation, evaluate_run
from wmkit.loading import load, run_config
from wmkit.training.batches import training_source
from wmkit.training.command import train_in_folder
from wmkit.training.loop import build_model
from wmkit.training.run_folder import RunFolder

Write = Callable[..., str]


def write(folder: Path, lengths: Sequence[int], *, colour: int = 200, ends: Sequence[bool] = ()) -> str:
    """An archive of flickering images of about one colour; `ends` says which episodes end for good, with reward 1."""
    rng = np.random.default_rng(len(lengths))
    episodes = []
    for number, length in enumerate(lengths):
        last = (np.arange(length) == length - 1) & bool(ends and ends[number])
        image = rng.integers(colour - 20, colour + 20, (length, 8, 8, 3), dtype=np.uint8)
        episodes.append({"image": image, "action": np.zeros((length, 2)), "reward": last, "is_terminal": last})
    write_archive(Episodes(episodes), folder)
    return str(folder)


def config_of(folder: Path, *, reward: bool = False, **data: Any) -> RunConfig:
    """A tiny run on the archives train, valid and test in `folder`, made by hand: nothing is written out in it."""
    return RunConfig(
        backbone="gru",
        size="tiny",
        model=dataclasses.replace(ModelConfig.for_size("tiny"), reward_head=reward),
        data=DataConfig(source=str(folder), length=5, batch_size=2, workers=0, **data),
        train=TrainConfig(steps=1, device="cpu", threads=1),
        eval=EvalConfig(context=None, horizon=None, batches=1),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "flicker"
    for split, lengths in (("train", [9, 12]), ("valid", [9]), ("test", [8, 10, 12])):
        write(folder / split, lengths, colour=200 if split == "train" else 120)
    train_in_folder(config_of(folder), RunFolder(folder.parent / "run"))
    return folder.parent / "run"


@pytest.fixture(autouse=True)
def _without_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wmkit.evaluation.plots.figures.draw_curves", lambda *_: None)
    monkeypatch.setattr("wmkit.evaluation.plots.figures.draw_strip", lambda _, path, title: path.write_text(title))


@pytest.mark.reported(
    "data",
    "Farama-Foundation/Minari#304, PrimeIntellect-ai/prime-rl#2871, danijar/dreamerv3#113",
    "the table, pictures and labels of a run on recordings, three test episodes of different lengths",
    "all are about the test archive, the mean image about the training archive; three episodes are enough, said",
)
def test_table_and_pictures_are_about_the_test_archive(run: Path) -> None:
    console = Console(file=io.StringIO(), width=200, record=True)
    measured = evaluate_run(run, console=console)
    assert (measured.episodes, measured.context, measured.horizon) == (3, 4, 4)
    assert (measured.about["world"], measured.about["episodes_of"]) == ("flicker", str(run.parent / "flicker" / "test"))
    assert (run / "pictures" / "strip.png").read_text() == "gru (tiny) on flicker"
    assert "has 3 episodes of 8 steps or more, all are taken (asked for: 64)" in console.export_text()
    assert "maze" not in json.dumps(measured.about) + (run / "evaluation.md").read_text()
    # training frames are of 200, those of the test of 120: sum over 192 numbers of squares
    expected = 192 * (80 / 255) ** 2
    assert measured.estimate("frame_error", "mean_image").mean == pytest.approx(expected, rel=0.1)
    assert training_frames(run_config(run), load(run), length=50).shape == (1, 12, 3, 8, 8)


@pytest.mark.reported(
    "data",
    "",
    "`wmkit imagine` and `wmkit evaluate` of a run on recordings, other ones by `--episodes-from`",
    "the test archive without a word; archives of one name in two folders do not overwrite each other",
)
def test_verbs_take_the_archives(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["imagine", str(run), "--out", str(tmp_path / "film.gif")]) == 0
    assert "film.gif: 3 held-out episodes, 4 steps observed, 4 imagined" in capsys.readouterr().out
    for name in ("one", "other"):
        write(tmp_path / name / "test", [14, 20])
        assert main(["evaluate", str(run), "--episodes-from", str(tmp_path / name / "test")]) == 0
        found = json.loads((run / "held_out" / name / "evaluation.json").read_text())
        assert (found["context"], found["horizon"]) == (7, 7)  # of these episodes, not of the run's
    write(tmp_path / "short", [3, 3])
    asked = ["--context", "4", "--horizon", "4"]
    assert main(["evaluate", str(run), "--episodes-from", str(tmp_path / "short"), *asked]) == 2
    assert "are 8 steps, but an episode of" in capsys.readouterr().err
    assert main(["imagine", str(run), "--episodes", "9"]) == 2
    assert "test has 3 episodes, expected at least 9" in capsys.readouterr().err


@pytest.mark.reported(
    "data", "", "`--episodes-from ''`, `--out ''`", "`ValueError`: got nothing; not the current folder"
)
@pytest.mark.parametrize(
    "words", [["evaluate", "--episodes-from", ""], ["imagine", "--episodes-from", " "], ["evaluate", "--out", ""],
              ["imagine", "--out", ""]],
)  # fmt: skip
def test_nothing_is_not_the_current_folder(
    run: Path, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([words[0], str(run), *words[1:]]) == 2
    assert "got nothing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.reported(
    "data",
    "",
    "the folder of the test archive is gone, or the run is told to be tested where it was validated",
    "`ValueError` with the key; the table says that it is about validation episodes",
)
def test_a_missing_archive_is_named_and_a_stand_in_is_said(run: Path, tmp_path: Path) -> None:
    config = run_config(run)
    gone = dataclasses.replace(config, data=dataclasses.replace(config.data, test_source="/no/such"))
    with pytest.raises(
        ValueError, match=r"data\.test_source=/no/such: there is no such folder.* moved, .* take --episodes-from"
    ):
        context_and_horizon(gone)
    folder = tmp_path / "own"
    for split in ("train", "valid"):
        write(folder / split, [8, 8])
    train_in_folder(config_of(folder), RunFolder(tmp_path / "run"))
    console = Console(file=io.StringIO(), width=200, record=True)
    assert evaluate_run(tmp_path / "run", console=console).about["episodes_of"] == str(folder / "valid")
    assert "the test archive is the validation archive" in console.export_text()


@pytest.mark.reported(
    "data",
    "",
    "a reward head on recordings of different lengths of which some end with an answer",
    "accuracy where all end so, at validations too; else it is left out with a word",
)
def test_answers_at_the_end_are_judged_where_all_episodes_have_one(tmp_path: Path) -> None:
    for name, ends in (("all", [True, True, True]), ("some", [True, False, True])):
        for split in ("train", "valid", "test"):
            write(tmp_path / name / split, [8, 10, 10], ends=ends)
        config = config_of(tmp_path / name, reward=True)
        train_in_folder(config, RunFolder(tmp_path / f"run_{name}"))
        model = build_model(config, (3, 8, 8), 2)
        figures = HeldOutValidation(config)(model).keys() - {"latest"}
        assert bool(figures) == (name == "all")
        console = Console(file=io.StringIO(), width=200, record=True)
        measured = evaluate_run(tmp_path / f"run_{name}", console=console)
        assert ("reward_accuracy" in measured.measures) == (name == "all")
        assert ("Not measured: rewards" in console.export_text()) == (name == "some")


def test_batches_hold_episodes_of_one_length() -> None:
    action = {length: np.zeros((length, 1)) for length in (3, 4, 5)}
    images = [np.full((length, 8, 8, 3), number, np.uint8) for number, length in enumerate((5, 3, 5, 4))]
    source = Episodes([{"image": image, "action": action[len(image)]} for image in images])
    assert [batch.shape for batch in in_batches(source, 4)] == [(1, 3), (1, 4), (2, 5)]
    assert [batch.shape for batch in in_batches(source, 3, least=4)] == [(2, 5)]


def test_labels_are_the_names_of_archives(run: Path) -> None:
    assert [archive_name(path) for path in ("a/ball", "a/ball/test", "a/ball.zarr", "v1.2")] == ["ball"] * 3 + ["v1.2"]
    assert other_episodes(run, run_config(run), None) == (str(run.parent / "flicker" / "test"), run)
    with pytest.raises(ValueError, match="Unknown world 'no_such'"):
        other_episodes(run, run_config(run), "no_such")


def test_training_episodes_are_those_of_the_training_archive(run: Path) -> None:
    batch = whole_episodes(run_config(run), load(run), "train", 2, 9)
    first = training_source(run_config(run)).episode(0)["image"]
    assert torch.equal(batch.image[0], torch.from_numpy(first[:9]).permute(0, 3, 1, 2))
