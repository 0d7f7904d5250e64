"""A run and a model of one's own are probed, and what is found is printed, drawn and read again."""

import dataclasses
import io
import json

import pytest
import torch
from PIL import Image
from rich.console import Console

import wmkit
from tests.probing.conftest import both, cue, looking
from wmkit.batch import Batch
from wmkit.config import DataConfig, EvalConfig, RunConfig, TrainConfig
from wmkit.data import GeneratedEpisodes, Subset
from wmkit.data.store.writers import write_archive
from wmkit.evaluation.record import Verdict
from wmkit.probing import (
    Fit,
    ForeignModel,
    Plan,
    ProbeResults,
    WorldModelReader,
    fingerprint,
    probe_run,
    systems_tables,
)
from wmkit.probing.figures import draw_systems
from wmkit.probing.results import AXES
from wmkit.probing.run import _sources
from wmkit.probing.state import SWAP, replace_parts
from wmkit.training.loop import build_model
from wmkit_envs import RayMaze

WORLD = RayMaze(image_size=16)
PLAN = Plan(probes=["objects"], heads=("mlp",), seeds=1, episodes=2, held_out=2, length=16, every=4, context=8,
            fit=Fit(steps=2, rows=4))  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    config = RunConfig(
        world=WORLD,
        backbone="gru",
        size="tiny",
        data=DataConfig(length=6, batch_size=2, episode_length=12, episodes=2, workers=0),
        train=TrainConfig(steps=2, eval_every=2, checkpoint_every=2, device="cpu"),
        eval=EvalConfig(episodes=2, context=5, horizon=7),
    )
    wmkit.train(config, folder)
    return folder


def test_a_run_is_probed_printed_and_drawn(run) -> None:
    console = Console(file=io.StringIO(), width=200, record=True)
    plan = dataclasses.replace(PLAN, probes=["walls"], rows=["observed"], heads=("mlp",))
    found = probe_run(run, plan, console=console)
    place = run / "probes"
    text = console.export_text()
    assert "walls: cells of the maze told right: higher is better" in text
    assert f"Records, tables and pictures in {place}" in text
    for name in (
        "recall.png",
        "contexts.png",
        "imagined.png",
        "reach.png",
        "swap.png",
        "reset.png",
        "map.png",
        "map.gif",
    ):
        with Image.open(place / "pictures" / name) as image:
            assert min(image.size) > 100
    loaded = ProbeResults.load(place)
    assert loaded.by_axis.keys() == found.by_axis.keys() == set(AXES)
    assert loaded.steps.frame.equals(found.steps.frame)
    assert loaded.steps.about["checkpoint"] == "step-00000002"
    assert loaded.steps.estimate("walls_mlp", "observed") == found.steps.estimate("walls_mlp", "observed")
    assert "| observed |" in (place / "probes.md").read_text()
    [table] = systems_tables({"a": found, "b": found}, {name: {"state": f"{name} bytes"} for name in "ab"})
    assert table.headings[2:] == ["better than no memory by", "better than untrained by", "horizon", "state"]
    assert [row[0] for row in table.rows] == ["a", "b", "constant"]
    assert [row[-1] for row in table.rows] == ["a bytes", "b bytes", "-"]
    draw_systems({"a": found, "b": found}, run / "systems.png")
    assert (run / "systems.png").stat().st_size > 0


def test_all_rows_of_a_model_of_ones_own(run) -> None:
    model = wmkit.load(run)
    model.train()
    before = fingerprint(WorldModelReader(model))
    found = wmkit.probe(model, WORLD, plan=PLAN)
    assert fingerprint(WorldModelReader(model)) == before
    assert model.training
    assert found.steps.predictors("objects_mlp") == [
        "observed", "oracle", "actions", "no_memory", "untrained", "control", "constant",
    ]  # fmt: skip
    assert set(found.by_axis["swap"].predictors("follows_donor")) == {"backbone", "z"}
    assert set(found.by_axis["reset"].predictors("follows_empty")) == {"backbone", "z"}
    assert found.by_axis["imagined"].steps_of("objects_mlp", "observed").tolist() == [4, 8]


