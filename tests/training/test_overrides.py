import dataclasses
import re
from pathlib import Path
from typing import Literal

import hydra
import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

from wmkit import Backbone, BackboneConfig, build_world_model, registry
from wmkit.config import ModelConfig, RunConfig
from wmkit.data import find_world, worlds
from wmkit.presets import CORRECTED
from wmkit.registry import get_entry
from wmkit.training.overrides import PATHS, chosen_source, compose, expand_sweep, parse_overrides, world_overrides
from wmkit_envs import Rooms

DEFAULTS = RunConfig(backbone="gru", size="small")


def test_without_words_the_defaults_come_back() -> None:
    assert compose(DEFAULTS, []) == DEFAULTS


def test_words_change_what_they_name() -> None:
    config = compose(
        DEFAULTS, ["backbone.hidden=7", "train.steps=500", "data.source=/a/b", "model.posterior=factorized"]
    )
    assert (config.backbone.hidden, config.train.steps, config.data.source) == (7, 500, "/a/b")
    assert config.model is not None
    assert config.model.posterior == "factorized"


def test_every_registered_backbone_is_a_choice() -> None:
    for name, entry in registry.all_entries().items():
        config = compose(DEFAULTS, [f"backbone={name}", "size=tiny"])
        assert config.backbone == entry.config.for_size("tiny")


def test_size_gives_model_and_backbone_their_numbers() -> None:
    config = compose(DEFAULTS, ["size=tiny"])
    assert config.backbone == get_entry("gru").config.for_size("tiny")
    assert config.model == ModelConfig.for_size("tiny")


def test_another_size_brings_its_numbers_and_leaves_what_no_size_decides() -> None:
    model = dataclasses.replace(ModelConfig.for_size("small"), reward_head=True, depth=5)
    recipe = dataclasses.replace(DEFAULTS, model=model)
    assert compose(recipe, []).model == compose(recipe, ["size=small"]).model == model
    assert compose(recipe, ["preset=rssm-tbtt-3d"]).model.depth == ModelConfig.for_size("3d").depth
    assert compose(recipe, ["size=tiny"]).model == dataclasses.replace(ModelConfig.for_size("tiny"), reward_head=True)
    assert compose(recipe, ["size=tiny", "model.depth=7"]).model.depth == 7


def test_a_backbone_of_a_users_module_is_a_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_composed_backbone.py").write_text(
        "import dataclasses\n"
        "from wmkit import BackboneConfig, register_backbone\n"
        "from wmkit.backbones.gru import GRU\n"
        "@dataclasses.dataclass(kw_only=True)\n"
        "class MyConfig(BackboneConfig):\n"
        "    width: int = 3\n"
        "@register_backbone('mine', MyConfig)\n"
        "class Mine(GRU):\n"
        "    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    config = compose(DEFAULTS, ["plugins=my_composed_backbone", "backbone=mine", "backbone.width=5"])
    assert (config.backbone_name, config.backbone.width, config.plugins) == ("mine", 5, ["my_composed_backbone"])


def test_a_config_that_hydra_cannot_hold_is_named_and_stops_no_other_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(kw_only=True)
    class OddConfig(BackboneConfig):
        mode: Literal["a", "b"] = "a"

    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    registry.register_backbone("odd", OddConfig)(type("Odd", (Backbone,), {}))
    assert compose(RunConfig(), ["backbone=gru"]).backbone_name == "gru"
    with pytest.raises(ValueError, match="Literal"):
        compose(RunConfig(), ["backbone=odd"])


