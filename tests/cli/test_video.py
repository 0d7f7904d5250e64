"""`wmkit video` on a trained run of a tiny model."""

import io
import json

import pytest
from PIL import Image
from rich.console import Console

from wmkit.cli.__main__ import main
from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit.evaluation.digits.truth import IDENTITY
from wmkit.evaluation.video.report import TRUE_FRAMES
from wmkit.evaluation.video.run import evaluate_video_run
from wmkit.training.command import train_in_folder
from wmkit.training.run_folder import RunFolder
from wmkit_envs import DistractingMemory, MovingMnist


def trained(folder, **changes):
    config = RunConfig(
        **{"world": MovingMnist(side=32), "backbone": "gru", "size": "tiny"} | changes,
        data=DataConfig(length=6, batch_size=2, episode_length=12, episodes=2, workers=0),
        train=TrainConfig(steps=2, eval_every=2, checkpoint_every=2, device="cpu"),
        eval=EvalConfig(episodes=3, context=5, horizon=7),
    )
    train_in_folder(config, RunFolder(folder))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "video")


@pytest.fixture
def short_probe(monkeypatch):
    from wmkit.evaluation.digits.frames import fit_frame_probe

    monkeypatch.setattr(
        "wmkit.evaluation.digits.frames.fit_frame_probe",
        lambda source, seed: fit_frame_probe(source, steps=3, seed=seed),
    )


def test_the_verb_leaves_curves_and_a_figure(run, short_probe, capsys):
    assert main(["video", str(run), "--clips", "3", "--samples", "2", "--horizon", "9"]) == 0
    saved = json.loads((run / "video.json").read_text())
    assert (saved["clips"], saved["context"], saved["horizon"], saved["samples"]) == (3, 5, 9, 2)
    assert saved["notes"] == {"mean image of": "training frames", "digits": "scikit-learn's"}
    assert TRUE_FRAMES in saved["curves"][IDENTITY]
    assert "ssim_skimage_l2" in capsys.readouterr().out
    with Image.open(run / "pictures" / "video.png") as image:
        assert min(image.size) > 100


def test_a_world_without_digits_is_judged_by_similarity_alone(tmp_path):
    run = trained(tmp_path / "run", world=DistractingMemory(width=8, tile=4))
    console = Console(file=io.StringIO(), width=120, record=True)
    result = evaluate_video_run(run, clips=2, console=console)
    assert set(result.curves) == {"ssim_skimage_l2", "ssim_gaussian11", "psnr"}
    assert "digits" not in result.notes
    assert console.export_text().count("another clip") == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--clips", "1"], "--clips: expected at least 2, got 1"),
        (["--samples", "0"], "--samples: expected at least 1, got 0"),
        (["--horizon", "2000"], "an episode of moving_mnist_side32 has 1000"),
        (["--held-out", "moving_mnist"], "images (1, 64, 64)"),
    ],
)
def test_what_cannot_be_is_refused(run, words, message, capsys):
    assert main(["video", str(run), *words]) == 2
    assert message in capsys.readouterr().err
