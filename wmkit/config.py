"""What a run is: typed dataclasses with a default on every field, checked when they are made.

They are plain dataclasses, so a library user builds them by hand; `wmkit.training.compose` makes one of a command line
with Hydra's grammar. Saved as `config.json` in the run folder.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from wmkit.checks import check_between, check_bool, check_choice, check_integer, check_positive, closest
from wmkit.data.worlds import SPLITS, World, describe_world, find_world, list_worlds, restore_world
from wmkit.files import user_path
from wmkit.registry import entry_of, get_entry

SIZES = ("tiny", "small", "2d", "3d")
"""`tiny` for tests, `small` for a CPU, `2d` and `3d` as in S4WM's Tables 7 and 8."""

MOST_THREADS = 1024
"""CPU threads beyond which OpenMP gives up, with the process."""
MOST_WORKERS = 256
"""Processes that prepare batches beyond which a machine has no memory for them."""
SAMPLERS = ("windows", "episodes", "persistent")
_LATENTS = ("latent", "groups", "classes", "latent_size", "unimix", "posterior")
NOT_OF_VIDEO = ("depth", "networks", "image_output", "recompute", *_LATENTS)
"""Keys of `ModelConfig` that no video model reads: its own config has its networks and latents."""


def why_not_of_video(name: str, key: str) -> str:
    """Why the video model `name` does not read the key of `NOT_OF_VIDEO`, and what to do."""
    if key == "recompute":
        return f"{name} keeps what its networks have computed for the backward pass; leave it out"
    return f"{name} has networks and latents of its own; see the fields of its config, backbone.* on a command line"


class Rule(NamedTuple):
    """Who may change a key: a run that is resumed, or one system of several that are compared."""

    resume: bool
    """Whether a resumed run may change it: it enters no number that is trained or logged."""
    compare: Literal["own", "same", "pace"]
    """`own`: a system may have its own. `same`: all have the same. `pace`: so too, because it decides how far a run
    comes in a budget of minutes; with a budget of steps it makes no difference."""
    preset: bool = False
    """Whether a key of the model may be given beside a preset: it is asked of the network, not part of what it is."""


SYSTEM = Rule(resume=False, compare="own")._asdict()  # what is trained
LOSS = Rule(resume=False, compare="own", preset=True)._asdict()  # what is asked of the model, whatever it is
SHARED = Rule(resume=False, compare="same")._asdict()  # data, budget and validation
TEST = Rule(resume=True, compare="same")._asdict()  # the evaluation at the end alone
PACE = Rule(resume=True, compare="pace")._asdict()
FREE = Rule(resume=True, compare="own")._asdict()


def rule_of(name: str) -> Rule:
    """The rule of a dotted key of `RunConfig`; keys of `backbone` and `world` follow these two.

    Raises `ValueError` for a key that no field stands for.
    """
    section, _, rest = name.partition(".")
    sections = {"model": ModelConfig, "data": DataConfig, "train": TrainConfig, "eval": EvalConfig}
    config: type[Any] = sections.get(section, RunConfig)
    fields = {entry.name: entry for entry in dataclasses.fields(config)}
    key = rest if section in sections else section
    if key not in fields or not fields[key].metadata:
        raise ValueError(f"{name!r} is no key of a run's config.{closest(key, fields)}")
    return Rule(**fields[key].metadata)


