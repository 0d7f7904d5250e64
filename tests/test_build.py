"""`build_world_model`: what it takes, what it refuses, and the published parameter totals."""

import copy
import dataclasses
import gc
import io
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from wmkit import Backbone, BackboneConfig, Batch, build_world_model, list_backbones, register_backbone, registry
from wmkit.backbones.s4 import S4, S4Config
from wmkit.config import NOT_OF_VIDEO, ModelConfig
from wmkit.presets import PRESETS
from wmkit.registry import get_entry

TOTALS = {  # millions, without reward heads
    "s4wm-3d": 41.11,
    "tssm-xl-3d": 43.84,
    "rssm-tbtt-3d": 54.05,
    "s4wm-2d": 28.06,
    "tssm-xl-2d": 27.11,
    "rssm-tbtt-2d": 31.23,
}


class Leaky(Backbone):
    """A backbone that nobody registered."""

    def __init__(self, width: int, lazy: bool = False, normed: bool = False) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = width
        self.mix = torch.nn.LazyLinear(width) if lazy else torch.nn.Linear(width, width)
        if normed:
            with warnings.catch_warnings(action="ignore"):  # the old way is deprecated, and still found
                torch.nn.utils.weight_norm(self.mix)
            self.mix(torch.zeros(1, width))  # from the first call on it keeps a tensor that nobody can copy

    def initial_state(self, batch_size: int) -> Tensor:
        return self.mix.weight.new_zeros(batch_size, self.feature_dim)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = 0.9 * state + self.mix(x)
        return state, state


@pytest.mark.parametrize("preset", TOTALS)
def test_parameter_totals_are_those_of_the_paper(preset: str) -> None:
    image_shape, action_dim = ((3, 64, 64), 6) if preset.endswith("3d") else ((3, 40, 40), 7)
    with torch.device("cpu" if PRESETS[preset].backbone == "s4" else "meta"):  # HiPPO's eigenvalues need numbers
        model = build_world_model(preset=preset, image_shape=image_shape, action_dim=action_dim)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(TOTALS[preset], abs=0.05)


@pytest.mark.parametrize(
    "part", ["s4", S4, S4Config(input_dim=8, layers=1), S4(8, S4Config(layers=1)), Leaky, Leaky(5)]
)
def test_a_backbone_is_given_by_name_class_config_or_instance(part: Any) -> None:
    model = build_world_model(part, "tiny", (3, 16, 16), 2)
    features, _ = model.observe(torch.rand(1, 3, 3, 16, 16), torch.zeros(1, 3, 2))
    assert features.features.shape == (1, 3, model.feature_dim)


def test_an_instance_is_used_as_it_is_and_copied_for_the_full_posterior() -> None:
    part = Leaky(5)
    model = build_world_model(part, "tiny", (3, 16, 16), 2, posterior="full")
    assert model.dynamics.backbone is part
    assert model.dynamics.posterior_backbone is not part


@pytest.mark.parametrize("name", list_backbones("backbone"))
def test_the_full_posteriors_backbone_beside_an_instance_has_weights_of_its_own(name: str) -> None:
    entry = get_entry(name)
    config = entry.config.for_size("tiny")
    for core in (entry.cls(config.input_dim, config), entry.cls(6), Leaky(5)):
        second = build_world_model(core, "tiny", (3, 16, 16), 2, posterior="full").dynamics.posterior_backbone
        assert type(second) is type(core)
        assert [p.shape for p in second.parameters()] == [p.shape for p in core.parameters()]
        layers = zip(core.modules(), second.modules(), strict=True)
        drawn = [(left.weight, right.weight) for left, right in layers if isinstance(left, torch.nn.Linear)]
        assert drawn
        assert not any(torch.equal(left, right) for left, right in drawn)


def test_weights_that_nobody_can_draw_anew_are_named_for_the_full_posterior() -> None:
    core = Leaky(5)
    core.table = torch.nn.Parameter(torch.randn(3))
    with pytest.warns(UserWarning, match=r"the second Leaky starts with the first one's table; give the class, or"):
        build_world_model(core, "tiny", (3, 16, 16), 2, posterior="full")