def test_untrained_is_the_model_that_the_run_began_with(run) -> None:
    model, config = wmkit.load(run), wmkit.loading.run_config(run)
    reader = WorldModelReader(model, make=lambda seed: build_model(config, model.image_shape, model.action_dim))
    fresh, again = reader.fresh(0), reader.fresh(1)
    assert fingerprint(fresh) == fingerprint(again) != fingerprint(reader)


def test_features_of_an_episode_do_not_depend_on_its_neighbours(run) -> None:
    reader = WorldModelReader(wmkit.load(run))
    image, action = torch.randint(256, (2, 5, 3, 16, 16), dtype=torch.uint8), torch.zeros(2, 5, 6)
    with reader.reading():
        together, _ = reader.observe(image, action, [3, 4])
        alone, _ = reader.observe(image[1:], action[1:], [4])
    torch.testing.assert_close(together[1:], alone)


@pytest.mark.parametrize(("part", "width"), [("both", 80), ("h", 16), ("z", 64)])
def test_parts_of_the_features_are_h_and_z(run, part, width) -> None:
    model = wmkit.load(run)
    reader = WorldModelReader(model, part)
    with reader.reading():
        features, state = reader.observe(torch.zeros(1, 2, 3, 16, 16, dtype=torch.uint8), torch.zeros(1, 2, 6), [0])
        ahead, whole = reader.imagine(torch.zeros(1, 3, 6), state, [0])
    assert (features.shape[-1], ahead.shape[-1], whole.shape[-1]) == (width, width, model.feature_dim)


def test_a_foreign_model_is_probed_and_keeps_its_own_state() -> None:
    from tests.probing.conftest import Cue

    found = wmkit.probe(looking(), both(cue), [Cue()], plan=dataclasses.replace(PLAN, probes=None, length=None))
    assert not {"untrained", "oracle"} & set(found.steps.predictors("cue_mlp"))
    assert [note[:27] for note in found.notes] == ["There is no row `untrained`", "There is no row `oracle`: n"]


def noisy() -> ForeignModel:
    """Its features are what it keeps of the frames and noise; its state has a part that is never read."""

    def step(embedding, action, state):
        held = torch.zeros(len(action), 64) if state is None else state["held"]
        held = (held if embedding is None else embedding) + 0.1 * torch.randn(len(action), 64)
        return held, {"held": held, "idle": torch.randn(len(action), 3)}

    return ForeignModel(lambda image: image.flatten(1), step, lambda features: features.view(-1, 1, 8, 8))


def test_a_foreign_model_that_draws_from_the_global_generator_is_probed_alike_twice_and_leaves_it_alone() -> None:
    from tests.probing.test_measure import Cue

    plan = dataclasses.replace(PLAN, probes=None, length=None)
    before = torch.random.get_rng_state()
    first = wmkit.probe(noisy(), both(cue), [Cue()], plan=plan)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.randn(7)
    second = wmkit.probe(noisy(), both(cue), [Cue()], plan=plan)
    for axis, found in first.by_axis.items():
        assert found.frame.equals(second.by_axis[axis].frame)


def test_a_swap_in_a_foreign_model_is_judged_under_one_noise() -> None:
    image = torch.randint(256, (2, 8, 1, 8, 8), dtype=torch.uint8)
    batch = Batch.of(image, torch.zeros(2, 8, 2))
    follows = replace_parts(noisy(), batch, context=4, seeds=[0, 1])[SWAP]
    assert (follows["idle"] == 0).all()
    assert (follows["held"] == 1).all()


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a WorldModel or a wmkit\.probing\.Reader, got a int"):
        wmkit.probe(3, WORLD)


