"""Probes say what is there, and no more: features with the layout, noise, the current frame alone."""

import functools
import re

import numpy as np
import pytest
import torch

from tests.probing.conftest import Cue, Drawn, both, cue, forgetful, looking, maze, small
from wmkit.backbones.transformer_xl import TransformerXL, TransformerXLConfig
from wmkit.probing import ForeignModel, Probe, effective_horizon, measure_probes, register_probe
from wmkit.probing.measure import _control_task
from wmkit.probing.readers import fingerprint

SHOWN, HIDDEN = (functools.partial(maze, shown=shown) for shown in (True, False))
MEMORY = 4


def test_features_that_contain_the_layout_give_all_of_it() -> None:
    found = measure_probes(looking(), *both(SHOWN), small(probes=["walls"], rows=["observed"]))
    assert found.steps.estimate("walls_linear", "observed").mean == 1
    assert found.steps.estimate("walls_linear", "constant").mean < 0.8
    assert found.horizons()["walls_linear"].delay == np.inf


def test_features_of_noise_give_the_constant_answer_within_its_interval() -> None:
    plan = small(probes=["walls"], rows=["observed"], episodes=200, rate=1e-3)
    found = measure_probes(looking(), *both(HIDDEN), plan)
    ours, constant = (found.steps.estimate("walls_linear", row) for row in ("observed", "constant"))
    assert constant.low <= ours.mean <= constant.high
    assert found.steps.refused == ["walls_linear"]
    assert not [one for one in found.steps.verdicts if one.measure == "walls_linear"]


def test_a_probe_of_the_current_frame_is_caught_by_the_control_task() -> None:
    class Now(Cue):
        """The mark that is in view, or none."""

        name = "now"

        def target(self, episode):
            return np.where(np.arange(episode.length) == int(episode["at"]), 1 + int(episode["cue"]), 0)

        def counts(self, delay, target):
            return None

    found = measure_probes(looking(), *both(cue), small(probes=[Now()], steps=300)).steps
    assert found.estimate("now_linear", "observed").mean > 0.99
    assert found.estimate("now_linear", "control").mean > 0.99
    assert found.estimate("now_linear_selectivity", "observed").mean < 0.01
    beats = next(one for one in found.verdicts if "than no memory" in one.claim)
    assert not beats.holds


def transformer() -> ForeignModel:
    """One layer over marks at random weights: it sees `MEMORY` positions before its own."""
    torch.manual_seed(3)
    core = TransformerXL(16, TransformerXLConfig(input_dim=16, layers=1, heads=2, head_dim=8, ff=16, memory=MEMORY))
    read = torch.nn.Linear(64, 16)
    with torch.no_grad():  # weights as large as the widths want: what is remembered is told without training
        for parameter in core.layers.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.25 / 0.02)

    def step(embedding, action, state):
        with core.prepared():
            x = torch.zeros(len(action), 16) if embedding is None else embedding
            return core.step(x, core.initial_state(len(action)) if state is None else state)

    return ForeignModel(lambda image: read(image.flatten(1)), step, lambda h: h[:, :1, None, None].expand(-1, 1, 8, 8),
                        modules=(core, read))  # fmt: skip


def test_recall_of_a_transformer_ends_where_its_memory_does_and_so_does_the_gradient() -> None:
    model = transformer()
    before = fingerprint(model)
    plan = small(probes=[Cue()], rows=["observed"], steps=400, held_out=24)
    found = measure_probes(model, *both(cue), plan)
    assert fingerprint(model) == before
    curves = {row: found.by_axis["delay"].curve("cue_linear", row) for row in ("observed", "constant")}
    recall, constant = (dict(zip(curve.steps, curve.mean, strict=True)) for curve in curves.values())
    assert recall[MEMORY - 1] > 0.95
    assert recall[MEMORY + 1] == pytest.approx(constant[MEMORY + 1], abs=0.15)
    horizon = effective_horizon(found.by_axis["delay"], "cue_linear")
    assert MEMORY - 1 <= horizon.low <= horizon.delay <= horizon.high <= MEMORY + 1
    reach = found.by_axis["reach"].curve("reach", "observed")
    assert (reach.mean[: MEMORY + 1] > 1e-3).all()
    assert (reach.mean[MEMORY + 1 :] == 0).all()