@pytest.mark.reported(
    "names",
    "hydra-ecosystem/hydra#2017, #1889",
    "mistyped words on the command line",
    "one line with the closest match",
)
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("backbone=gur", "Unknown backbone 'gur'. Did you mean 'gru'"),
        ("preset=rssm", "Unknown preset 'rssm'"),
        ("trian.steps=3", "Unknown config key 'trian.steps'. Did you mean 'train.steps'"),
        ("backbone.layer=3", "Unknown config key 'backbone.layer'"),
        ("train.steps=x", "train.steps: .*Integer"),
        ("train.steps=1.5", "train.steps: .*Integer"),
        ("train.steps=null", "train.steps"),
        ("train.steps=-3", "train.steps: expected at least 1, got -3"),
        ("train.lr=nan", "train.lr: expected a positive number"),
        ("train=3", "train"),
        ("size=tinny", "size: expected one of"),
        ("--steps", "--steps: unknown option, there is --help. Write key=value"),
        ("plugins=my_missing_module", "plugins=my_missing_module"),
        ("plugins=3", "plugins: expected modules"),
        ("plugins=range(3)", "plugins: expected modules"),
        ("backbone=null", "backbone: expected the name"),
        ("backbone={hidden:3}", "backbone: expected the name"),
        ("steps", "Write key=value"),
        ("train.steps=[1", "Write key=value"),
        ("+train.new=1", "keys are neither added nor removed"),
        ("~train.steps", "keys are neither added nor removed"),
        ("train.steps=1,2", "Add -m"),
        ("train.device=!!python/object:os.system", "Write key=value"),
    ],
)
def test_a_mistake_gives_one_clear_line(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        compose(DEFAULTS, [word])
    assert "\n" not in str(caught.value)


def test_a_preset_sets_backbone_model_optimiser_and_batches() -> None:
    config = compose(DEFAULTS, ["preset=rssm-tbtt-3d", "train.steps=7"])
    assert (config.backbone_name, config.size, config.preset) == ("gru", "3d", "rssm-tbtt-3d")
    assert (config.data.sampler, config.data.length, config.data.batch_size) == ("persistent", 48, 32)
    assert (config.train.lr, config.train.clip, config.train.steps) == (3e-4, 200.0, 7)


def test_a_preset_of_whole_episodes_reads_whole_episodes() -> None:
    assert compose(DEFAULTS, ["preset=tssm-xl-2d"]).data.sampler == "episodes"


def test_each_difference_of_the_corrected_hierarchy_is_a_key_beside_the_released_one() -> None:
    words = [f"model.{key}={value}" for key, value in CORRECTED[0].items()]
    words += [f"backbone.{key}={value}" for key, value in CORRECTED[1].items()]
    changed, corrected = (
        compose(RunConfig(world="moving_mnist"), [f"preset={name}", *more]).to_dict()
        for name, more in (("cwvae-mmnist", words), ("cwvae-mmnist-corrected", []))
    )
    assert {key: value for key, value in changed.items() if key != "preset"} == {
        key: value for key, value in corrected.items() if key != "preset"
    }
    model = build_world_model(preset="cwvae-mmnist", image_shape=(1, 64, 64), action_dim=0, kl_balance=0.8)
    assert model.config.kl_balance == 0.8


def test_a_word_that_contradicts_the_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="preset=rssm-tbtt-3d has size=3d, but size=tiny"):
        compose(DEFAULTS, ["preset=rssm-tbtt-3d", "size=tiny"])


def test_composing_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    compose(DEFAULTS, ["train.steps=5"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["ray_maze world.size=11", "world=ray_maze world.size=11", "world.size=11"])
def test_a_source_is_a_world_with_settings(words: str) -> None:
    assert chosen_source(words, find_world("ray_maze_9x9")) == find_world("ray_maze", size=11)


def test_a_source_without_settings_is_left_to_whoever_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("speed=3").mkdir()
    for text in ("ray_maze_9x9", "no_such_world", "speed=3", str(tmp_path)):
        assert chosen_source(text, find_world("ray_two_rooms")) == text
    for given in (None, find_world("ray_maze_11x11")):
        assert chosen_source(given, find_world("ray_two_rooms")) is given


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ray_maze size=11", "size=11: expected a world and settings of it"),
        ("ray_maze world.seize=11", "Unknown config key 'world.seize'. Did you mean 'world.size'?"),
        ("raymaze world.size=11", "Unknown world 'raymaze'. Did you mean 'ray_maze'?"),
        ("ray_maze world.size=wide", "world.size"),
        ("ray_maze world.size=9,11", "several values"),
    ],
)
def test_a_source_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        chosen_source(text, find_world("ray_two_rooms"))


@pytest.mark.reported(
    "names",
    "hydra-ecosystem/hydra#1647, #1577, #962, #1074, #2705, #798",
    "paths with accents, `~`, `=`, `#`, brackets, braces, `;`, `&`, `!` on the command line",
    "are taken as they stand, without quotes of Hydra's",
)
@pytest.mark.parametrize(
    "name",
    ["ünïcode/läuft", "ab=c", "a#b", "[x]", "a[x]", "{a}", "a(b)", "a;b", "a&b!", "日本", "a b", "50%", "me@host", "a.",
     ".a", "-a", "a:b", "C:\\data\\x", "a\nb", "$x", "a|b", "x" * 300],
)  # fmt: skip
def test_a_path_is_taken_as_it_stands(name: str) -> None:
    words = parse_overrides([f"{key}={name}" for key in PATHS])
    assert [word.value() for word in words] == [name] * len(PATHS)