@dataclasses.dataclass(kw_only=True)
class ModelConfig:
    """Everything about a world model that is not its backbone."""

    depth: int = field(default=48, metadata=SYSTEM)
    """Channels of the encoder's first stage; doubled at each stage (S4WM: 48 in 3D, 32 in 2D)."""
    units: int = field(default=1000, metadata=SYSTEM)
    """Width of every head's hidden layer (S4WM: 1000 in 3D, 512 in 2D)."""
    latent: str = field(default="categorical", metadata=SYSTEM)
    """`categorical` (groups x classes; S4WM) or `gaussian` (latent_size numbers; sharp sooner, so `small` has it)."""
    groups: int = field(default=32, metadata=SYSTEM)
    """Categorical variables per step."""
    classes: int = field(default=32, metadata=SYSTEM)
    """Classes of each."""
    latent_size: int = field(default=32, metadata=SYSTEM)
    """Numbers per step of a Gaussian latent."""
    posterior: str | None = field(default=None, metadata=SYSTEM)
    """`factorized`, `filtering` or `full`; None: the backbone's own default."""
    first_step: str | None = field(default=None, metadata=SYSTEM)
    """`condition`: an episode's first step enters no loss (S4WM, TSSM); `model`: it does (RSSM); None: by posterior."""
    networks: str = field(default="dreamerv3", metadata=SYSTEM)
    """Encoder and decoder: `dreamerv3` (normalised), or `planet` (plain convolutions; CW-VAE)."""
    image_output: str = field(default="linear", metadata=LOSS)
    """What makes pixels of the decoder's last layer: `linear`, `stretched_sigmoid` (-0.1 to 1.1), `tanh` (CW-VAE)."""
    image_loss: str = field(default="nll", metadata=LOSS)
    """`nll`: 0.5 * squared error, the unit-variance Gaussian's (S4WM, eq. 5); `sse`: squared error (DreamerV3); `mse`:
    its mean over the C H W pixels, beside which `kl_scale` is SVG's beta: `nll` with beta * C H W / 2;
    `gaussian`: the whole -ln N(x; decoded, image_std) with its constant (CW-VAE)."""
    image_std: float = field(default=1.0, metadata=LOSS)
    """Standard deviation of every pixel under `gaussian`."""
    kl_balance: float | None = field(default=0.8, metadata=LOSS)
    """Share of the KL's gradient that moves the prior (S4WM: 0.8); None: the plain KL (CW-VAE)."""
    kl_scale: float = field(default=1.0, metadata=LOSS)
    """Weight of the KL against the image loss (the papers: 1; `small` takes 0.3, for pictures within minutes)."""
    free_bits: float = field(default=0.0, metadata=LOSS)
    """Nats per step below which the KL is not pushed; 0 is off (S4WM), DreamerV3 uses 1."""
    unimix: float = field(default=0.01, metadata=LOSS)
    """Share of the uniform distribution mixed into every categorical."""
    reward_head: bool = field(default=False, metadata=SYSTEM)
    """Predict the reward from concat[h, z]."""
    reward_scale: float = field(default=1.0, metadata=SYSTEM)
    """Weight of the reward's 0.5 * squared error; a reward that comes once an episode needs about 10 to be heard."""
    continue_head: bool = field(default=False, metadata=SYSTEM)
    """Predict whether the episode goes on."""
    recompute: bool = field(default=False, metadata=FREE)
    """Activation checkpointing: keep nothing of encoder and decoder for the backward pass but what goes in, and compute
    them again, some thousand frames at a time. Less memory, more time; sums in another order change the last bits."""

    def __post_init__(self) -> None:
        check_choice("model.latent", self.latent, ("categorical", "gaussian"))
        check_choice("model.posterior", self.posterior, (None, "factorized", "filtering", "full"))
        check_choice("model.first_step", self.first_step, (None, "condition", "model"))
        check_choice("model.networks", self.networks, ("dreamerv3", "planet"))
        check_choice("model.image_output", self.image_output, ("linear", "stretched_sigmoid", "tanh"))
        check_choice("model.image_loss", self.image_loss, ("nll", "sse", "mse", "gaussian"))
        if self.kl_balance is not None:
            check_between("model.kl_balance", self.kl_balance, 0, 1)
        check_between("model.unimix", self.unimix, 0, 1)
        check_positive("model.image_std", self.image_std)
        for name in ("kl_scale", "free_bits", "reward_scale"):
            check_between(f"model.{name}", getattr(self, name), 0)
        for name in ("depth", "units", "groups", "classes", "latent_size"):
            check_integer(f"model.{name}", getattr(self, name), 1)
        for name in ("reward_head", "continue_head", "recompute"):
            check_bool(f"model.{name}", getattr(self, name))

    @classmethod
    def for_size(cls, size: str) -> Self:
        """The numbers of a size; raises `ValueError` for an unknown one."""
        check_choice("size", size, SIZES)
        numbers: dict[str, dict[str, Any]] = {
            "tiny": {"depth": 8, "units": 64, "groups": 8, "classes": 8},
            "small": {"depth": 16, "units": 256, "latent": "gaussian", "groups": 16, "classes": 16, "kl_scale": 0.3},
            "2d": {"depth": 32, "units": 512},
            "3d": {"depth": 48, "units": 1000},
        }
        return cls(**numbers[size])


