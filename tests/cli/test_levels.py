"""`wmkit levels` on small trained runs: tables, JSON and figures."""

import dataclasses
import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from wmkit.cli.__main__ import main
from wmkit.cli.levels import labelled
from wmkit.config import DataConfig, EvalConfig, ModelConfig, RunConfig, TrainConfig
from wmkit.data import open_source
from wmkit.dynamics import ClockworkConfig
from wmkit.evaluation import evaluate_run
from wmkit.evaluation.digits.probe import fit_frame_probe
from wmkit.evaluation.levels import base
from wmkit.evaluation.levels.base import Analysis, Findings, all_analyses, option, register_analysis
from wmkit.evaluation.levels.reading import LoadedRun
from wmkit.evaluation.measures.similarity import SIMILARITIES
from wmkit.evaluation.tables import Table
from wmkit.training.command import train_in_folder
from wmkit.training.run_folder import RunFolder
from wmkit.video_models import VtaConfig
from wmkit_envs.video.bouncing_balls import BouncingBalls
from wmkit_envs.video.moving_mnist import FAST, SLOW, MovingMnist


def config(world, **clock) -> RunConfig:
    numbers = {"levels": 2, "factor": 2, "core_size": "tiny", "width": 8, "level_units": 8} | clock
    model = {"networks": "planet", "latent": "gaussian", "latent_size": 3, "units": 8, "depth": 2}
    return RunConfig(
        world=world,
        backbone=ClockworkConfig(**numbers),
        size="tiny",
        model=ModelConfig(**model, image_loss="gaussian", first_step="model"),
        data=DataConfig(length=6, batch_size=2, episode_length=12, episodes=2, workers=0),
        train=TrainConfig(steps=2, log_every=1, eval_every=2, checkpoint_every=2, device="cpu"),
        eval=EvalConfig(episodes=3, context=5, horizon=7),
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One of two levels at each speed, and one of a single level."""
    folder = tmp_path_factory.mktemp("runs")
    speeds = {"slow": SLOW, "": 1.0, "fast": FAST}
    configs = {name: config(MovingMnist(side=32, speed=speed)) for name, speed in speeds.items()}
    configs["rssm"] = config(MovingMnist(side=32), levels=1)
    for name, wanted in configs.items():
        train_in_folder(wanted, RunFolder(folder / (name or "usual")))
    return folder


@pytest.fixture(autouse=True)
def _hasty_probe(monkeypatch):
    def probe(self, seed):
        return fit_frame_probe(open_source(self.config.world, seed=0, split="train", length=25), steps=2, seed=seed)

    monkeypatch.setattr(LoadedRun, "probe", probe)
    monkeypatch.setenv("COLUMNS", "160")


def levels(*words) -> int:
    return main(["levels", *(str(word) for word in words)])


def figure_of(folder, name):
    with Image.open(folder / f"{name}.png") as image:
        assert min(image.size) > 100
    return json.loads((folder / f"{name}.json").read_text())


FEW = ("--clips", 3)


def test_kl_of_several_runs_stands_in_one_table(runs, tmp_path, capsys) -> None:
    assert levels("kl", f"RSSM={runs / 'rssm'}", f"CW-VAE={runs / 'usual'}", "--out", tmp_path, *FEW) == 0
    values = figure_of(tmp_path, "kl")
    assert [len(values[name]["levels"]) for name in ("RSSM", "CW-VAE")] == [1, 2]
    assert values["RSSM"]["frames"] == 6
    printed = capsys.readouterr().out
    assert "KL per level, 6 frames, 3 held-out clips" in printed
    assert "level 2" in printed


def test_clips_may_come_from_a_world_with_other_settings(runs, tmp_path) -> None:
    run = runs / "usual"
    found = {}
    for name, words in (("own", []), ("fast", ["world.speed=3"]), ("same", ["moving_mnist world.side=32"])):
        source = ["--episodes-from", *words] if words else []
        assert levels("kl", run, "--out", tmp_path / name, *source, *FEW) == 0
        found[name] = figure_of(tmp_path / name, "kl")
    assert found["same"] == found["own"] != found["fast"]


def test_entropy_reset_and_samples_of_one_run_go_to_its_folder(runs, capsys) -> None:
    run = runs / "usual"
    for analysis in ("entropy", "reset"):
        assert levels(analysis, run, *FEW) == 0
    assert levels("samples", run, "--clip", 1, "--draws", 2, "--horizon", 4) == 0
    assert figure_of(run / "levels", "entropy")["horizon"] == 7
    conditions = figure_of(run / "levels", "reset")["conditions"]
    assert [condition["prior_levels"] for condition in conditions] == [[], [1], [2], [1, 2]]
    assert 0 <= conditions[0]["identity_accuracy"]["imagined"]["mean"] <= 1
    assert set(figure_of(run / "levels", "samples")["conditions"]) == {
        "all levels see", "level 1 on its prior", "level 2 on its prior", "none sees",
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "none sees" in printed
    assert "level 1 on its prior" in printed


def test_clips_of_different_lengths_do_not_stand_in_one_table(runs, tmp_path, capsys) -> None:
    short = config(MovingMnist(side=32))
    train_in_folder(
        dataclasses.replace(short, data=dataclasses.replace(short.data, length=4)), RunFolder(tmp_path / "short")
    )
    words = ("kl", runs / "usual", tmp_path / "short", "--out", tmp_path, *FEW)
    assert levels(*words) == 2
    assert "different lengths (usual: 6, short: 4 frames): say one with --length" in capsys.readouterr().err
    assert levels(*words, "--length", 4) == 0


def test_a_run_is_judged_on_the_digits_that_it_was_trained_on(runs, capsys, monkeypatch) -> None:
    monkeypatch.setattr(MovingMnist, "local_data", {"digits": "MNIST's"})
    assert levels("kl", runs / "usual", *FEW) == 2
    assert (
        "with {'digits': \"scikit-learn's\"}, and on this machine it has {'digits': \"MNIST's\"}"
        in capsys.readouterr().err
    )
    assert main(["imagine", str(runs / "usual"), "--out", str(runs / "video.gif")]) == 2
    for refused in (
        lambda: train_in_folder(config(MovingMnist(side=32)), RunFolder(runs / "usual")),
        lambda: evaluate_run(runs / "usual"),
    ):
        with pytest.raises(ValueError, match="let it have the same again"):
            refused()


def test_speeds_are_those_of_the_worlds(runs, tmp_path, capsys) -> None:
    assert levels("speeds", *(runs / name for name in ("fast", "slow", "usual")), "--out", tmp_path, *FEW) == 0
    values = figure_of(tmp_path, "speeds")
    assert values["speeds"] == [pytest.approx(1 / 3), 1, 3]
    assert [run["run"] for run in values["runs"]] == ["fast", "slow", "usual"]
    printed = capsys.readouterr().out
    assert "0.333" in printed
    assert "KL at level 1 rises with speed" in " ".join(printed.split())


def test_runs_stand_beside_each_other_against_the_horizon(runs, tmp_path, capsys) -> None:
    assert levels("horizon", runs / "rssm", runs / "usual", "--out", tmp_path, *FEW) == 0
    values = figure_of(tmp_path, "horizon")
    assert set(values) == {"rssm", "usual"}
    assert {"ssim_skimage_l2", "identity_accuracy"} <= set(values["rssm"]["measures"])
    assert values["rssm"]["mean_image_of"] == "training frames"
    printed = " ".join(capsys.readouterr().out.split())
    assert "another clip" in printed
    assert "Mean image of training frames. Digits: scikit-learn's." in printed
    assert levels("horizon", runs / "rssm", runs / "fast", "--out", tmp_path, *FEW) == 2
    assert "for runs of one world only" in capsys.readouterr().err


def test_times_are_relative_to_the_run_that_is_named(runs, tmp_path, capsys) -> None:
    words = ("times", runs / "usual", runs / "rssm", "--out", tmp_path)
    assert levels(*words, "--base", "rssm") == 0
    entries = {entry["label"]: entry for entry in figure_of(tmp_path, "times")["runs"]}
    assert entries["rssm"]["relative"] == 1
    assert "relative to rssm" in capsys.readouterr().out
    assert levels(*words, "--base", "vta") == 2
    assert "base: expected one of usual, rssm, got vta" in capsys.readouterr().err


def test_boundaries_are_judged_in_a_world_that_tells_them(runs, tmp_path, capsys) -> None:
    usual = config(BouncingBalls(side=8))
    vta = VtaConfig(width=8, latent_size=2, window=3)
    train_in_folder(dataclasses.replace(usual, backbone=vta, model=ModelConfig()), RunFolder(tmp_path / "vta"))
    assert levels("boundaries", tmp_path / "vta", *FEW, "--length", 12) == 0
    values = figure_of(tmp_path / "vta" / "levels", "boundaries")["vta"]
    assert (values["clips"], values["frames"], values["f1"]["episodes"]) == (3, 12, 3)
    assert values["f1_moved"]["0"] == pytest.approx(values["f1"]["mean"])
    printed = capsys.readouterr().out
    assert "chance of that rate" in printed
    assert "vta: 3 of 12 frames" in " ".join(printed.split())
    assert levels("boundaries", tmp_path / "vta", *FEW, "--episodes-from", "moving_mnist world.side=32") == 2
    assert "does not tell boundary, where segments begin: measure in" in capsys.readouterr().err
    assert levels("boundaries", runs / "usual", *FEW, "--episodes-from", "bouncing_balls") == 2
    assert "bouncing_balls" in capsys.readouterr().err


def test_similarity_of_a_world_without_digits_has_no_probe(tmp_path, capsys) -> None:
    plain = dataclasses.replace(config("ray_maze_9x9"), eval=EvalConfig(episodes=3, context=5, horizon=7))
    train_in_folder(plain, RunFolder(tmp_path / "run"))
    assert levels("horizon", tmp_path / "run", *FEW) == 0
    assert set(figure_of(tmp_path / "run" / "levels", "horizon")["run"]["measures"]) == set(SIMILARITIES)


def test_nothing_is_made_for_a_run_that_is_not_there(tmp_path, capsys) -> None:
    assert levels("kl", tmp_path / "nowhere", "--out", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("kl", "a", "b"), "say with --out FOLDER"),
        (("kl", "x=a", "x=b", "--out", "o"), "Two runs have one name"),
        (("entropy", "nowhere"), "nowhere does not exist: expected the folder of a run"),
        (("kl", "a", "--clips", 1), "--clips: expected at least 2, got 1"),
    ],
)
def test_what_cannot_be_is_said(words, sentence, capsys) -> None:
    assert levels(*words) == 2
    assert sentence in capsys.readouterr().err


def test_every_analysis_has_a_sentence_and_labels_come_from_folders(capsys) -> None:
    with pytest.raises(SystemExit):
        levels("--help")
    printed = " ".join(capsys.readouterr().out.split())
    assert list(all_analyses()) == ["boundaries", "entropy", "horizon", "kl", "reset", "samples", "speeds", "times"]
    for name, analysis in all_analyses().items():
        assert f"{name} {analysis.help}" in printed
    assert list(labelled(["runs/a", "B=runs/b"])) == ["a", "B"]


def test_a_registered_class_is_an_analysis_whose_fields_are_options(runs, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(base._analyses, "by_name", base.all_analyses())

    @register_analysis("labels")
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Labels(Analysis):
        help = "The labels of runs."
        several = True

        more_of: int = option(1, "how often (default: 1)", least=1)

        def find(self, runs):
            figure = Figure()
            figure.subplots()
            return Findings(
                {"labels": [*runs] * self.more_of}, figure, Table("Labels", ["run"], [[name] for name in runs])
            )

    assert levels("labels", f"A={runs / 'usual'}", runs / "fast", "--out", tmp_path, "--more-of", 2) == 0
    assert figure_of(tmp_path, "labels") == {"labels": ["A", "fast", "A", "fast"]}
    assert "Labels" in capsys.readouterr().out
    assert levels("labels", runs / "usual", "--more-of", 0) == 2
    assert "--more-of: expected at least 1, got 0" in capsys.readouterr().err
    with pytest.raises(ValueError, match="Analysis 'labels' is already registered by"):
        register_analysis("labels")(Labels)


@pytest.mark.reported(
    "names",
    "",
    "`wmkit levels` of a folder with `=` in its name, of `.`, of `LABEL=~/run`",
    "the folder that is there; `~` is the home folder",
)
def test_a_folder_that_is_there_is_no_label(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "lr=3").mkdir()
    (tmp_path / "home").mkdir()
    found = labelled(["lr=3", "a=b=lr=3", "best=~/home", "."])
    assert found == {
        "lr=3": Path("lr=3"), "a=b=lr": Path("3"), "best": tmp_path / "home", tmp_path.name: Path(),
    }  # fmt: skip