def test_the_same_probes_twice_give_the_same_numbers() -> None:
    plan = small(probes=[Cue()], heads=("mlp",), steps=5, episodes=6, held_out=3)
    first, second = (measure_probes(forgetful(0), *both(cue), plan) for _ in range(2))
    assert "oracle" in first.steps.predictors("cue_mlp")
    for axis, found in first.by_axis.items():
        assert found.frame.equals(second.by_axis[axis].frame)


def test_killed_and_run_again_it_goes_on(tmp_path) -> None:
    plan = small(probes=[Cue()], steps=5, episodes=6, held_out=3)
    whole = measure_probes(forgetful(0), *both(cue), plan)
    done = []

    def killed(what: str, count: int, total: int) -> None:
        if not what.startswith("reading"):
            done.append(count)
        if count == 3 and not what.startswith("reading"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_probes(forgetful(0), *both(cue), plan, folder=tmp_path, progress=killed)
    assert len(list(tmp_path.glob("parts/*/*.parquet"))) == 3
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("parts/*/*.parquet")}
    again = measure_probes(forgetful(0), *both(cue), plan, folder=tmp_path)
    assert again.steps.frame.equals(whole.steps.frame)
    assert {path: path.stat().st_mtime_ns for path in written} == written

    def nothing(*_: object) -> None:
        raise AssertionError("all was done")

    assert measure_probes(forgetful(0), *both(cue), plan, folder=tmp_path, progress=nothing).steps.frame.equals(
        whole.steps.frame
    )


@pytest.mark.usefixtures("own_probes")
def test_a_probe_of_ones_own_takes_ten_lines() -> None:
    @register_probe("bright")
    class Bright(Probe):
        keys = ("cue",)
        hidden = (16,)

        def target(self, episode):
            return (episode["image"].mean((1, 2, 3)) > 0).astype(int)

    found = measure_probes(looking(), *both(cue), small(probes=["bright"], rows=["observed"], steps=100))
    assert found.steps.estimate("bright_linear", "observed").mean > 0.99
    with pytest.raises(ValueError, match="'bright' is already registered"):
        register_probe("bright")(Bright)


def test_what_cannot_be_probed_is_said() -> None:
    sources = both(cue)
    for options, message in (
        ({"probes": ["wall"]}, "Unknown probe 'wall'. Did you mean 'walls'?"),
        ({"probes": ["walls"]}, "The probe 'walls' reads maze_layout"),
        ({}, "No probe applies to episodes with image"),
        ({"probes": [Cue()], "rows": ["untrained"]}, "there is no `untrained`"),
        ({"probes": [Cue()], "rows": ["oracle"]}, "there is no `oracle`"),
        ({"probes": [Cue()], "length": 17}, "length: expected 2 to 16 steps"),
    ):
        with pytest.raises(ValueError, match=message.replace("?", r"\?")):
            measure_probes(looking(), *sources, small(**options))
    with pytest.raises(ValueError, match="rows: expected one of"):
        small(rows=["nothing"])


def test_what_is_always_the_same_is_left_out() -> None:
    class Same(Cue):
        name = "same"

        def target(self, episode):
            return np.zeros(episode.length, int)

    found = measure_probes(looking(), *both(cue), small(probes=[Same(), Cue()], rows=["observed"], steps=2))
    assert "same is left out: it is the same at every step of every training episode." in found.notes
    assert "same_linear" not in found.steps.measures


def test_rows_without_observed_are_measured_and_have_no_horizon() -> None:
    found = measure_probes(looking(), *both(cue), small(probes=[Cue()], rows=["no_memory"], steps=2))
    assert found.horizons() == {}
    assert [row[0] for table in found.tables() for row in table.rows] == ["no memory", "constant"]
    assert found.by_axis.keys() == {"steps", "delay"}