@dataclasses.dataclass(kw_only=True)
class DataConfig:
    """Where episodes come from and how they are cut into batches."""

    source: str | None = field(default=None, metadata=SHARED)
    """Folder of an episode archive or its cache, or one that holds archives called train, valid and test; None: the
    run's world generates episodes while training."""
    valid_source: str | None = field(default=None, metadata=SHARED)
    """The archive of the held-out split that validations read; None: `valid` beside `train` in `source`, else the run's
    world generates it."""
    test_source: str | None = field(default=None, metadata=TEST)
    """The archive that the table and the pictures at the end are about; None: `test` beside `train` in `source`, else
    the validation archive of a run on archives, else the run's world generates it."""
    sampler: str = field(default="windows", metadata=SYSTEM)
    """`windows` at random places, whole `episodes`, or `persistent` rows that walk their episodes (TBTT)."""
    length: int = field(default=64, metadata=SYSTEM)
    """Time steps of a window; whole episodes ignore it."""
    batch_size: int = field(default=16, metadata=SYSTEM)
    """Rows of the global batch, over all processes."""
    episodes: int | None = field(default=None, metadata=SHARED)
    """Episodes of the training split that a generated source holds; None: it never repeats itself."""
    episode_length: int | None = field(default=None, metadata=SHARED)
    """Observations of a generated episode, from its first on; None: all of them."""
    windows_per_episode: int | None = field(default=None, metadata=SYSTEM)
    """Windows taken from an episode before the next ones are loaded; None: as many as fit."""
    workers: int = field(default=1, metadata=PACE)
    """Processes that prepare batches; they do not change what the batches are."""
    seed: int = field(default=0, metadata=SHARED)
    """Seed of the world's episodes, apart from the run's `seed`, so that runs can share their data."""

    def __post_init__(self) -> None:
        for name in ("source", "valid_source", "test_source"):
            value = getattr(self, name)
            if value is not None and not str(value).strip():
                raise ValueError(f"data.{name}: expected a folder, got nothing")
            setattr(self, name, user_path(value))
        check_choice("data.sampler", self.sampler, SAMPLERS)
        for name in ("length", "batch_size", "episodes", "episode_length", "windows_per_episode"):
            if getattr(self, name) is not None:
                check_between(f"data.{name}", getattr(self, name), 1)
        check_between("data.workers", self.workers, 0, MOST_WORKERS)
        check_between("data.seed", self.seed, 0)


@dataclasses.dataclass(kw_only=True)
class TrainConfig:
    """The optimiser, its schedule, and what is written when. All `*_every` count optimiser steps."""

    steps: int = field(default=1000, metadata=SHARED)
    """The run's budget in optimiser steps, unless `minutes` is given."""
    minutes: float | None = field(default=None, metadata=SHARED)
    """The run's budget in minutes of training, validations and checkpoints not counted, instead of `steps`. With
    `device=cpu threads=1` and `data.workers=0` they are minutes of processor time, else of wall time. How many steps
    that makes depends on the machine: such a run cannot be repeated to the last bit."""
    lr: float = field(default=3e-4, metadata=SYSTEM)
    """Peak learning rate; parameters with a hint of their own (S4) keep theirs."""
    weight_decay: float = field(default=1e-2, metadata=SYSTEM)
    """AdamW's, on every parameter without a hint of its own, biases included, as in the S4WM paper."""
    warmup: int = field(default=50, metadata=SYSTEM)
    """Steps of linear rise from 0."""
    schedule: str = field(default="cosine", metadata=SYSTEM)
    """`cosine` falls to 0 at the end of the budget; `constant` stays."""
    clip: float = field(default=1000.0, metadata=SYSTEM)
    """Largest global gradient norm."""
    decode_share: float = field(default=1.0, metadata=SYSTEM)
    """Share of a window's time steps whose image is decoded, drawn anew at each step; the image loss stays unbiased."""
    precision: str = field(default="fp32", metadata=SYSTEM)
    """`fp32`, `bf16` autocast, or `auto`: bf16 where the device multiplies it natively."""
    matmul_precision: str = field(default="highest", metadata=SYSTEM)
    """`torch.set_float32_matmul_precision`: `highest`, `high` or `medium` (faster, where the machine has it)."""
    device: str = field(default="auto", metadata=SHARED)
    """`auto` takes the accelerator that is there; `cpu` does not."""
    threads: int | None = field(default=None, metadata=PACE)
    """CPU threads; None: torch's number, fewer while other programs hold cores. Another count changes the last bits."""
    log_every: int = field(default=10, metadata=SYSTEM)
    """Steps between log lines."""
    eval_every: int = field(default=100, metadata=SYSTEM)
    """Steps between validations on the held-out split; the best one's checkpoint is kept."""
    checkpoint_every: int = field(default=100, metadata=FREE)
    """Steps between checkpoints: what a crash can cost."""
    keep_last: int = field(default=2, metadata=FREE)
    """Newest checkpoints kept beside the best one."""

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "eval_every", "checkpoint_every", "keep_last"):
            check_between(f"train.{name}", getattr(self, name), 1)
        for name in ("warmup", "weight_decay"):
            check_between(f"train.{name}", getattr(self, name), 0)
        for name in ("lr", "clip"):
            check_positive(f"train.{name}", getattr(self, name))
        if self.minutes is not None:
            check_positive("train.minutes", self.minutes)
        if not 0 < self.decode_share <= 1:
            raise ValueError(f"train.decode_share: expected a share in (0, 1], got {self.decode_share}")
        if self.threads is not None:
            check_between("train.threads", self.threads, 1, MOST_THREADS)
        check_choice("train.schedule", self.schedule, ("cosine", "constant"))
        check_choice("train.precision", self.precision, ("auto", "fp32", "bf16"))
        check_choice("train.matmul_precision", self.matmul_precision, ("highest", "high", "medium"))
        check_choice("train.device", self.device, ("auto", "cpu"))


