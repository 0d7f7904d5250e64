"""Words of a comparison's command line that make no sense are refused before anything is written."""

import dataclasses
import multiprocessing
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wmkit import BackboneConfig, registry
from wmkit.backbones.gru import GRU
from wmkit.comparison import worker
from wmkit.comparison.command import run_comparison, split_overrides
from wmkit.comparison.plan import Cell, CellFiles, Status, load_plan
from wmkit.comparison.results import KEY, read_results
from wmkit.config import RunConfig
from wmkit.data import Episodes, worlds, write_archive
from wmkit.files import write_json
from wmkit.training.run_folder import HOLDER, LOCK, RunFolder

GRID = ("systems=gru", "world.width=8", "seeds=0", "lrs=1e-3", "minutes=1")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("world=ray_two_rooms", "use worlds="),
        ("backbone=s4", "use systems="),
        ("resume=true", "the same command again"),
        ("sytems=s4", "Did you mean 'systems'"),
        ("systems=s77", "Unknown system 's77'"),
        ("systems=s4,s4", "none twice"),
        ("seeds=one", "seeds: expected a whole number"),
        ("jobs=0", "jobs: expected at least 1"),
        ("data.batch=3", "Unknown config key 'data.batch'"),
        ("world.width=9", "even"),
        ("world.widht=8", "Unknown config key 'world.widht'"),
        ("world.width=8,8", "worlds: expected at least one and none twice"),
        ("worlds=distracting_memroy", "Did you mean 'distracting_memory'"),
        ("system.wide=backbone=gru", "system.wide=...: defined, but not among systems="),
        ("seeds", "Write key=value"),
        ("lrs=interval(1e-4,1e-3)", "expected values with commas between, or range(...)"),
        ("seeds=glob(*)", "expected values with commas between"),
        ("lrs=[1e-4,1e-3]", "expected values with commas between"),
        ("retry=yes", "retry: expected true or false, got 'yes'"),
        ("minutes=1,2", "minutes: expected one value, got 1, 2"),
        ("++world=ray_two_rooms", "use worlds="),
        ("++train.minutes=3", "use minutes="),
        ("probe.seeds=1", "probe.seeds: there is nothing to probe for; probes=... names it, or all"),
        ("probes=wall", "Unknown probe 'wall'. Did you mean 'walls'?"),
        ("probes=walls", "The probe 'walls' reads maze_layout"),
        ("probes=all probe.rows=nothing", "rows: expected one of observed"),
        ("probes=all probe.seeds=many", "seeds: expected a whole number, got 'many'"),
        ("probes=all probe.sedes=1", "probe: expected one of probes, rows"),
    ],
)
def test_a_word_that_makes_no_sense_is_refused_and_nothing_is_written(
    word: str, message: str, tiny: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run_comparison(tiny, {}, (*GRID, f"out={out}"), word.split()) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.fixture
def asked_to_run(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `run_cells` was called with; no cell is run."""
    calls: list[dict[str, Any]] = []

    def note(folder: Path, configs: object, **options: object) -> None:
        calls.append({"configs": configs, **options})

    monkeypatch.setattr("wmkit.comparison.command.run_cells", note)
    return calls


@pytest.mark.usefixtures("asked_to_run")
def test_the_later_budget_counts_and_ones_own_systems_are_kept(tiny: RunConfig, tmp_path: Path) -> None:
    own = ["system.wide=backbone=gru backbone.hidden=32", "systems=gru,wide", "seeds=range(2)", "steps=3"]
    own += ["worlds=distracting_memory", "world.width=8,10", "world.tile=4,8"]
    assert run_comparison(tiny, {}, (*GRID, f"out={tmp_path}"), own) == 1  # no cell has run
    plan = load_plan(tmp_path)
    assert (plan.minutes, plan.steps, plan.seeds) == (None, 3, (0, 1))
    assert [world.name for world in plan.worlds] == [
        "distracting_memory_8_tile4", "distracting_memory_8", "distracting_memory_10_tile4", "distracting_memory_10",
    ]  # fmt: skip
    assert plan.systems[1].overrides == ("backbone=gru", "backbone.hidden=32")


@pytest.mark.usefixtures("asked_to_run")
def test_each_world_is_probed_for_what_it_has_the_truth_of(tiny: RunConfig, tmp_path: Path) -> None:
    own = ["worlds=distracting_memory,multi_doors_keys", "world.tile=4", "probes=sample_color,doors,pose"]
    words = (*GRID[:1], *GRID[2:], f"out={tmp_path}")
    assert run_comparison(tiny, {}, words, [*own, "probe.rows=observed,no_memory"]) == 1  # no cell has run
    rows = {"rows": "observed,no_memory"}
    corridor, keys = load_plan(tmp_path).probing.values()
    assert (corridor, keys) == ({"probes": "sample_color,pose", **rows}, {"probes": "doors,pose", **rows})
    assert run_comparison(tiny, {}, words, [*own, "probe.rows=observed", "probes=none"]) == 1
    assert load_plan(tmp_path).probing == {}


def test_cells_run_for_the_minutes_and_as_many_at_a_time_as_the_command_says(
    tiny: RunConfig, tmp_path: Path, asked_to_run: list[dict[str, Any]]
) -> None:
    assert run_comparison(tiny, {}, (*GRID, f"out={tmp_path}"), ["seeds=0,1", "minutes=2.5", "jobs=3"]) == 1  # none ran
    [call] = asked_to_run
    assert call["jobs"] == 3
    assert [config.train.minutes for config in call["configs"].values()] == [2.5, 2.5]
    assert load_plan(tmp_path).minutes == 2.5


def test_failed_cells_run_again_where_that_is_asked_for_and_done_ones_never(
    make_folder: Callable[..., Path], tiny: RunConfig, asked_to_run: list[dict[str, Any]]
) -> None:
    folder = make_folder(failed=(1,))
    failed = [Cell(**key) for key in read_results(folder).cells.filter(status=Status.FAILED).select(KEY).to_dicts()]
    for more in ([], ["retry=true"]):
        assert run_comparison(tiny, {}, (*GRID, "seeds=0,1", f"out={folder}"), more) == 1  # that one has still failed
    assert [[*call["configs"]] for call in asked_to_run] == [[], failed]


def hold(folder: Path, connection: Connection) -> None:
    """Keep the folder for this process, until told to end."""
    run = RunFolder(folder)
    run.open()
    connection.send("held")
    connection.recv()
    run.close()


def test_a_second_start_leaves_a_comparison_under_way_alone(
    tiny: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Locks are between processes: another one, which need not import anything anew, holds this one.
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path, theirs), daemon=True)
    other.start()
    assert ours.recv() == "held"
    assert run_comparison(tiny, {}, (*GRID, f"out={tmp_path}"), []) == 2
    assert f"{tmp_path} is in use by process {other.pid}" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {LOCK, HOLDER}
    ours.send("end")
    other.join()
    assert other.exitcode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("data.seed=3", "data.seed: 0 for s4, 3 for gru; all systems must have the same"),
        ("data={seed:3}", "data.seed: 0 for s4, 3 for gru"),
        ("eval.episodes=3", "eval.episodes: 2 for s4, 3 for gru"),
        ("train.threads=2", "train.threads: 1 for s4, 2 for gru"),
        ("data.workers=1", "data.workers: 0 for s4, 1 for gru"),
        ("data.episode_length=20", "data.episode_length: None for s4, 20 for gru"),
    ],
)
def test_a_system_does_not_have_data_a_budget_or_a_test_of_its_own(
    words: str, message: str, tiny: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["systems=s4,gru", f"system.gru=backbone=gru {words}", f"out={tmp_path / 'out'}"]
    assert run_comparison(tiny, {}, GRID, own) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["systems", "seeds", "lrs"])
def test_a_grid_without_one_of_its_axes_is_refused(
    missing: str, tiny: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in GRID if not word.startswith(missing)]
    assert run_comparison(tiny, {}, words, []) == 2
    assert f"{missing}=...: a comparison needs it" in capsys.readouterr().err


def test_an_out_that_cannot_be_a_folder_is_refused(
    tiny: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run_comparison(tiny, {}, GRID, [f"out={tmp_path / 'file' / 'below'}"]) == 2
    assert "cannot make this folder or write into it" in capsys.readouterr().err


@pytest.mark.usefixtures("asked_to_run")
def test_runs_of_another_plan_in_the_folder_are_named(
    make_folder: Callable[..., Path], tiny: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(ended=1)
    assert run_comparison(tiny, {}, (*GRID, f"out={folder}"), []) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "Some cells were stopped from outside; the same command goes on with them." in shown
    assert "other runs there stay as they are, and out of the report: distracting_memory_8_tile4-s4-lr0.001" in shown


def test_help_says_what_keys_of_a_comparison_and_of_a_run_mean(
    tiny: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_comparison(tiny, {"mine": ["backbone=gru"]}, GRID, ["--help"], page="Which one?") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("Which one? usage:")
    for text in (
        "retry=true",
        "mine",
        "plugins=a,b",
        "seeds=0",
        "data.batch_size=2 Rows of the global batch",
        "backbone is one of",
    ):
        assert text in shown


def test_help_lists_no_key_that_a_comparison_sets_itself(tiny: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_comparison(tiny, {"mine": ["backbone=gru"]}, GRID, ["--help"]) == 0
    listed = {line.strip().partition("=")[0] for line in capsys.readouterr().out.partition("is one of")[2].splitlines()}
    assert not {"seed", "run_dir", "resume", "train.lr", "train.minutes", "train.steps"} & listed
    assert {"train.warmup", "world.width"} <= listed


def test_spaces_in_braces_and_quotes_are_part_of_an_override() -> None:
    text = "backbone=clockwork backbone.core={name: s4, layers: 1}  plugins=['a b', c] data.length=9"
    overrides = ["backbone=clockwork", "backbone.core={name: s4, layers: 1}", "plugins=['a b', c]", "data.length=9"]
    assert split_overrides(text) == overrides
    with pytest.raises(ValueError, match="key=value"):
        split_overrides("backbone.core={name: s4")


PLUGIN = """
import dataclasses
from wmkit import register_backbone
from wmkit.backbones.gru import GRU, GRUConfig

@dataclasses.dataclass(kw_only=True)
class Config(GRUConfig):
    pass

@register_backbone("{name}", Config)
class Mine(GRU):
    pass
"""


@pytest.mark.parametrize("words", ["plugins=first_rival,second_rival", "plugins=[first_rival,second_rival]"])
def test_systems_may_come_from_several_plugins(
    words: str,
    tiny: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked_to_run: list[dict[str, Any]],
) -> None:
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names = ["first_rival", "second_rival"]
    for name in names:
        (tmp_path / f"{name}.py").write_text(PLUGIN.format(name=name))
        monkeypatch.delitem(sys.modules, name, raising=False)
    own = [words, f"systems={','.join(names)},gru", "out=out"]
    assert run_comparison(tiny, {}, GRID, own) == 1  # no cell has run
    assert [system.label for system in load_plan(tmp_path / "out").systems] == [*names, "gru"]
    [call] = asked_to_run
    assert [config.backbone_name for config in call["configs"].values()] == [*names, "gru"]
    assert all(config.plugins == names for config in call["configs"].values())  # which each cell's process imports


@pytest.mark.usefixtures("asked_to_run")
def test_a_system_may_have_a_config_in_braces(tiny: RunConfig, tmp_path: Path) -> None:
    core = "backbone.core={name: s4, layers: 1}"
    systems = {"recipes": ["backbone=clockwork", core]}
    own = ["systems=recipes,typed", f"system.typed=backbone=clockwork {core}", f"out={tmp_path}", "eval.horizon=4"]
    assert run_comparison(tiny, systems, GRID, own) == 1  # no cell has run
    assert [system.overrides for system in load_plan(tmp_path).systems] == [("backbone=clockwork", core)] * 2


@pytest.mark.reported(
    "names",
    "",
    "worlds and backbones of one's own called `größe` or `my net`, in a comparison",
    "are found by their names in quotes",
)
def test_worlds_and_backbones_of_any_name_are_compared(
    tiny: RunConfig, tmp_path: Path, asked_to_run: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(worlds._registered, "my world, große", tiny.world)
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    registry.register_backbone("größe", dataclasses.make_dataclass("Config", [], bases=(BackboneConfig,)))(GRU)
    grid = ('systems=gru,"größe"', 'worlds="my world, große"', "seeds=0", "lrs=1e-3", "steps=1")
    monkeypatch.chdir(tmp_path)
    run_comparison(tiny, {}, grid, ["out=2024_11_29"])
    plan = load_plan(tmp_path / "2024_11_29")
    assert [system.label for system in plan.systems] == ["gru", "größe"]
    assert len(asked_to_run) == 1


@pytest.mark.reported(
    "names",
    "hydra-ecosystem/hydra#1647",
    "`out=~/cmp`, `out=cmp/[x]`, `out=2024_11_29` of a comparison",
    "the folder of that name; `~` is the home folder",
)
def test_a_comparison_goes_into_a_folder_of_any_name(
    tiny: RunConfig, tmp_path: Path, asked_to_run: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    names = {"out=~/cmp": "home/cmp", "out=cmp/[x]": "cmp/[x]", "out=2024_11_29": "2024_11_29", "out=ünï": "ünï"}
    for word, name in names.items():
        run_comparison(tiny, {}, ("systems=gru", "seeds=0", "lrs=1e-3", "steps=1"), [word])
        assert (tmp_path / name / "plan.json").exists()


@pytest.fixture
def flicker(tmp_path: Path) -> Path:
    """A folder of three archives of recordings, of which no world is known."""
    rng = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        images = rng.integers(0, 256, (3, 8, 8, 8, 3), np.uint8)
        episodes = Episodes([{"image": image, "action": np.zeros((8, 1))} for image in images])
        write_archive(episodes, tmp_path / "flicker" / split)
    return tmp_path / "flicker"


@pytest.mark.reported(
    "data",
    "Farama-Foundation/Minari#304",
    "`compare_backbones data.source=...` on recordings: three test episodes, no world",
    "names, tables and test are about the archive; several worlds at once are refused",
)
def test_recordings_are_compared_on_under_their_own_name(
    tiny: RunConfig, tmp_path: Path, flicker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(folder: Path, configs: Mapping[Cell, RunConfig], **_: object) -> None:
        for cell, config in configs.items():
            files = CellFiles.of(folder, cell)
            files.run.parent.mkdir(parents=True)
            write_json(files.config, config.to_dict())
            assert worker.main(files.config) == 0

    monkeypatch.setattr("wmkit.comparison.command.run_cells", run)
    monkeypatch.setattr("wmkit.evaluation.plots.figures.draw_curves", lambda *_: None)
    monkeypatch.setattr("wmkit.evaluation.plots.figures.draw_strip", lambda *_: None)
    monkeypatch.setattr("wmkit.comparison.report.write_report", lambda folder: folder)
    tiny = dataclasses.replace(tiny, eval=dataclasses.replace(tiny.eval, episodes=64, horizon=None))
    words = ("systems=gru", "seeds=0", "lrs=1e-3", "steps=1", f"out={tmp_path / 'out'}", f"data.source={flicker}")
    assert run_comparison(tiny, {}, words, []) == 0
    said = capsys.readouterr().out
    assert f"To be tested on 3 episodes of {flicker / 'test'}: 4 steps observed, 4 imagined" in said
    assert "distracting" not in said
    assert load_plan(tmp_path / "out").worlds[0].name == "flicker"
    assert (tmp_path / "out" / "cells" / "flicker-gru-lr0.001-seed0" / "evaluation.json").exists()
    results = read_results(tmp_path / "out")
    assert results.complete
    assert results.queries == {"flicker": (4, 4)}
    assert run_comparison(tiny, {}, words, ["worlds=ray_maze_9x9,ray_two_rooms"]) == 2
    assert "data.source names one archive for all" in capsys.readouterr().err
    assert run_comparison(tiny, {}, words, ["eval.context=6", "eval.horizon=6", f"out={tmp_path / 'long'}"]) == 2
    assert "Say eval.context=4 eval.horizon=4." in capsys.readouterr().err