def test_another_model_of_three_functions_in_the_same_folder_is_another_one(tmp_path, monkeypatch) -> None:
    from tests.probing.conftest import Cue

    monkeypatch.setattr("wmkit.probing.figures.draw_all", lambda *_: [])
    plan = dataclasses.replace(PLAN, probes=None, length=None, rows=("observed",))
    other = looking()
    monkeypatch.setattr(other, "_encode", lambda image: 1 - image.flatten(1))
    for number, model in enumerate((looking(), other, looking()), start=1):
        wmkit.probe(model, both(cue), [Cue()], plan=plan, out=tmp_path)
        assert len(list((tmp_path / "parts").iterdir())) == min(number, 2)


def test_a_source_without_splits_keeps_its_last_episodes_for_the_answers() -> None:
    training, test = _sources(Subset(both(cue)[0], range(12)), Plan())
    assert (training.num_episodes, test.num_episodes) == (9, 3)
    assert test.episode(0)["image"].tobytes() == both(cue)[0].episode(9)["image"].tobytes()
    with pytest.raises(ValueError, match="expected 4 episodes or more to divide, got 3"):
        _sources(Subset(both(cue)[0], range(3)), Plan())


def test_a_world_gives_training_and_test_episodes() -> None:
    training, test = _sources(WORLD, dataclasses.replace(PLAN))
    assert (training.split, test.split, training.episode_length(0)) == ("train", "test", 16)


def test_a_source_without_end_gives_exactly_what_the_plan_wants() -> None:
    training, test = _sources(both(cue)[0], Plan(episodes=5, held_out=7))
    assert (training.num_episodes, test.num_episodes) == (5, 7)
    assert test.episode(0)["image"].tobytes() == both(cue)[0].episode(5)["image"].tobytes()


def test_an_archive_of_test_episodes_alone_is_refused(tmp_path) -> None:
    write_archive(GeneratedEpisodes(WORLD, seed=0, split="test", length=4), tmp_path / "made", 4)
    with pytest.raises(ValueError, match=r"holds split 'test'.*probes are fitted to training episodes"):
        _sources(tmp_path / "made", Plan())


def test_a_run_that_was_saved_without_its_world_is_fitted_to_episodes_from_elsewhere(run, tmp_path) -> None:
    folder = wmkit.save(wmkit.load(run), tmp_path / "saved")
    with pytest.raises(ValueError, match="was saved without its world"):
        probe_run(folder, PLAN)
    plan = dataclasses.replace(PLAN, rows=["constant"], probes=["pose"], heads=("linear",))
    found = probe_run(folder, plan, episodes_from=WORLD, out=tmp_path, console=Console(file=io.StringIO()))
    assert found.steps.predictors("pose_linear") == ["constant"]


def test_what_is_not_admitted_is_left_out_of_horizons_and_figures(run, tmp_path) -> None:
    found = ProbeResults.load(run / "probes")
    closed = Verdict("walls_mlp_in_view", "observed is better", False, "0 against 1")
    refused = dataclasses.replace(found.steps, verdicts=(closed,))
    results = dataclasses.replace(found, by_axis={**found.by_axis, "steps": refused})
    assert results.horizons() == {}
    frame = Verdict("walls_mlp_in_view", "no memory is better", True, "1 against 0")
    assert dataclasses.replace(refused, verdicts=(closed, frame)).refused == []  # it can be told from the frame alone
    assert next(systems_tables({"a": results})).rows[0][-1] == "not admitted"
    results.save(tmp_path)
    assert json.loads((tmp_path / "probes.json").read_text())["not_admitted"] == ["walls_mlp"]
    assert draw_systems({"a": results}, tmp_path / "systems.png")
    without = {axis: one for axis, one in found.by_axis.items() if axis != "delay"}
    assert not draw_systems({"a": dataclasses.replace(found, by_axis=without)}, tmp_path / "none.png")