@dataclasses.dataclass(kw_only=True)
class EvalConfig:
    """The context | query protocol on held-out episodes, and the batches of a validation."""

    episodes: int = field(default=64, metadata=TEST)
    """Held-out episodes of the final table."""
    context: int | None = field(default=None, metadata=SHARED)
    """Observed steps before imagination; None: as the world or its archive says, else half of an archive's shortest
    episode."""
    horizon: int | None = field(default=50, metadata=TEST)
    """Imagined steps; None: to the end of the world's episodes, or of an archive's shortest one."""
    batches: int = field(default=2, metadata=SHARED)
    """Batches of a validation during training; with the persistent sampler, one whole episode for each row instead."""
    reward_episodes: int = field(default=1000, metadata=TEST)
    """Held-out episodes of the final reward accuracy, where the model predicts the reward that ends an episode."""
    valid_reward_episodes: int = field(default=128, metadata=SHARED)
    """The same at each validation during training."""

    def __post_init__(self) -> None:
        # Baselines show an episode the frames and actions of another; the first step of a context is not scored.
        check_between("eval.episodes", self.episodes, 2)
        for name in ("batches", "reward_episodes", "valid_reward_episodes"):
            check_between(f"eval.{name}", getattr(self, name), 1)
        for name, least in (("horizon", 1), ("context", 2)):
            if getattr(self, name) is not None:
                check_between(f"eval.{name}", getattr(self, name), least)