def test_what_the_pose_alone_tells_admits_no_probe() -> None:
    """A walker goes to and fro between two free cells. It stands in a free cell, which is in view: the pose says so."""

    def walk(rng):
        image, steps, constants = maze(rng, shown=False)
        ring = np.array([(1.5, 1.5), (1.5, 0.5), (0.5, 0.5), (0.5, 1.5)])
        free = np.roll(ring, rng.integers(4), axis=0)[:2]
        constants["maze_layout"][:] = 0
        constants["maze_layout"][tuple(free.astype(int).T[::-1])] = 1
        steps["agent_pos"] = free[np.arange(len(image)) % 2].astype(np.float32)
        return image, steps, constants

    found = measure_probes(looking(), *both(walk), small(probes=["walls"], rows=["observed"], episodes=100)).steps
    assert found.difference("walls_linear_in_view", "inputs", "constant").low > 0
    assert found.refused == ["walls_linear"]


def test_the_control_task_has_the_base_rates_of_the_truth() -> None:
    codes = torch.randn(20, 10, 8, generator=torch.Generator().manual_seed(0))
    target = (torch.rand(20, 10, 2, generator=torch.Generator().manual_seed(1)) > torch.tensor([0.9, 0.3])).long()
    target[..., 1] += target[..., 0]
    task = _control_task(Cue(), codes, target, None, 0)
    for entry in range(2):
        assert task(codes)[..., entry].unique(return_counts=True)[1].tolist() == (
            target[..., entry].unique(return_counts=True)[1].tolist()
        )


def test_other_episodes_and_another_part_are_other_fits(tmp_path) -> None:
    plan = small(probes=[Cue()], rows=["observed"], steps=1, episodes=2, held_out=2, seeds=1)
    training, test = both(cue)
    later = functools.partial(cue, first=9, last=10)
    reader, other = looking(), looking()
    other.part = "h"
    calls = [(reader, training, test), (other, training, test), (reader, Drawn(later, 0), test),
             (reader, training, Drawn(later, 1)), (reader, training, test)]  # fmt: skip
    marks = []
    for who, *sources in calls:
        measure_probes(who, *sources, plan, folder=tmp_path)
        marks.append(len(list((tmp_path / "parts").iterdir())))
    assert marks == [1, 2, 3, 4, 4]


def test_sources_that_do_not_match_are_refused_before_anything_is_computed() -> None:
    def larger(rng):
        image, steps, _ = maze(rng, shown=False)
        return image, steps, {"maze_layout": np.ones((5, 5), np.uint8)}

    def nothing(*_: object) -> None:
        raise AssertionError("nothing was to be computed")

    wide = Drawn(HIDDEN, 0)
    wide.action_dim = 3
    for training, message in (
        (Drawn(larger, 0), "training and held-out episodes with targets of one shape, got (5, 5) and (3, 3)"),
        (Drawn(cue, 0), "The probe 'walls' reads maze_layout, agent_pos, agent_dir, the training episodes have"),
        (wide, "numbers of actions of one shape, got training (1, 8, 8) and 3, held-out (1, 8, 8) and 2"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            measure_probes(looking(), training, Drawn(HIDDEN, 1), small(probes=["walls"]), progress=nothing)


def test_where_walls_hide_nothing_nothing_is_asked_of_what_was_seen() -> None:
    training, test = both(HIDDEN)
    test.origin = {"world": {"name": "memory_maze", "from_above": True}}
    plan = small(rows=["observed"], steps=2, episodes=4, held_out=2)
    found = measure_probes(looking(), training, test, plan)
    assert {"walls", "pose"} <= set(found.steps.about["probes"])
    assert "seen" not in found.steps.about["probes"]
    assert "delay" not in found.by_axis
    assert "walls hide nothing" in found.notes[0]
    with pytest.raises(ValueError, match="expected others than seen"):
        measure_probes(looking(), training, test, small(probes=["seen"]))


def test_frames_that_are_looked_at_one_by_one_are_few_where_states_are_large(monkeypatch) -> None:
    sizes = []
    reader = looking()
    reader.state_bytes = 1 << 27
    monkeypatch.setattr(reader, "_encode", lambda image: sizes.append(len(image)) or image.flatten(1))
    measure_probes(reader, *both(cue), small(probes=[Cue()], rows=["no_memory"], steps=1, episodes=2, held_out=2))
    assert max(sizes) == 2
