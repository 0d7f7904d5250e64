"""`wmkit evaluate` and `wmkit imagine` on a trained run of a tiny model."""

import contextlib
import dataclasses
import json
import shutil
import sys
from functools import partial

import pytest
import torch
from PIL import Image
from rich.console import Console

from wmkit.cli.__main__ import main
from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit.evaluation import Measurements, evaluate_run, fit_frame_probe, make_video, whole_episodes, write_video
from wmkit.evaluation.clip_encoder import fit_clip_encoder
from wmkit.evaluation.held_out import other_episodes
from wmkit.evaluation.measures import digits, frechet
from wmkit.loading import load
from wmkit.training.command import train_in_folder
from wmkit.training.loop import Trainer
from wmkit.training.run_folder import RunFolder
from wmkit_envs import MovingMnist

CONFIG = RunConfig(
    world=MovingMnist(side=32),
    backbone="gru",
    size="tiny",
    data=DataConfig(length=6, batch_size=2, episode_length=12, episodes=2, workers=0),
    train=TrainConfig(steps=2, eval_every=2, checkpoint_every=2, device="cpu"),
    eval=EvalConfig(episodes=3, context=5, horizon=7),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train_in_folder(CONFIG, RunFolder(folder))
    return folder


@pytest.mark.usefixtures("without_drawings")
def test_evaluate_measures_what_it_is_asked_for(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(digits, "fit_frame_probe", partial(fit_frame_probe, steps=3))
    monkeypatch.setattr(frechet, "fit_clip_encoder", partial(fit_clip_encoder, steps=3))
    for variable in ("WMKIT_WEIGHTS", "TORCH_HOME"):  # nothing is there
        monkeypatch.setenv(variable, str(tmp_path))
    words = ("--measures", "all", "--episodes", "4", "--samples", "2", "--horizon", "9", "--checkpoint", "last")
    with pytest.warns(UserWarning, match="fd_corruptions: 4 clips are few for 64 features"):
        assert main(["evaluate", str(run), *words, "--out", str(tmp_path)]) == 0
    found = Measurements.load(tmp_path)
    assert (found.episodes, found.context, found.horizon, found.about["samples"]) == (4, 5, 9, 2)
    assert found.measures == [
        "frame_error", "ssim_skimage_l2", "ssim_gaussian11", "psnr", "fd_corruptions_start",
        "identity_accuracy", "position_error",
    ]  # fmt: skip
    assert {"true_frames", "best_of_n"} <= set(found.predictors("identity_accuracy"))
    assert "Digits: scikit-learn's." in found.metrics["identity_accuracy"].caption
    printed = capsys.readouterr().out
    assert "another clip" in printed
    assert "Not measured: lpips_alex, lpips_squeeze, lpips_vgg. Ask for one" in printed  # fvd takes longer clips
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    assert "scikit-learn's" in saved["measures"]["position_error"]["caption"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--episodes", "1"], "--episodes: expected at least 2, got 1"),
        (["--samples", "0"], "--samples: expected at least 1, got 0"),
        (["--horizon", "2000"], "an episode of moving_mnist_side32 has 1000"),
        (["--episodes-from", "moving_mnist"], "images (1, 64, 64)"),
        (["--episodes-from", "moving_mnist world.side=16"], "side: expected 64 or 32 pixels, got 16"),
        (["--episodes-from", "moving_mnist world.sides=32"], "Unknown config key 'world.sides'. Did you mean"),
        (["--episodes-from", "moving_mnist side=32"], "side=32: expected a world and settings of it"),
        (["--measures", "digit"], "Unknown measure 'digit'. Did you mean 'digits'?"),
        (["--measures", "frames, rewards"], "'rewards' does not apply"),
        (["--measures", " ,"], "--measures: expected names separated by commas, or all, got none"),
        (["--plugins", "no_such_module"], "plugins=no_such_module: No module named"),
    ],
)
def test_evaluate_refuses_what_cannot_be(run, words, message, capsys):
    assert main(["evaluate", str(run), *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", ["moving_mnist world.side=32 world.speed=3", "world.speed=3"])
def test_imagine_takes_a_world_with_settings_or_other_settings_of_the_runs_own(run, tmp_path, words):
    world = MovingMnist(side=32, speed=3)
    for name, source in (("words", ["--episodes-from", words]), ("usual", [])):
        assert imagine(run, "--out", tmp_path / f"{name}.gif", "--episodes", 2, *source) == 0
    batch = whole_episodes(CONFIG, load(run), "test", 2, 12, world)
    write_video(make_video(load(run), batch, context=5, horizon=7, seed=0), tmp_path / "expected.gif")
    assert (tmp_path / "words.gif").read_bytes() == (tmp_path / "expected.gif").read_bytes()
    assert (tmp_path / "words.gif").read_bytes() != (tmp_path / "usual.gif").read_bytes()


def imagine(*words) -> int:
    return main(["imagine", *(str(word) for word in words)])


def test_imagine_shows_the_first_test_episodes_after_the_context_asked_for(run, tmp_path, capsys):
    out = tmp_path / "new" / "video.gif"
    words = ("--episodes", 2, "--context", 4, "--horizon", 6, "--seed", 4)
    assert imagine(run, "--out", out, *words) == 0
    assert "2 held-out episodes, 4 steps observed, 6 imagined" in capsys.readouterr().out
    with Image.open(out) as image:
        assert image.n_frames == 10
    batch = whole_episodes(CONFIG, load(run), "test", 2, 10)
    assert torch.equal(batch.action, torch.zeros(2, 10, 0))
    write_video(make_video(load(run), batch, context=4, horizon=6, seed=4), tmp_path / "expected.gif")
    assert out.read_bytes() == (tmp_path / "expected.gif").read_bytes()


def test_imagine_writes_beside_the_run_and_takes_lengths_from_it(run, tmp_path, capsys):
    assert imagine(run, "--checkpoint", "last") == 0
    with Image.open(run / "pictures" / "imagined.gif") as image:
        assert image.n_frames == 12
    assert imagine(tmp_path / "no") == 2
    assert "no does not exist: expected the folder of a run" in capsys.readouterr().err


@pytest.mark.reported(
    "friction", "", "`wmkit imagine` on a run that was not validated yet", "its last checkpoint, said"
)
@pytest.mark.reported("friction", "", "`wmkit imagine RUN --out VIDEO.GIF`, in capitals", "a GIF")
def test_imagine_takes_a_run_that_still_trains(tmp_path, capsys):
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, steps=3))
    folder = RunFolder(tmp_path / "run")
    folder.open()
    with contextlib.closing(Trainer(config, folder)) as trainer:
        trainer._train_step(next(trainer.sampler))
        assert imagine(folder.path) == 2
        assert "has no checkpoint yet: let it train up to its first one" in capsys.readouterr().err
        trainer._save()
        assert imagine(folder.path, "--out", tmp_path / "VIDEO.GIF") == 0
    folder.close()
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.endswith("VIDEO.GIF: 4 held-out episodes, 5 steps observed, 7 imagined, by checkpoint step-00000001")
    with Image.open(tmp_path / "VIDEO.GIF") as image:
        assert image.n_frames == 12


@pytest.mark.reported("friction", "", "Ctrl-C while a verb works, such as `wmkit evaluate`", "one line, status 130")
def test_a_verb_that_is_stopped_says_so_in_a_line(run, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("wmkit.evaluation.evaluate_run", stop)
    assert main(["evaluate", str(run)]) == 130
    assert capsys.readouterr().err == "wmkit evaluate: stopped\n"


@pytest.mark.reported("friction", "", "`wmkit evaluate` twice", "the same files; nothing is said to be replaced")
@pytest.mark.reported(
    "friction", "", "the output of `wmkit evaluate` goes to a file", "verdicts and paths are whole lines"
)
@pytest.mark.usefixtures("without_drawings")
def test_a_second_evaluation_is_the_first_again_and_lines_are_whole_in_a_file(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / ("a_folder_with_a_rather_long_name_" * 4)
    files = []
    for _ in range(2):
        assert main(["evaluate", str(run), "--out", str(out)]) == 0
        printed = capsys.readouterr().out
        files.append({path.name: path.read_bytes() for path in out.iterdir() if path.is_file()})
    assert files[0] == files[1]
    assert "replaced" not in printed
    assert f"Pictures in {out}/pictures" in printed.splitlines()
    verdicts = [str(verdict) for verdict in Measurements.load(out).verdicts]
    assert max(map(len, verdicts)) > 80
    assert set(verdicts) <= set(printed.splitlines())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--context", "0"], "--context: expected at least 1"),
        (["--episodes", "0"], "--episodes: expected at least 1"),
        (["--context", "999", "--horizon", "10"], "are 1009 steps, but an episode of moving_mnist_side32 has 1000"),
        (["--episodes-from", "no_such_world"], "Unknown world"),
        (["--checkpoint", "newest"], "expected 'best', 'last' or the folder"),
        (["--out", "video.avi"], "ends in .gif or .mp4"),
    ],
)
def test_imagine_refuses_what_cannot_be(run, tmp_path, words, message, capsys):
    assert imagine(run, "--out", tmp_path / "video.gif", *words) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_named(run, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert imagine(run, "--out", tmp_path / "file" / "video.gif", "--episodes", 1) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("wmkit imagine: ")
    assert str(tmp_path / "file") in printed
    assert printed.count("\n") == 1


@pytest.mark.reported(
    "machines",
    "",
    "`wmkit evaluate` of a run folder that cannot be written to",
    "status 1 with the folder, before anything is measured; `--out` helps",
)
def test_evaluate_refuses_a_place_that_cannot_be_written_to_before_it_measures(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr("wmkit.evaluation.run.measure_query", lambda *_, **__: pytest.fail("measured"))
    assert main(["evaluate", str(run), "--out", str(tmp_path / "file" / "out")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_evaluate_imports_plugins_before_it_looks_for_measures(run, tmp_path, monkeypatch, capsys):
    for name in ("first_plugin", "second_plugin"):
        (tmp_path / f"{name}.py").touch()
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["evaluate", str(run), "--plugins", "first_plugin, second_plugin", "--measures", "mine"]) == 2
    assert "Unknown measure 'mine'" in capsys.readouterr().err
    assert {"first_plugin", "second_plugin"} <= sys.modules.keys()


ODD = "mÿ run[/b] [v1] a=b #c ~$x$ %d {e} 日本"
"""A folder in a folder, with what shells, patterns, markup, formulas and Hydra take for something else."""


@pytest.mark.reported(
    "names",
    "ray-project/ray#15367, tensorflow/tensorflow#34290",
    "`wmkit evaluate` and `wmkit imagine` of a run whose name has brackets, markup, `=`, `#`, `~`, `$`, `%`, braces",
    "measured again, drawn, and written where it is",
)
def test_a_run_of_any_name_is_evaluated_and_imagined(run, tmp_path, monkeypatch, capsys):
    odd = tmp_path / ODD
    shutil.copytree(run, odd, symlinks=True)
    monkeypatch.setenv("COLUMNS", "400")
    for _ in range(2):  # the second reads what the first has left
        assert main(["evaluate", str(odd), "--episodes", "2", "--measures", "frames"]) == 0
        assert f"Pictures in {odd / 'pictures'}" in capsys.readouterr().out
    assert main(["imagine", str(odd), "--episodes", "1"]) == 0
    assert str(odd / "pictures" / "imagined.gif") in capsys.readouterr().out
    assert [path.name for path in odd.parent.iterdir()] == [odd.name]


@pytest.mark.reported(
    "names", "hydra-ecosystem/hydra#1647", '`wmkit imagine "~/run" --out=~/video.gif`', "`~` is the home folder"
)
def test_commands_know_the_home_folder(run, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / "run", symlinks=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["imagine", "~/run", "--out=~/video.gif", "--episodes", "1"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"run", "video.gif"}


@pytest.mark.reported(
    "names",
    "",
    "`--episodes-from ..`, an archive that is the folder above",
    "the results are in `held_out/NAME` of its own name, inside of the run",
)
def test_results_on_an_archive_named_by_dots_stay_inside_of_the_run(run, tmp_path, monkeypatch):
    (tmp_path / "kitchen" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "kitchen" / "inner")
    assert other_episodes(run, CONFIG, "..")[1] == run / "held_out" / "kitchen"


@pytest.mark.reported(
    "settings",
    "pytorch/pytorch#58545",
    "evaluation under another default device or dtype, in inference mode or autocast",
    "the same table",
)
def test_what_an_application_has_set_enters_no_table(run, tmp_path):
    usual = evaluate_run(run, measures=["frames"], episodes=2, out=tmp_path / "usual", console=Console(quiet=True))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"), torch.inference_mode(), torch.autocast("cpu"):
            odd = evaluate_run(run, measures=["frames"], episodes=2, out=tmp_path / "odd", console=Console(quiet=True))
    finally:
        torch.set_default_dtype(torch.float32)
    assert odd.frame.equals(usual.frame)