@dataclasses.dataclass(kw_only=True)
class RunConfig:
    """One run, whole: given this, the code and the seed, a CPU run is determined to the last bit."""

    world: Any = field(default="ray_maze_9x9", metadata=SHARED)
    """The name of a world or of a family, which becomes the world, or a world such as `RayMaze(size=11)`."""
    backbone: Any = field(default="s4", metadata=SYSTEM)
    """A registered name, which becomes that backbone's config for `size`, or such a config."""
    size: str = field(default="small", metadata=SYSTEM)
    """tiny, small, 2d or 3d: encoder, decoder, latents and heads, and the backbone's own numbers."""
    preset: str | None = field(default=None, metadata=FREE)
    """Name of the published system that this run started from: a label, its numbers stand in the other keys."""
    model: ModelConfig | None = field(default=None, metadata=SYSTEM)
    """Everything of the world model that is not its backbone; None becomes the numbers of `size`."""
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    seed: int = field(default=0, metadata=SHARED)
    """Seed of weights, batches and noise."""
    resume: bool = field(default=False, metadata=FREE)
    """Continue the unfinished run of the same name from its newest checkpoint."""
    run_dir: str | None = field(default=None, metadata=FREE)
    """The run folder; None: runs/recipe-world-backbone-seed, numbered when taken."""
    plugins: list[str] = field(default_factory=list, metadata=FREE)
    """Modules imported first, so that what they register can be named: plugins=a,b or plugins=[a,b]."""

    def __post_init__(self) -> None:
        check_choice("size", self.size, SIZES)
        self.seed = check_integer("seed", self.seed, 0)
        check_between("seed", self.seed, 0, 2**64 - 1)  # the seeds of torch.manual_seed
        self.run_dir = user_path(self.run_dir)
        if isinstance(self.world, str) or isinstance(self.backbone, str):
            import_plugins(self.plugins)
        self.world = find_world(self.world)
        if self.model is None:
            self.model = ModelConfig.for_size(self.size)
        if isinstance(self.backbone, str):
            self.backbone = get_entry(self.backbone).config.for_size(self.size)
        if entry_of(self.backbone) is None:
            raise ValueError(f"backbone: expected a registered name or its config, got {self.backbone!r}")
        for key, value in _not_finite(dataclasses.asdict(self)):
            raise ValueError(f"{key}: expected a finite number, got {value}, for which the JSON of configs has no word")

    @property
    def label(self) -> str:
        """What the run is about, in titles and names of folders: its archive if it has one, else its world."""
        return self.world.name if self.data.source is None else archive_name(self.data.source)

    @property
    def backbone_name(self) -> str:
        """The name under which the backbone is registered."""
        entry = entry_of(self.backbone)
        assert entry is not None, "checked when the config was made"
        return entry.name

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and scalars; `backbone` and `world` gain a `name`, that of the world's family."""
        return dataclasses.asdict(self) | {
            "world": json.loads(json.dumps(describe_world(self.world))),  # its tuples become lists
            "backbone": {"name": self.backbone_name, **dataclasses.asdict(self.backbone)},
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """The config that `to_dict` described; imports its plugins. Raises `ValueError` for keys it does not know."""
        import_plugins(values.get("plugins", []))
        backbone = dict(values["backbone"])
        entry = get_entry(backbone.pop("name"))
        world = values.get("world", cls.world)
        rest = {key: value for key, value in values.items() if key not in ("backbone", "world")}
        return _typed(cls, rest, backbone=_typed(entry.config, backbone), world=_world_of(world))


def archive_name(folder: str | Path) -> str:
    """What an archive is called: its folder, or the folder around one that is called after a split."""
    path = Path(os.path.abspath(folder))
    return (path.parent if path.name in SPLITS else path).name.removesuffix(".zarr")


def load_config(path: Path) -> RunConfig:
    """Read the JSON of `RunConfig.to_dict`; raises `ValueError` for a file that is not a run's config."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not the config of a run: {error}") from error
    backbone = values.get("backbone") if isinstance(values, dict) else None
    if not (isinstance(backbone, dict) and "name" in backbone):
        raise ValueError(f"{path} is not the config of a run: it names no backbone")
    try:
        return RunConfig.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _world_of(value: Any) -> World:
    """The world that a config file names, by its family and fields or, as older versions did, by its name alone."""
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return restore_world(value)
    if not isinstance(value, str) or value in list_worlds():
        return find_world(value)
    family = max((name for name in list_worlds() if value.startswith(name)), key=len, default=None)
    if family is None:
        return find_world(value)  # which says what there is
    settings = describe_world(find_world(family))
    raise ValueError(
        f'"world": "{value}" is written as by an older version, which put all settings in the name. Replace it by the '
        f"family and its settings, {json.dumps(settings)}, with the numbers of the old name "
        f"({value.removeprefix(family).strip('_')}) in place of these"
    )


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys in which two `to_dict` results differ, with both values."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found[prefix + key] = (a, b)
    return found


def _not_finite(values: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Dotted keys of numbers that are NaN or infinite, with their values."""
    if isinstance(values, dict | list | tuple):
        for name, value in values.items() if isinstance(values, dict) else enumerate(values):
            yield from _not_finite(value, f"{key}.{name}".removeprefix("."))
    elif isinstance(values, float) and not math.isfinite(values):
        yield key, values


def import_plugins(names: Sequence[str]) -> None:
    """Import the user's modules, found on `sys.path` or in the current folder; their decorators register backbones."""
    folder = os.getcwd()
    if any(not name.strip() for name in names):
        raise ValueError("plugins: expected the name of a module, got nothing")
    if names and folder not in sys.path:
        sys.path.append(folder)
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ValueError(f"plugins={name}: {error}. Looked on sys.path and in {folder}.") from error


def _typed(cls: type[Any], values: dict[str, Any], **ready: Any) -> Any:
    """An instance of dataclass `cls` from plain values, types checked by field; `ready` fields pass as they are."""
    names = [entry.name for entry in dataclasses.fields(cls)]
    for key in values:
        if key not in names:
            raise ValueError(f"{cls.__name__} has no key {key!r}.{closest(key, names)}")
    from omegaconf import DictConfig, OmegaConf, errors

    try:
        typed = OmegaConf.merge(OmegaConf.structured(cls), values)
        assert isinstance(typed, DictConfig), "a dataclass makes a DictConfig"
        fields = {key: _plain(typed[key]) for key in values}
    except errors.OmegaConfBaseException as error:
        raise ValueError(f"{cls.__name__}: {str(error).splitlines()[0]}") from error
    return cls(**fields, **ready)


def _plain(value: Any) -> Any:
    """A dataclass, list or scalar from what OmegaConf holds."""
    from omegaconf import OmegaConf

    return OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