def test_one_instance_cannot_be_part_of_two_models_at_once() -> None:
    core = Leaky(5)
    model = build_world_model(core, "tiny", (3, 16, 16), 2)
    with pytest.raises(ValueError, match=r"this Leaky is part of another world model.*give copy.deepcopy\(backbone\)"):
        build_world_model(core, "tiny", (3, 16, 16), 2)
    other = build_world_model(copy.deepcopy(core), "tiny", (3, 16, 16), 2)
    with pytest.raises(ValueError, match="this Leaky is part of another world model"):
        build_world_model(other.dynamics.backbone, "tiny", (3, 16, 16), 2)
    del model
    gc.collect()
    build_world_model(core, "tiny", (3, 16, 16), 2)  # nobody is left to share with


def test_a_posterior_that_does_not_exist_is_refused_as_a_backbones_default() -> None:
    class Filter(Leaky):
        default_posterior = "filter"

    for part in (Filter, Filter(4)):
        with pytest.raises(ValueError, match=r"Filter.default_posterior: expected one of factorized, filtering, full"):
            build_world_model(part, "tiny")


@pytest.mark.parametrize("name", list_backbones("backbone"))
def test_an_unregistered_subclass_has_the_sizes_numbers_of_its_parent(name: str) -> None:
    entry = get_entry(name)
    mine = type("Mine", (entry.cls,), {})
    with torch.device("cpu"):
        core = build_world_model(mine, "tiny", (3, 16, 16), 2).dynamics.backbone
    config = entry.config.for_size("tiny")
    assert type(core) is mine
    assert (core.input_dim, core.config) == (config.input_dim, config)


def test_an_unregistered_s4_has_the_width_of_the_large_size() -> None:
    class Mine(S4):
        def __init__(self, input_dim: int, config: S4Config | None = None) -> None:
            super().__init__(input_dim, dataclasses.replace(config, layers=1))
            self.given = config

    core = build_world_model(Mine, "3d", (3, 16, 16), 2).dynamics.backbone
    assert (core.input_dim, core.given) == (512, S4Config.for_size("3d"))


def test_an_unregistered_subclass_that_takes_no_config_has_the_parents_width() -> None:
    class Narrow(S4):
        def __init__(self, input_dim: int) -> None:
            super().__init__(input_dim, S4Config(layers=1))

    assert build_world_model(Narrow, "tiny", (3, 16, 16), 2).dynamics.backbone.input_dim == 16


@pytest.mark.reported(
    "machines",
    "TariqAHassan/S4Torch#14, VincentStimper/normalizing-flows#43",
    "`pickle`, `torch.save` or `deepcopy` of a whole model",
    "the same frames from the copy",
)
@pytest.mark.parametrize("preset", [*PRESETS])
def test_a_model_of_every_preset_is_pickled_copied_and_saved_whole(preset: str) -> None:
    chosen = PRESETS[preset]
    options = {**chosen.model, "depth": 2, "units": 8, "groups": 2, "classes": 3, "latent_size": 3}
    if get_entry(chosen.backbone).kind == "video_model":
        options = {key: value for key, value in options.items() if key not in NOT_OF_VIDEO}
    numbers = dataclasses.asdict(get_entry(chosen.backbone).config.for_size("tiny")) | chosen.backbone_options
    if chosen.backbone == "clockwork":
        numbers |= {"width": 8, "level_units": 8, "factor": min(2, numbers["factor"])}
    if chosen.backbone in ("svg_lp", "vta"):
        numbers |= {key: 4 for key in ("depth", "code", "hidden", "width", "window") if key in numbers}
    part = get_entry(chosen.backbone).config(**numbers)
    model = build_world_model(part, "tiny", (3, 16, 16), 2, **options).eval()
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), torch.load(file, weights_only=False)]
    image, action = torch.rand(2, 4, 3, 16, 16), torch.randn(2, 4, 2)
    with torch.no_grad():
        seen, state = model.observe(image, action)
        for other in copies:
            found, after = other.observe(image, action)
            future = other.imagine(action, after)
            assert torch.equal(other.decode(found.features), model.decode(seen.features))
            assert torch.equal(future.features, model.imagine(action, state).features)


def test_the_full_posteriors_backbone_has_weights_of_its_own() -> None:
    dynamics = build_world_model("s4", "tiny", (3, 16, 16), 2, posterior="full").dynamics
    pairs = zip(dynamics.backbone.parameters(), dynamics.posterior_backbone.parameters(), strict=True)
    assert any(not torch.equal(left, right) for left, right in pairs)


