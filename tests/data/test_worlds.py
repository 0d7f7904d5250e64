import dataclasses
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import wmkit.cli.__main__ as cli
from wmkit.data import (
    GeneratedEpisodes,
    WholeEpisodes,
    describe_world,
    find_world,
    list_worlds,
    register_world,
    restore_world,
    worlds,
)

NEW_WORLD = """
from wmkit.data import register_world
from wmkit_envs import DistractingMemory

register_world("distracting_memory_tiny")(DistractingMemory(width=8, tile=4, distractor_rate=0.0))
"""
NEW_FAMILY = '''
import dataclasses

import numpy as np

from wmkit.data import Episode, register_world


@register_world("fading")
@dataclasses.dataclass(frozen=True)
class Fading:
    """A grey square that fades to black."""

    side: int = 16
    """Pixels on a side."""
    speed: float = 2.0
    """Grey levels per frame."""
    action_dim = 0
    episode_length = 30
    context_length = 10

    @property
    def name(self):
        return f"fading_{self.side}_{self.speed}"

    @property
    def image_shape(self):
        return 1, self.side, self.side

    def generate(self, *, seed, split="train", index=0, length=None):
        rng = np.random.default_rng([seed, ("train", "valid", "test").index(split), index])
        steps = np.arange(length or self.episode_length)
        grey = np.clip(rng.integers(100, 256) - self.speed * steps, 0, 255).astype(np.uint8)
        image = np.broadcast_to(grey[:, None, None, None], (len(steps), self.side, self.side, 1)).copy()
        action, reward = np.zeros((len(steps), 0), np.float32), np.zeros(len(steps), np.float32)
        first, terminal = steps == 0, np.zeros(len(steps), bool)
        return Episode(
            {"image": image, "action": action, "reward": reward, "is_first": first, "is_terminal": terminal}
        )
'''


@pytest.fixture
def own_worlds(monkeypatch):
    """Registrations of this test alone."""
    monkeypatch.setattr(worlds, "_registered", {})


def test_a_world_is_found_by_the_name_of_its_family_and_by_its_own():
    assert find_world("toy").fault == ""
    assert find_world("toy_nan") == find_world("toy", fault="nan")
    world = find_world("toy", wide=16)
    assert (find_world(world), find_world(world, wide=12)) == (world, find_world("toy"))


def test_installed_worlds_are_listed():
    assert {"toy", "toy_dies", "ray_maze", "ray_maze_9x9", "ray_two_rooms"} <= set(list_worlds())
    assert list_worlds() == sorted(list_worlds())


def test_an_unknown_world_or_setting_is_answered_with_the_closest_match_and_the_list():
    with pytest.raises(ValueError, match=r"'toy_dyes'.*Did you mean 'toy_dies'.*ray_two_rooms.*plugins="):
        find_world("toy_dyes")
    with pytest.raises(
        ValueError, match=r"'widee' is no setting of toy_12_\. Did you mean 'wide'\? It has fault, wide"
    ):
        find_world("toy", widee=3)


def test_what_is_no_world_is_refused(own_worlds):
    @dataclasses.dataclass(frozen=True)
    class Bare:
        size: int

    with pytest.raises(ValueError, match=r"'no_world' = <object .* is no World"):
        find_world("no_world")
    with pytest.raises(ValueError, match="expected the name of a world or a world, got 3"):
        find_world(3)
    with pytest.raises(ValueError, match=r"every field of Bare needs a default, missing for \['size'\]"):
        register_world("bare")(Bare)
    with pytest.raises(ValueError, match="is no World"):
        register_world("type")(dict)
    with pytest.raises(ValueError, match="'toy' is already registered"):
        register_world("toy")(find_world("toy"))


def test_an_entry_point_that_does_not_load_or_leads_elsewhere_is_named(monkeypatch):
    for value, message in (
        ("wmkit_no_package:WORLDS", "does not load: ModuleNotFoundError"),
        ("math:pi", "leads to 3.1"),
    ):
        point = worlds.metadata.EntryPoint("broken", value, "wmkit.worlds")
        monkeypatch.setattr(worlds.metadata, "entry_points", lambda group, point=point: [point])
        with pytest.raises(ValueError, match=rf"entry point broken = {value} of group wmkit.worlds {message}"):
            list_worlds()


@pytest.mark.parametrize(
    "name", [*(name for name in list_worlds() if "maze" in name or "memory" in name), "moving_mnist"]
)
def test_a_world_survives_json(name):
    description = json.loads(json.dumps(describe_world(find_world(name))))
    assert restore_world(description) == find_world(name)
    assert description["name"] in name


def test_a_world_of_no_registered_family_cannot_be_described():
    class Unknown(type(find_world("toy"))):
        pass

    with pytest.raises(ValueError, match=r"decorate its class with wmkit\.data\.register_world"):
        describe_world(Unknown())


def test_a_worker_process_makes_a_world_of_any_settings():
    source = GeneratedEpisodes(
        find_world("distracting_memory", width=16, tile=4, target_colors=("red", "blue")), seed=3
    )
    with WholeEpisodes(source, batch_size=2, workers=1) as ours, WholeEpisodes(source, batch_size=2) as expected:
        assert torch.equal(next(ours).image, next(expected).image)


def test_a_world_that_a_worker_cannot_make_is_refused_before_one_starts():
    class Local(type(find_world("toy"))):
        pass

    with pytest.raises(ValueError, match=r"cannot make the same from its class and fields\. Use workers=0"):
        WholeEpisodes(GeneratedEpisodes(Local(), seed=0), batch_size=2, workers=1)


RECIPE = Path(__file__).parents[2] / "recipes" / "memory_maze.py"
SHORT = ("size=tiny", "backbone=gru", "train.steps=2", "train.device=cpu", "train.threads=1", "data.batch_size=2",
         "data.length=8", "eval.episodes=2", "eval.context=5", "eval.horizon=5", "plugins=my_worlds")  # fmt: skip
TRAIN_AND_LIST = """
import runpy, sys
if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code, end.code
    print("WORLDS")
    import wmkit.cli.__main__ as cli
    cli.main(["list"])
"""


def test_one_file_of_forty_lines_adds_a_family_that_is_listed_and_trained_on_with_a_worker(tmp_path):
    assert len(NEW_FAMILY.strip().splitlines()) <= 40
    (tmp_path / "my_worlds.py").write_text(NEW_FAMILY)
    words = [*SHORT, "world=fading", "world.side=32", "data.workers=1"]
    command = [sys.executable, "-c", TRAIN_AND_LIST, str(RECIPE), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "runs" / "memory_maze-fading_32_2.0-gru-0" / "evaluation.md").exists()
    assert "fading" in done.stdout.partition("WORLDS")[2]


def test_one_file_of_forty_lines_adds_a_world_that_is_listed_and_trained_on(tmp_path, monkeypatch, capsys):
    assert len(NEW_WORLD.strip().splitlines()) <= 40
    (tmp_path / "my_worlds.py").write_text(NEW_WORLD)
    monkeypatch.setattr(worlds, "_registered", dict(worlds._registered))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(RECIPE), *SHORT, "world=distracting_memory_tiny", "data.workers=0"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(RECIPE), run_name="__main__")
    del sys.modules["my_worlds"]
    run = tmp_path / "runs" / "memory_maze-distracting_memory_8_tile4_distractor_rate0.0-gru-0"
    assert (run / "evaluation.md").exists()
    monkeypatch.setattr(worlds.metadata, "entry_points", lambda **_: [])  # one of these tests' is no world
    capsys.readouterr()
    cli.main(["list"])
    assert "distracting_memory_tiny" in capsys.readouterr().out
