"""The grid: its order, its configs, and what is refused before anything is trained."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from wmkit.comparison.plan import (
    CELL,
    CellFiles,
    Plan,
    PlannedWorld,
    Status,
    System,
    check_kept,
    find_system,
    load_plan,
    other_cells,
)
from wmkit.config import RunConfig, TrainConfig
from wmkit.files import write_json
from wmkit_envs import DistractingMemory

WORLD = DistractingMemory(width=8, tile=4)


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    def make(**changes: object) -> Plan:
        tbtt = ("backbone=gru", "data.sampler=persistent", "data.length=4")
        values: dict[str, object] = {
            "systems": (System("s4", ("backbone=s4",)), System("tbtt", tbtt)),
            "worlds": (PlannedWorld.of(WORLD),),
            "seeds": (0, 1),
            "lrs": (1e-3, 3e-3),
            "minutes": None,
            "steps": 5,
        }
        return Plan(**values | changes)

    return make


def test_all_of_the_first_seed_come_before_the_second(make_plan: Callable[..., Plan]) -> None:
    cells = make_plan().cells()
    assert [cell.seed for cell in cells] == [0] * 4 + [1] * 4
    assert [cell.system for cell in cells[:4]] == ["s4", "tbtt", "s4", "tbtt"]
    assert len({cell.name for cell in cells}) == 8


def test_cells_differ_in_nothing_but_the_grid_and_their_systems_overrides(make_plan: Callable[..., Plan]) -> None:
    plan = make_plan(overrides=("data.length=9", "data.batch_size=2"))
    one, two, *_ = (plan.config(cell, RunConfig(size="tiny")) for cell in plan.cells())
    assert (one.backbone_name, two.backbone_name) == ("s4", "gru")
    assert (one.data.length, two.data.length, two.data.sampler) == (9, 4, "persistent")
    assert one.data.batch_size == two.data.batch_size == 2
    assert one.data.seed == two.data.seed
    assert (one.train, one.eval) == (two.train, two.eval)
    assert one.train.steps == 5
    assert one.eval.horizon == 5  # what the world leaves after its context


def test_a_system_with_a_rate_of_its_own_runs_at_that_alone(make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    own = find_system("s4", {"s4": ["backbone=s4", "train.lr=2e-2"]})
    assert own == System("s4", ("backbone=s4",), 2e-2)
    plan = make_plan(systems=(own, System("gru", ("backbone=gru",))), seeds=(0,))
    assert [(cell.system, cell.lr) for cell in plan.cells()] == [("s4", 2e-2), ("gru", 1e-3), ("gru", 3e-3)]
    assert [plan.rates(system) for system in plan.systems] == [(2e-2,), (1e-3, 3e-3)]
    assert plan.config(plan.cells()[0], RunConfig(size="tiny")).train.lr == 2e-2
    plan.save(tmp_path)
    assert load_plan(tmp_path) == plan
    assert find_system("s4", {"s4": ["++train.lr='5e-3'"]}) == System("s4", (), 5e-3)


@pytest.mark.parametrize("rate", ["1e-3,2e-3", "0", "-1", "nan", "inf", "fast"])
def test_a_rate_that_is_no_positive_number_is_refused(rate: str) -> None:
    with pytest.raises(ValueError, match=rf"system\.s4: train\.lr: expected one positive number, got {rate}"):
        find_system("s4", {"s4": [f"train.lr={rate}"]})


def test_a_world_with_settings_of_its_own_is_compared_on(make_plan: Callable[..., Plan]) -> None:
    world = DistractingMemory(width=8, target_colors=("red", "blue"))
    plan = make_plan(worlds=(PlannedWorld.of(world),))
    assert {plan.config(cell, RunConfig()).world for cell in plan.cells()} == {world}


def test_minutes_are_a_budget_too(make_plan: Callable[..., Plan]) -> None:
    plan = make_plan(minutes=2.0, steps=None)
    assert plan.config(plan.cells()[0], RunConfig(size="tiny")).train.minutes == 2.0
    with pytest.raises(ValueError, match=r"either minutes=.* or steps="):
        make_plan(minutes=2.0)


def test_steps_are_the_budget_where_the_recipe_has_minutes(make_plan: Callable[..., Plan]) -> None:
    plan = make_plan(overrides=("train.minutes=9",))
    recipe = RunConfig(size="tiny", train=TrainConfig(minutes=7))
    assert {(c.train.steps, c.train.minutes) for c in (plan.config(x, recipe) for x in plan.cells())} == {(5, None)}


def test_rates_that_would_share_a_folder_are_refused(make_plan: Callable[..., Plan]) -> None:
    with pytest.raises(ValueError, match=r"two runs would share the folder \w+-s4-lr0\.001-seed0"):
        make_plan(lrs=(1e-3, 1.0000001e-3))


def test_a_plan_survives_its_file(make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    make_plan().save(tmp_path)
    assert load_plan(tmp_path) == make_plan()
    with pytest.raises(ValueError, match=r"elsewhere has no plan\.json: expected the out= folder of a comparison"):
        load_plan(tmp_path / "elsewhere")


def test_overrides_that_do_not_fit_a_system_name_it(make_plan: Callable[..., Plan]) -> None:
    plan = make_plan(overrides=("backbone.blocks=1",))
    with pytest.raises(ValueError, match=r"tbtt on .*backbone\.blocks"):
        plan.config(plan.cells()[1], RunConfig(size="tiny"))


@pytest.mark.parametrize("empty", ["systems", "worlds", "seeds", "lrs"])
def test_a_grid_has_something_on_every_axis(make_plan: Callable[..., Plan], empty: str) -> None:
    with pytest.raises(ValueError, match=f"{empty}: expected at least one"):
        make_plan(**{empty: ()})


def test_a_cell_of_another_budget_is_refused_with_what_differs(make_plan: Callable[..., Plan], tmp_path: Path) -> None:
    plan = make_plan()
    cell = plan.cells()[0]
    config = plan.config(cell, RunConfig(size="tiny"))
    run = CellFiles.of(tmp_path, cell).run
    run.mkdir(parents=True)
    write_json(run / "config.json", config.to_dict())
    config.train.threads = 2  # changes no figure
    check_kept(tmp_path, cell, config)
    config.train.minutes = 3.0  # but how far it comes in a time
    with pytest.raises(ValueError, match=r"train.minutes: None there, 3.0 now\n *train.threads: None there, 2 now"):
        check_kept(tmp_path, cell, config)
    config.train.minutes = None
    config.train.steps, config.eval.episodes = 7, 9
    with pytest.raises(ValueError, match=r"another comparison(.|\n)*eval.episodes: 64 there, 9 now\n *train.steps: 5"):
        check_kept(tmp_path, cell, config)


@pytest.mark.reported(
    "names", "", "a system of a comparison whose name is unknown, or has spaces", "`ValueError`, with the nearest name"
)
def test_a_system_is_a_name_of_the_recipe_or_a_backbone() -> None:
    assert find_system("gru", {}).overrides == ("backbone=gru",)
    own = ("backbone=gru", "backbone.hidden=8")
    assert find_system("gru", {"gru": own}).overrides == own
    with pytest.raises(ValueError, match=r"Unknown system 'gruu'\. Did you mean 'gru'"):
        find_system("gruu", {})
    with pytest.raises(ValueError, match="consists of letters"):
        System("a b", ())


def test_a_plan_of_an_older_wmkit_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_json(
        tmp_path / "plan.json",
        {"systems": [], "worlds": ["distracting_memory_8_4px"], "words": [], "command": "python compare.py"},
    )
    with pytest.raises(
        ValueError, match=r"older wmkit.*worlds=distracting_memory world\.width=16 .* was: python compare\.py"
    ):
        load_plan(tmp_path)


def sizes(*worlds: dict[str, object]) -> object:
    planned = tuple(PlannedWorld(f"w{number}", (), settings) for number, settings in enumerate(worlds))
    return Plan(systems=(System("s4", ()),), worlds=planned, seeds=(0,), lrs=(1e-3,), minutes=None, steps=1).sizes()


def test_worlds_that_differ_in_one_number_are_sizes_of_one_world() -> None:
    found = sizes({"width": 32, "rate": 0.5}, {"width": 8, "rate": 0.5})
    assert found == ("width", {"w1": 8, "w0": 32})
    assert list(found[1]) == ["w1", "w0"]  # smallest first
    worlds = tuple(PlannedWorld.of(DistractingMemory(width=width, tile=4)) for width in (32, 8))
    plan = Plan(systems=(System("s4", ()),), worlds=worlds, seeds=(0,), lrs=(1e-3,), minutes=None, steps=1)
    assert plan.sizes() == ("width", {"distracting_memory_8_tile4": 8, "distracting_memory_32_tile4": 32})


@pytest.mark.parametrize(
    "worlds",
    [
        [{"width": 8}],
        [{"width": 8, "rate": 0.5}, {"width": 16, "rate": 0.2}],
        [{"width": 8}, {"size": 8}],
        [{"colors": ["red"]}, {"colors": ["blue"]}],
        [{"torch": True}, {"torch": False}],
        [{}, {}],
    ],
)
def test_worlds_that_differ_in_more_or_in_no_number_have_no_size(worlds: list[dict[str, object]]) -> None:
    assert sizes(*worlds) is None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Named(DistractingMemory):
    label: str = "plain"

    @property
    def name(self) -> str:
        return self.label


@pytest.mark.reported(
    "names",
    "",
    "a comparison of worlds whose names have `/`, `..`, brackets or 300 letters",
    "a folder for each cell, inside of the comparison",
)
@pytest.mark.parametrize("label", ["a/b", "../../a", "maze[9x9]*", "ünï 日本", "x" * 300, "a.json"])
def test_a_cell_of_a_world_of_any_name_has_one_folder_in_the_comparison(
    label: str, make_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    [cell, *others] = make_plan(worlds=(PlannedWorld(label, ()),)).cells()
    files = CellFiles.of(tmp_path, cell)
    files.write(status=Status.DONE)
    write_json(files.config, {})
    assert [path.parent for path in tmp_path.rglob(CELL)] == [tmp_path / "cells" / files.run.name]
    assert CellFiles(files.config.with_suffix("")) == files
    assert other_cells(tmp_path, others) == [cell.name]


@pytest.mark.reported(
    "names", "", "systems `Wide` and `wide` in one comparison", "refused: on many disks their folders are one"
)
def test_labels_that_differ_in_capitals_alone_are_refused(make_plan: Callable[..., Plan]) -> None:
    with pytest.raises(ValueError, match=r"would share the folder .* labels by more than capitals"):
        make_plan(systems=(System("Wide", ("backbone=s4",)), System("wide", ("backbone=gru",))))
