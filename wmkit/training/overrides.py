"""From overrides to a `RunConfig`, with Hydra's grammar: `backbone=s4 backbone.layers=2 train.steps=500`.

`backbone` and `world` are config groups whose choices are the registered backbones and worlds, so that a user's own,
named by `plugins=my_module`, are chosen like those that ship: `world=distracting_memory world.width=64`. Hydra only
composes: it starts no job, changes no folder and writes nothing.

Paths (`PATHS`) are text as it stands, also where Hydra's grammar would refuse them or take them for something else.

Sweeps: `backbone=s4,gru seed=range(3)` becomes one list of plain overrides per combination. `plugins=a,b` is none, but
the list `plugins=[a,b]`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString, RangeSweep
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wmkit.build import get_preset
from wmkit.checks import closest
from wmkit.config import NOT_OF_VIDEO, SIZES, ModelConfig, RunConfig, import_plugins, why_not_of_video
from wmkit.data.worlds import World, describe_world, find_world
from wmkit.files import user_path
from wmkit.registry import Entry, get_entry
from wmkit.training.short import is_short, shortened

NODE = "wmkit_run"
GROUPS = ("backbone", "world")
PATHS = ("run_dir", "out", "data.source", "data.valid_source", "data.test_source")
"""Keys whose values are paths; `out` is that of a comparison."""
CHOSEN = "chosen"
"""The one choice that Hydra knows of each group: the node of what the words name."""


def compose(defaults: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """`defaults` changed by `key=value` words; shortened where the environment says so (`short.py`).

    Raises `ValueError`, in one line that says what to do, for an unknown backbone, world, preset, key or value.
    """
    words = _expand_preset(parse_overrides(overrides))
    for word in words:
        if word.is_sweep_override():
            comma = f" Or quote a comma of a name: '{word.key_or_group}=\"a,b\"'." if word.key_or_group in PATHS else ""
            raise ValueError(
                f"{word.input_line}: several values make a sweep. Add -m to run them one after another.{comma}"
            )
    import_plugins(_plugins(words, defaults))
    size = _scan(words, "size", defaults.size)
    ModelConfig.for_size(size)  # refuses an unknown size before any backbone is asked for its numbers
    choice = _scan(words, "backbone", defaults.backbone_name)
    if not isinstance(choice, str):
        raise ValueError(f"backbone: expected the name of a registered one, as in backbone=s4, got {choice}")
    entry = get_entry(choice)
    for word in words if entry.kind == "video_model" else ():
        group, _, key = word.key_or_group.partition(".")
        value = word.value()
        keys = list(value) if isinstance(value, dict) else [key]  # model={depth: 5}
        if group == "model" and (unread := [key for key in keys if key in NOT_OF_VIDEO]):
            raise ValueError(f"{word.input_line}: {why_not_of_video(choice, unread[0])}")
    world = _scan(words, "world", defaults.world)
    if not isinstance(world, str) and world is not defaults.world:
        raise ValueError(f"world: expected the name of one, as in world=ray_maze_9x9, got {world}")
    try:
        with _own_hydra():
            resized = size != defaults.size or _scan(words, "preset", None) is not None
            _check_keys(words, _store(defaults, size, resized, entry, find_world(world)))
            lines = [str(word.input_line) for word in words if word.key_or_group not in GROUPS]
            with hydra.initialize(version_base="1.3", config_path=None):
                composed = hydra.compose(config_name=NODE, overrides=lines)
        config = OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(_one_line(error)) from error
    assert isinstance(config, RunConfig), "the schema is RunConfig"
    return shortened(config) if is_short() else config


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Hydra's own parse of the words; `plugins=a` and `plugins=a,b` are read as `plugins=[a]` and `plugins=[a,b]`.

    A path is text, as it stands: `run_dir=2024_01_05` is no number. Raises `ValueError` for a word that is not
    `key=value`, or whose value needs quotes.
    """
    if dashed := [word for word in overrides if word.startswith("-")]:
        raise ValueError(f"{dashed[0]}: unknown option, there is --help. Write key=value, as in train.steps=500.")
    words = [_parsed(word) for word in overrides]
    for word in words:
        if word.is_add() or word.is_delete():
            raise ValueError(f"{word.input_line}: keys are neither added nor removed here. Write key=value.")
    return words


