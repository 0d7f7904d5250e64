"""Everything that takes a world model takes a video model: training, evaluation, films, files, heads."""

import dataclasses
import re
import runpy
import shlex
from pathlib import Path

import pytest
import torch
from torch import Tensor

import wmkit
from wmkit import Batch, RunConfig, build_world_model, list_backbones, tree
from wmkit.config import DataConfig, EvalConfig, TrainConfig
from wmkit.evaluation import HeldOutValidation, evaluate_run, make_video
from wmkit.evaluation.held_out import whole_episodes
from wmkit.presets import PRESETS
from wmkit.training import compose
from wmkit.video_models import Vta
from wmkit_envs import Rooms

ROOT = Path(__file__).parents[2]

VIDEO = list_backbones("video_model")


def run_of(name: str) -> RunConfig:
    """Eight steps of a room, on windows of four, half of whose frames are decoded."""
    run = RunConfig(
        world=Rooms(image_size=32),
        backbone="gru",
        size="tiny",
        data=DataConfig(length=4, batch_size=2, episode_length=8, episodes=2, workers=0),
        train=TrainConfig(
            steps=2, warmup=1, log_every=1, eval_every=2, checkpoint_every=2, threads=1, decode_share=0.5
        ),
        eval=EvalConfig(episodes=2, context=4, horizon=4, batches=1),
    )
    return compose(run, [f"backbone={name}"])


def test_both_systems_are_registered() -> None:
    assert VIDEO == ["svg_lp", "vta"]


@pytest.mark.no_cover
@pytest.mark.parametrize("name", VIDEO)
def test_a_run_trains_is_judged_and_drawn(name: str, tmp_path: Path) -> None:
    config = run_of(name)
    wmkit.train(config, tmp_path / "run", HeldOutValidation(config))
    model = wmkit.load(tmp_path / "run", "last")
    for name_of, buffer in model.named_buffers():
        if name_of.endswith(("updates", "num_batches_tracked")):
            assert int(buffer) > 0, name_of
    evaluate_run(tmp_path / "run")
    assert "imagined" in (tmp_path / "run" / "evaluation.md").read_text()
    assert (tmp_path / "run" / "pictures" / "imagined.gif").exists()
    batch = whole_episodes(config, model, "test", 2, 8)
    video = make_video(model, batch, context=4, horizon=4, no_memory=True)
    assert video.episodes == 2
    wmkit.save(model, tmp_path / "saved")
    again = wmkit.load(tmp_path / "saved")
    image, action = batch.image, batch.action
    with torch.no_grad():
        ours, theirs = (one.observe(image, action)[0].features for one in (model, again))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", VIDEO)
def test_heads_policies_states_of_every_window_and_carried_ones(name: str) -> None:
    torch.manual_seed(0)
    model = build_world_model(name, "tiny", (1, 16, 16), 2, reward_head=True, continue_head=True)
    image, action = torch.randint(0, 256, (2, 8, 1, 16, 16)).byte(), torch.randn(2, 8, 2)
    batch = Batch.of(image, action, reward=torch.ones(2, 8))
    out = model(batch, None, model.draw_noise(2, 8), frames=torch.tensor([5, 1]))
    out.total.backward()
    assert {"image", "reward", "continue"} < out.terms.keys()
    assert all(term.shape == (2, 8) for term in out.terms.values())
    assert sorted({int(t) for t in out.terms["image"].nonzero()[:, 1]}) == [1, 5]
    later = model(dataclasses.replace(batch, is_first=torch.zeros(2, 8).bool()), tree.detach(out.state))
    assert torch.isfinite(later.total)

    model.eval()
    seen, states = model.observe(image, action, return_states=True)
    rows = tree.flatten(states)
    start = seen.features[:, 7:8] if name == "vta" else seen.features[:, :1]

    def policy(features: Tensor) -> Tensor:
        return features[:, :2]

    one = tree.index(rows, torch.tensor([1, 3] if name == "vta" else [0, 8]))
    dream = model.imagine(policy=policy, horizon=3, features=start[:, 0], state=one)
    assert model.decode(dream.features).shape == (2, 3, 1, 16, 16)
    assert model.predict_reward(dream.features).shape == (2, 3)


@pytest.mark.parametrize("name", VIDEO)
def test_a_single_frame_in_training_is_refused(name: str) -> None:
    model = build_world_model(name, "tiny", (1, 16, 16), 0).train()
    image, action = torch.rand(1, 4, 1, 16, 16), torch.zeros(1, 4, 0)
    _, state = model.observe(image, action)
    with pytest.raises(ValueError, match=r"one frame in train\(\), .* expected 2 or more; give more rows"):
        model.observe(image[:, :1], action[:, :1])
    if name == "svg_lp":
        with pytest.raises(ValueError, match=r"one frame in train\(\), .* or call model.eval\(\)"):
            model.imagine(action, state)
    model.eval().observe(image[:, :1], action[:, :1])
    model.imagine(action, state)


@pytest.mark.parametrize("name", VIDEO)
def test_a_key_of_the_model_that_nothing_reads_is_refused_and_those_of_a_recipe_are_passed_over(name: str) -> None:
    run = dataclasses.replace(run_of(name), model=wmkit.ModelConfig(depth=3, networks="planet"))
    assert compose(run, ["train.steps=3"]).backbone_name == name
    with pytest.raises(
        ValueError,
        match=rf"model.depth=5: {name} has networks and latents of its own; see the fields of its config, backbone",
    ):
        compose(run, ["model.depth=5"])
    with pytest.raises(
        ValueError, match=rf"model=\{{units: 8, depth: 5\}}: {name} has networks and latents of its own"
    ):
        compose(run, ["model={units: 8, depth: 5}"])
    with pytest.raises(ValueError, match=rf"model.recompute=true: {name} keeps what its networks have computed"):
        compose(run, ["model.recompute=true"])
    assert compose(run, ["model={units: 8}"]).model.units == 8


def test_a_video_model_that_nobody_registered_is_refused_with_how_to_do_it() -> None:
    class Own(Vta):
        """Not registered."""

    with pytest.raises(ValueError, match=r'Own is not registered: @register_backbone\(..., kind="video_model"\) says'):
        build_world_model(Own, "tiny", (1, 16, 16), 0)


@pytest.mark.parametrize(("name", "preset"), [("svg_lp", "svg-lp-dcgan"), ("vta", "vta-bouncing-balls")])
def test_the_pages_words_train_on_the_loss_of_the_preset(name: str, preset: str) -> None:
    """Whatever the recipe sets for its own system."""
    page = re.sub(r"\\\n *", "", (ROOT / "docs" / "video_models.md").read_text())
    [command] = re.findall(rf"python (recipes/\w+\.py) (backbone={name} .*)", page)
    recipe, words = command
    config = compose(runpy.run_path(str(ROOT / recipe))["config"](), shlex.split(words))
    chosen = PRESETS[preset]
    assert {key: getattr(config.model, key) for key in chosen.model} == chosen.model
    assert (config.train.lr, config.data.length) == (chosen.train["lr"], chosen.length)
    assert name == "vta" or config.train.decode_share == 1  # BatchNorm of the decoder sees all steps


@pytest.mark.parametrize("preset", ["svg-lp-dcgan", "svg-lp-vgg", "vta-bouncing-balls", "vta-video"])
def test_a_preset_can_be_chosen_on_a_command_line(preset: str) -> None:
    config = compose(RunConfig(), [f"preset={preset}", "world=moving_mnist"])
    assert config.backbone_name in VIDEO
    assert config.model is not None
    assert config.model.kl_balance is None
    assert config.data.length < 101
