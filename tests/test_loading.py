"""From a run folder to a model."""

import dataclasses
import json
import os
import shutil

import pytest
import torch

import wmkit
from wmkit.backbones.gru import GRUConfig
from wmkit.config import RunConfig
from wmkit.training.checkpoints import Checkpoint, CheckpointCorrupt, CheckpointFolder
from wmkit.training.loop import build_model
from wmkit.training.run_folder import RunFolder

SHAPES = ((3, 8, 8), 2)


@pytest.fixture
def config():
    return RunConfig(backbone=GRUConfig.for_size("tiny"), size="tiny")


@pytest.fixture
def models(config):
    """By step; step 10 is the best."""
    return {step: build_model(dataclasses.replace(config, seed=step), *SHAPES) for step in (10, 20)}


@pytest.fixture
def run(tmp_path, config, models):
    folder = RunFolder(tmp_path / "run")
    folder.open()
    folder.describe(config, *SHAPES)
    checkpoints = CheckpointFolder(folder.checkpoints)
    for step, model in models.items():
        checkpoints.save(Checkpoint(step, config.to_dict(), model.state_dict(), {}), is_best=step == 10)
    folder.close()
    return folder.path


def same_weights(a, b):
    return all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())


def test_loaded_model_observes_and_imagines_as_the_saved_one(run, models):
    loaded, saved = wmkit.load(run), models[10].eval()
    image = torch.randint(256, (2, 5, 3, 8, 8), dtype=torch.uint8)
    action, noise = torch.rand(2, 5, 2), saved.draw_noise(2, 5)
    frames = []
    with torch.no_grad():
        for model in (loaded, saved):
            _, state = model.observe(image, action, noise=noise)
            frames.append(model.decode(model.imagine(action, state, noise=noise).features))
    assert not loaded.training
    assert torch.equal(*frames)


def test_best_last_and_a_path_choose_the_checkpoint(run, models):
    assert same_weights(wmkit.load(run), models[10])
    assert same_weights(wmkit.load(str(run), "best"), models[10])
    assert same_weights(wmkit.load(run, "last"), models[20])
    assert same_weights(wmkit.load(run, run / "checkpoints" / "step-00000020"), models[20])


def test_a_run_can_be_moved(run, models, tmp_path):
    shutil.move(run, tmp_path / "elsewhere")
    assert same_weights(wmkit.load(tmp_path / "elsewhere"), models[10])


def test_loading_leaves_the_random_state_alone(run):
    before = torch.get_rng_state()
    wmkit.load(run)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist: expected the folder of a run"):
        wmkit.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"has no config\.json: expected the folder of a run"):
        wmkit.load(tmp_path)


def test_a_run_without_a_checkpoint_is_refused(run):
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        wmkit.load(run)


def test_a_run_that_was_not_validated_has_only_a_last_checkpoint(run, models):
    os.unlink(run / "checkpoints" / "best")
    with pytest.raises(ValueError, match=r"--checkpoint last \(in Python checkpoint='last'\) is step 20"):
        wmkit.load(run)
    assert same_weights(wmkit.load(run, "last"), models[20])


@pytest.mark.reported(
    "numbers",
    "clearml/clearml#118, tensorflow/tensorflow#3212, lanpa/tensorboardX#377",
    "the best checkpoint of a run whose validations all had a loss of NaN",
    "`ValueError`: no validation had a finite loss; `last` is there",
)
@pytest.mark.reported("numbers", "", "a copy of a run without the link `best`", "`ValueError`: the link was lost")
@pytest.mark.parametrize(
    ("losses", "why"),
    [
        ([], "it was not validated yet"),
        (["null", "null"], "no validation had a finite loss"),
        (["NaN", "Infinity"], "no validation had a finite loss"),  # of older versions
        (["null", "2.5"], "its link was lost, as in some copies"),
    ],
)
def test_why_there_is_no_best_checkpoint_is_said_truly(run, losses, why):
    os.unlink(run / "checkpoints" / "best")
    lines = ['{"step": 1, "split": "train", "values": {"loss": 1.0}}\n']
    lines += [f'{{"step": {i}, "split": "valid", "values": {{"loss": {loss}}}}}\n' for i, loss in enumerate(losses)]
    (run / "metrics.jsonl").write_text("".join(lines))
    with pytest.raises(ValueError, match=f"has no best checkpoint, {why}; --checkpoint last"):
        wmkit.load(run)


@pytest.mark.reported("messages", "", "`wmkit.load(run, device=...)` of a device that is not there", "`ValueError`")
@pytest.mark.parametrize("device", ["gpu", "xla", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(run, device):
    with pytest.raises(ValueError, match=f"device: '{device}' cannot be used here: "):
        wmkit.load(run, device=device)


def test_an_unknown_checkpoint_is_refused(run):
    with pytest.raises(ValueError, match="expected 'best', 'last' or the folder of a checkpoint, got 'newest'"):
        wmkit.load(run, "newest")


def test_truncated_weights_are_refused_by_name(run):
    weights = run / "checkpoints" / "step-00000010" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(CheckpointCorrupt, match=r"model\.safetensors has \d+ bytes"):
        wmkit.load(run)


def test_a_broken_config_is_refused(run):
    (run / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not the config of a run"):
        wmkit.load(run)


@pytest.mark.parametrize("text", ["{", "{}", '{"image_shape": [3, 8], "action_dim": 2}'])
def test_broken_shapes_are_refused(run, text):
    (run / "shapes.json").write_text(text)
    with pytest.raises(ValueError, match=r"shapes\.json does not say the shapes"):
        wmkit.load(run)


def test_weights_of_another_config_are_refused(run):
    config = json.loads((run / "config.json").read_text())
    config["model"]["units"] += 1
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="is not of the model that"):
        wmkit.load(run)


@pytest.mark.reported(
    "names",
    "",
    "`wmkit.save(model, '')`, `wmkit.train(config, ' ')`, `wmkit evaluate RUN/config.json`",
    "`ValueError`: expected a folder; the one that is meant",
)
def test_an_empty_folder_or_a_file_is_refused(config, models, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for empty in ("", "  "):
        with pytest.raises(ValueError, match="expected the path of a folder, got nothing"):
            wmkit.save(models[10], empty)
        with pytest.raises(ValueError, match="train: expected a folder for the run, got nothing"):
            wmkit.train(config, empty)
    with pytest.raises(ValueError, match=r"config\.json is a file, expected the folder of a run: say .*run$"):
        wmkit.load(run / "config.json")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.reported(
    "shapes",
    "",
    "`wmkit.save(model, folder, world=...)` of a world with other images or actions than the model's",
    "`ValueError` with both shapes; nothing is written",
)
def test_a_world_of_other_shapes_is_not_saved(models, tmp_path):
    with pytest.raises(
        ValueError, match=r"save: images and actions of .* are \(\(3, 64, 64\), .* model \(\(3, 8, 8\), 2\)"
    ):
        wmkit.save(models[10], tmp_path / "saved", world="ray_maze_9x9")
    assert not (tmp_path / "saved").exists()