@pytest.mark.reported(
    "messages",
    "",
    "`build_world_model` with misspelt names, sizes in another order, text for numbers, another library's module",
    "`ValueError`: what was expected, what came, the nearest name",
)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "s5x"}, "Unknown backbone 's5x'"),
        ({"backbone": 3}, "expected a registered name"),
        ({"size": "huge"}, "size: expected one of"),
        ({"depht": 3}, "unknown option 'depht'"),
        ({"posterior": "smoothing"}, "model.posterior"),
        ({"action_dim": -1}, "action_dim"),
        ({"action_dim": 2.5}, r"action_dim .*expected a whole number of at least 0, got 2.5 \(float\)"),
        ({"action_dim": 2.0}, r"action_dim .*expected a whole number of at least 0, got 2.0"),
        ({"action_dim": "2"}, r"action_dim .*expected a whole number of at least 0, got '2' \(str\)"),
        ({"action_dim": None}, r"action_dim .*expected a whole number of at least 0, got None"),
        ({"action_dim": True}, r"action_dim .*expected a whole number"),
        ({"image_shape": (0, 16, 16)}, r"image_shape .*: C: expected at least 1, got 0"),
        ({"image_shape": (-3, 16, 16)}, r"image_shape .*: C: expected at least 1, got -3"),
        ({"image_shape": 64}, r"image_shape: expected three numbers \(C, H, W\) such as \(3, 64, 64\), got 64"),
        ({"image_shape": None}, r"image_shape: expected three numbers .*, got None"),
        ({"image_shape": "RGB"}, r"image_shape: expected three numbers .*, got 'RGB'"),
        ({"image_shape": (3, 16.5, 16)}, r"image_shape .*: H: expected a whole number of at least 1, got 16.5"),
        ({"image_shape": (16, 16, 3)}, r"expected \(C, H, W\), yours looks like HWC.*give \(3, 16, 16\)"),
        ({"units": 2.5}, r"model.units: expected a whole number of at least 1, got 2.5"),
        ({"units": "64"}, r"model.units: expected a whole number of at least 1, got '64'"),
        ({"reward_head": "yes"}, r"model.reward_head: expected True or False, got 'yes'"),
        ({"kl_scale": "1"}, r"model.kl_scale: expected a number, got '1'"),
        ({"backbone": "GRU"}, r"Unknown backbone 'GRU'. Did you mean 'gru'\?"),
        ({"backbone": "s4wm-3d"}, r"'s4wm-3d' is a preset, not a backbone: write preset='s4wm-3d'"),
        ({"backbone": torch.nn.LSTM(3, 3)}, r"LSTM is a torch.nn.Module but no backbone; subclass wmkit.Backbone"),
        ({"backbone": torch.nn.GRU}, r"GRU is a torch.nn.Module but no backbone; subclass wmkit.Backbone"),
        ({"backbone": Leaky(4).double()}, r"the weights of this Leaky are torch.float64, those of the model will be"),
        ({"backbone": Leaky(4, lazy=True)}, r"Leaky.mix.weight is lazy, it has no shape yet"),
        (
            {"backbone": Leaky(4, normed=True), "posterior": "full", "size": "tiny"},
            r"this Leaky cannot be copied \(.*\); give its class or config, or take torch.nn.utils.parametrizations",
        ),
        ({"image_shape": (3, 64)}, "image_shape"),
        ({"image_shape": (3, 48, 48)}, "4 or 5 times a power of two"),
        ({"preset": "s4wm-4d"}, "Unknown preset"),
        ({"preset": "s4wm-3d", "size": "2d"}, "preset 's4wm-3d' fixes size='3d'"),
        ({"preset": "s4wm-3d", "backbone": "gru"}, "fixes backbone='s4'"),
        ({"preset": "s4wm-3d", "posterior": "full"}, "fixes posterior='factorized'"),
        ({"kl_balance": 1.5}, "kl_balance"),
        ({"groups": 0}, "model.groups"),
        ({"backbone": "svg_lp", "first_step": "model"}, "svg_lp reads an episode's first frame .*=condition"),
        ({"backbone": "svg_lp", "depth": 3}, "depth=3: svg_lp has networks and latents of its own; see the fields"),
        ({"backbone": "svg_lp", "recompute": True}, "recompute=True: svg_lp keeps what its networks have computed"),
        ({"unimix": 1.5}, "model.unimix"),
        ({"kl_scale": -1.0}, "model.kl_scale"),
        ({"free_bits": float("nan")}, "model.free_bits"),
    ],
)
def test_bad_arguments_are_refused_with_advice(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_world_model(**arguments)


def test_a_registered_class_that_is_no_backbone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    class OddConfig(BackboneConfig):
        pass

    @register_backbone("odd", OddConfig)
    class Odd(torch.nn.Identity):
        pass

    with pytest.raises(ValueError, match=r"Odd is registered as a backbone: make it a subclass of wmkit.Backbone"):
        build_world_model("odd", "tiny")


def moving_bars(side: int) -> Batch:
    """Eight episodes of eight frames: on a ground of its own colour a bar walks left or right as the action says."""
    generator = torch.Generator().manual_seed(0)
    move = torch.randint(0, 2, (8, 8), generator=generator)
    move[:, 0] = 0
    position = (torch.arange(8).unsqueeze(1) + (2 * move - 1).cumsum(1)) % 4
    ground = torch.tensor([[row >> bit & 1 for bit in range(3)] for row in range(8)], dtype=torch.uint8) * 255
    image = ground.reshape(8, 1, 3, 1, 1).repeat(1, 8, 1, side, side)
    for row in range(8):
        for t in range(8):
            left = int(position[row, t]) * side // 4
            image[row, t, :, :, left : left + side // 4] = 128
    is_first = torch.zeros(8, 8, dtype=torch.bool)
    is_first[:, 0] = True
    action = torch.nn.functional.one_hot(move, 2).float() * ~is_first.unsqueeze(-1)
    zeros = torch.zeros(8, 8)
    return Batch(
        image=image,
        action=action,
        reward=zeros,
        is_first=is_first,
        is_terminal=zeros.bool(),
        mask=~zeros.bool(),
        inner_reset=False,
    )


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "preset",
    [
        "s4wm-3d",
        "s4wm-full-posterior-3d",
        pytest.param("s4wm-no-mlp-3d", marks=pytest.mark.long),
        "tssm-xl-3d",
        "rssm-tbtt-3d",
    ],
)
def test_every_preset_with_actions_overfits_eight_short_episodes_at_tiny_size(preset: str) -> None:
    """Within 450 steps, one on images of 2D worlds; at this size a preset for 2D worlds is that for 3D ones."""
    side = 20 if preset == "tssm-xl-3d" else 16
    model = build_world_model(build_tiny_backbone(preset), "tiny", (3, side, side), 2, **PRESETS[preset].model)
    batch, generator = moving_bars(side), torch.Generator().manual_seed(1)
    pixels = batch.image / 255
    of_mean_image = (pixels - pixels.mean((0, 1))).square().sum((2, 3, 4)).mean()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(450):
        out = model(batch, None, model.draw_noise(8, 8, generator), return_state=False)
        if out.metrics["squared_error"] < 0.12 * of_mean_image and out.metrics["kl"] < 12:
            return
        optimiser.zero_grad()
        out.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimiser.step()
    pytest.fail(f"squared error {out.metrics['squared_error']:.1f} of {of_mean_image:.1f}, KL {out.metrics['kl']:.1f}")


def build_tiny_backbone(preset: str) -> Any:
    """The preset's backbone config at tiny size, its own options kept."""
    chosen = PRESETS[preset]
    return dataclasses.replace(get_entry(chosen.backbone).config.for_size("tiny"), **chosen.backbone_options)


@pytest.mark.parametrize(
    ("system", "lr", "warmup", "schedule", "clip", "batch_size", "windows"),
    [
        ("s4wm", 1e-3, 1000, "cosine", 1000, 8, {"3d": None, "2d": None}),
        ("s4wm-full-posterior", 1e-3, 1000, "cosine", 1000, 8, {"3d": None, "2d": None}),
        ("s4wm-no-mlp", 1e-3, 1000, "cosine", 1000, 8, {"3d": None, "2d": None}),
        ("tssm-xl", 1e-4, 0, "constant", 1000, 8, {"3d": None, "2d": None}),
        ("rssm-tbtt", 3e-4, 0, "constant", 200, 32, {"3d": 48, "2d": 50}),
    ],
)
def test_presets_bring_the_papers_optimiser(
    system: str, lr: float, warmup: int, schedule: str, clip: float, batch_size: int, windows: dict[str, int | None]
) -> None:
    """S4WM, Tables 7 and 8."""
    train = {"lr": lr, "weight_decay": 1e-2, "warmup": warmup, "schedule": schedule, "clip": clip}
    for size, window in windows.items():
        preset = PRESETS[f"{system}-{size}"]
        assert (preset.train, preset.batch_size, preset.tbtt) == (train, batch_size, window)


def test_model_options_have_numbers_for_every_size() -> None:
    assert ModelConfig.for_size("3d").units == 1000
    assert ModelConfig.for_size("2d").depth == 32