def test_a_path_comes_into_the_config_as_it_stands() -> None:
    words = ["run_dir=ünï/[x]=1e3", "data.source=2024_01", 'data.valid_source="a,b"']
    config = compose(DEFAULTS, words)
    assert (config.run_dir, config.data.source, config.data.valid_source) == ("ünï/[x]=1e3", "2024_01", "a,b")


@pytest.mark.reported(
    "names",
    "",
    "`run_dir=2024_01_05`, `007`, `1e3`, `true`, `nan`: numbers of Hydra's grammar",
    "the folder of that name",
)
@pytest.mark.parametrize("name", ["2024_01_05", "007", "1e3", "true", "nan", "0x10", "-1", "1_000"])
def test_a_path_that_looks_like_a_number_is_text(name: str) -> None:
    assert parse_overrides([f"run_dir={name}"])[0].value() == name
    assert expand_sweep([f"data.source={name},2024_02"]) == [[f'data.source="{name}"'], ['data.source="2024_02"']]


@pytest.mark.reported(
    "names", "hydra-ecosystem/hydra#1647", '`run_dir="~/runs/one"`, `data.source=~/maze`', "`~` is the home folder"
)
def test_a_tilde_in_a_path_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/müller")
    config = compose(DEFAULTS, ['run_dir="~/runs/one"', "data.source=~/maze", "data.valid_source=~"])
    assert config.run_dir == "/home/müller/runs/one"
    assert (config.data.source, config.data.valid_source) == ("/home/müller/maze", "/home/müller")


@pytest.mark.reported(
    "names",
    "hydra-ecosystem/hydra#1577",
    "a value that Hydra's grammar does not read",
    "refused, with the quotes that it needs",
)
@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("preset=ünï", """'preset="ünï"'"""),
        ('run_dir="a', """'run_dir="\\"a"'"""),
        ("run_dir=it's", "run_dir="),
        ("run_dir=a,b", """'run_dir="a,b"'"""),
        ("train.device=a;b", """'train.device="a;b"'"""),
    ],
)
def test_the_message_says_how_to_quote(word: str, advice: str) -> None:
    with pytest.raises(ValueError, match=re.escape(advice)):
        compose(DEFAULTS, [word])


@pytest.mark.reported("names", "", 'a sweep over quoted paths, `run_dir="a,b","c d"`', "each job gets its path whole")
def test_a_sweep_keeps_quoted_paths_whole() -> None:
    jobs = expand_sweep(['run_dir="a,b","c d"'])
    assert [compose(DEFAULTS, job).run_dir for job in jobs] == ["a,b", "c d"]


@dataclasses.dataclass(frozen=True)
class Shown(Rooms):
    folder: str = "plain"
    more: tuple[str, ...] = ()


@pytest.mark.reported(
    "names",
    "",
    "a world's setting with accents, quotes, `${`, backslashes, newlines",
    "comes back the same from the words of a comparison",
)
@pytest.mark.parametrize(
    "text", ["läuft", "a\"b'c", "a\\b", "ends\\", "${x}", "$x", "a\nb", "a,b=[c]", "true", "1_0", "", " a "]
)
def test_any_setting_of_a_world_survives_the_command_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(worlds._registered, "shown", Shown)
    world = Shown(folder=text, more=(text, "x"))
    assert compose(DEFAULTS, world_overrides(world)).world == world


@pytest.mark.reported(
    "settings",
    "hydra-ecosystem/hydra#1821, #2794, #702",
    "composing inside of somebody's own Hydra application",
    "works, and leaves its `GlobalHydra`, its store of configs and its `version_base` as they were",
)
def test_composing_inside_of_an_application_of_hydras(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ConfigStore.instance()
    with hydra.initialize(version_base="1.2", config_path=None):
        store.store(group="backbone", name="chosen", node={"theirs": 1})
        store.store(name="their_app", node={"defaults": [{"backbone": "chosen"}]})
        before = GlobalHydra.instance(), str(sorted(store.repo))
        assert compose(DEFAULTS, ["backbone.hidden=7"]).backbone.hidden == 7
        with pytest.raises(ValueError, match=r"train\.steps"):
            compose(DEFAULTS, ["train.steps=x"])
        assert (GlobalHydra.instance(), str(sorted(store.repo))) == before
        assert hydra.version.getbase().minor == 2
        assert hydra.compose("their_app").backbone.theirs == 1
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.reported(
    "names",
    "",
    "`--episodes-from` a folder that is not there and has `=` or quotes in its name",
    "said so, not taken for a world's settings",
)
@pytest.mark.parametrize("text", ["data/speed=3", "a='b", "~/no such=folder"])
def test_a_missing_folder_with_signs_in_its_name_is_called_missing(text: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(text)}: .*no .*folder"):
        chosen_source(text, find_world("ray_two_rooms"))