def _parsed(text: str) -> Override:
    """Hydra's parse of one word, with what `parse_overrides` says of paths and plugins."""
    parser = OverridesParser.create()
    key, equals, value = text.partition("=")
    plain_path = key in PATHS and not set(value) & set("\"'")
    try:
        word = parser.parse_override(text)
    except HydraException as error:
        if plain_path and "," not in value:
            return parser.parse_override(f"{key}={_quoted(value)}")
        if not equals:
            raise ValueError(f"{_one_line(error)}. Write key=value, as in train.steps=500.") from error
        quoted = shlex.quote(f"{key}={_quoted(value)}")
        raise ValueError(
            f"{text}: Hydra's grammar does not read this. Write key=value, as in train.steps=500, and put a value with "
            f"such letters or signs in quotes: {quoted}"
        ) from error
    found = word.value()
    if plain_path and isinstance(found, ChoiceSweep) and found.simple_form:
        return parser.parse_override(f"{key}={','.join(map(_quoted, value.split(',')))}")
    if plain_path and not isinstance(found, str | None) and not word.is_sweep_override():
        return parser.parse_override(f"{key}={_quoted(value)}")
    if word.key_or_group == "plugins" and isinstance(found, str | ChoiceSweep | RangeSweep):
        if found == "":
            raise ValueError("plugins: expected the name of a module, got nothing")
        names = word.get_value_element_as_str() if isinstance(found, str) else ",".join(word.sweep_string_iterator())
        return parser.parse_override(f"{word.get_key_element()}=[{names}]")  # a list, which is no sweep
    return word


def _quoted(text: str) -> str:
    """`text` in the quotes of Hydra's grammar."""
    return QuotedString(text, Quote.double).with_quotes()


def chosen_source(what: str | World | None, own: World) -> str | World | None:
    """What `--episodes-from` stands for: words such as `ray_maze world.size=11` become that world.

    The words are those of a recipe's command line, where `world=` may stand before the name; settings alone change
    `own`, the run's world. A folder, a mere name, a world and None stay what they are. Raises `ValueError` as `compose`
    does, and for keys that are not the world's.
    """
    if not isinstance(what, str) or "=" not in what or Path(user_path(what)).is_dir():
        return what
    try:
        words = shlex.split(what)
    except ValueError as error:
        raise ValueError(f"{what}: no folder, and as a world with settings it cannot be read: {error}") from error
    if "/" in words[0].partition("=")[0]:
        raise ValueError(f"{what}: there is no such folder")
    if "=" not in words[0]:
        words[0] = f"world={words[0]}"
    for word in parse_overrides(words):
        if word.key_or_group.partition(".")[0] != "world":
            raise ValueError(f"{word.input_line}: expected a world and settings of it, as in ray_maze world.size=11")
    world: World = compose(RunConfig(world=own), words).world
    return world


def world_overrides(world: World) -> list[str]:
    """The words with which `compose` chooses `world`: its family, and what differs from the family's defaults."""
    description = describe_world(world)
    usual = describe_world(find_world(description["name"]))
    settings = {f"world.{key}": value for key, value in description.items() if value != usual[key]}
    return [f"{key}={hydra_value(value)}" for key, value in ({"world": description["name"]} | settings).items()]


def hydra_value(value: Any) -> str:
    """A value as Hydra's grammar reads it, and OmegaConf after it."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(hydra_value, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{hydra_value(each)}' for key, each in value.items())}}}"
    if isinstance(value, str):
        plain = re.fullmatch(r"(?!(true|false|null|nan|inf)$)[a-z_]\w*", value, re.ASCII | re.IGNORECASE)
        return value if plain else _quoted(value.replace("${", "\\${"))
    return json.dumps(value)


def _expand_preset(words: list[Override]) -> list[Override]:
    """The words of `preset=name`, before the user's own, which win unless they contradict what makes the preset."""
    name = _scan(words, "preset", None)
    if name is None:
        return words
    preset = get_preset(name)
    fixed = {"backbone": preset.backbone, "size": preset.size} | {f"model.{k}": v for k, v in preset.network.items()}
    for key, value in fixed.items():
        given = _scan(words, key, value)
        if given != value:
            raise ValueError(f"preset={name} has {key}={value}, but {key}={given} was given too. Drop one of the two.")
    if preset.tbtt:
        sampler: dict[str, Any] = {"sampler": "persistent", "length": preset.tbtt}
    else:
        sampler = {"sampler": "windows", "length": preset.length} if preset.length else {"sampler": "episodes"}
    data = {"batch_size": preset.batch_size, **sampler}
    groups = {"model": preset.model, "backbone": preset.backbone_options, "train": preset.train, "data": data}
    values = fixed | {f"{group}.{k}": v for group, options in groups.items() for k, v in options.items()}
    return parse_overrides([f"{key}={'null' if value is None else value}" for key, value in values.items()]) + words


def _store(defaults: RunConfig, size: str, resized: bool, entry: Entry, world: World) -> dict[Any, Any]:
    """Hand the typed defaults and the nodes of the chosen backbone and world to Hydra's store.

    resized: the numbers are those of the size, not those that the defaults have in their place.

    Of those only: a config whose field types Hydra does not know must not stop runs with others. Returns what Hydra
    composes of them where no word changes it, to look keys up in: composing once more would take as long again.
    """
    store = ConfigStore.instance()
    # The groups fill `backbone` and `world`; a node already there would be merged with one of another type.
    schema = OmegaConf.structured(dataclasses.replace(defaults, world=world))
    schema.backbone = schema.world = None
    schema.model = _at_size(defaults.model, size) if resized else defaults.model
    store.store(name=f"{NODE}_schema", node=schema)
    store.store(name=NODE, node={"defaults": [f"{NODE}_schema", *({group: CHOSEN} for group in GROUPS), "_self_"]})
    kept = defaults.backbone if not resized else _at_size(defaults.backbone, size)
    node = OmegaConf.structured(kept if entry.name == defaults.backbone_name else entry.config.for_size(size))
    store.store(group="backbone", name=CHOSEN, node=node)
    settings = OmegaConf.structured(world)
    OmegaConf.set_readonly(settings, False)  # a frozen dataclass makes a node that is
    store.store(group="world", name=CHOSEN, node=settings)
    whole = OmegaConf.to_container(schema)
    assert isinstance(whole, dict), "the schema is a dataclass"
    return whole | {"backbone": OmegaConf.to_container(node), "world": OmegaConf.to_container(settings)}


def _at_size(config: Any, size: str) -> Any:
    """`config` with the numbers of `size`; what no size decides, such as a reward head, stays as it is."""
    sizes = [dataclasses.asdict(type(config).for_size(size)) for size in SIZES]
    decided = {key for key in sizes[0] if any(numbers[key] != sizes[0][key] for numbers in sizes)}
    kept = {key: getattr(config, key) for key in sizes[0].keys() - decided}
    return dataclasses.replace(type(config).for_size(size), **kept)


@contextlib.contextmanager
def _own_hydra() -> Iterator[None]:
    """Within it Hydra's state of the process is this module's; afterwards that of whose application this may be."""
    Plugins.instance()  # enters Hydra's own configs into the store when it is made
    store, version = ConfigStore.instance(), VersionBase.instance()
    theirs = GlobalHydra.instance(), store.repo, version.getbase()
    store.repo = _branches(store.repo)
    GlobalHydra.set_instance(GlobalHydra.__new__(GlobalHydra))
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.set_instance(theirs[0])
        store.repo = theirs[1]
        version.version_base = theirs[2]


def _branches(repo: dict[str, Any]) -> dict[str, Any]:
    """Hydra's store of configs, its folders copied and the configs in them shared."""
    return {name: _branches(node) if isinstance(node, dict) else node for name, node in repo.items()}


def _plugins(words: Sequence[Override], defaults: RunConfig) -> list[str]:
    value = _scan(words, "plugins", defaults.plugins)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"plugins: expected modules, as in plugins=my_module or plugins=a,b, got {value}")
    return value


def _scan(words: Sequence[Override], key: str, default: Any) -> Any:
    """The last value that the words give to `key`."""
    return next((word.value() for word in reversed(words) if word.key_or_group == key), default)


def _check_keys(words: Sequence[Override], usual: dict[Any, Any]) -> None:
    """Raise `ValueError` for a key that is not there, with the closest one and those of its group."""
    keys = _dotted(usual)
    for word in words:
        key = word.key_or_group
        if key in keys:
            continue
        group = key.rpartition(".")[0]
        known = [name.removeprefix(f"{group}.") for name in keys if group and name.rpartition(".")[0] == group]
        siblings = f" {group} has {', '.join(known)}." if known else ""
        raise ValueError(f"Unknown config key {key!r}.{closest(key, keys)}{siblings} See --help.")


def _dotted(tree: Any, prefix: str = "") -> list[str]:
    """Every key that can be set, with dots; inner nodes too."""
    keys = []
    for key, value in tree.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, dict):
            keys += _dotted(value, f"{prefix}{key}.")
    return keys


def _one_line(error: Exception) -> str:
    """The sentence of a Hydra or OmegaConf error that says what is wrong, with the key it concerns."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    return (f"{key}: " if key else "") + str(cause).splitlines()[0]


def expand_sweep(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of the overrides' values in Hydra's grammar, the last override varying fastest."""
    return [list(job) for job in itertools.product(*(_values(override) for override in overrides))]


def _values(word: str) -> list[str]:
    parsed = parse_overrides([word])[0]
    if not parsed.is_sweep_override():
        return [word]
    return [f"{parsed.get_key_element()}={value}" for value in swept(parsed)]


def swept(word: Override) -> list[str]:
    """The values of `a,b`, `choice(a, b)` or `range(3)`, quotes of Hydra's among them.

    Raises `ValueError` for what cannot be listed.
    """
    if not isinstance(word.value(), ChoiceSweep | RangeSweep):
        raise ValueError(f"{word.input_line}: expected values with commas between, or range(...)")
    return list(word.sweep_string_iterator())
