import dataclasses
import errno
import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import wmkit
from wmkit import tree
from wmkit.backbones import GRU
from wmkit.batch import Batch
from wmkit.config import DataConfig, RunConfig
from wmkit.training.checkpoints import Checkpoint, CheckpointFolder, load_checkpoint
from wmkit.training.command import train_in_folder
from wmkit.training.log import read_lines
from wmkit.training.loop import Summary, Trainer, build_model, check_same_run, train
from wmkit.training.run_folder import RunFolder

MakeConfig = Callable[..., RunConfig]
TrainIn = Callable[[RunConfig, Path], Summary]


@pytest.fixture
def trainer_of(tmp_path: Path) -> Iterator[Callable[[RunConfig], Trainer]]:
    made: list[Trainer] = []

    def make(config: RunConfig) -> Trainer:
        folder = RunFolder(tmp_path / f"trainer-{len(made)}")
        folder.path.mkdir()
        made.append(Trainer(config, folder))
        return made[-1]

    yield make
    for trainer in made:
        trainer.close()


@pytest.fixture(scope="module")
def finished(
    make_config: MakeConfig, train_in: TrainIn, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Summary]:
    """A run to its end, with a figure of the user's own at each validation. For reading: copy it to change it."""
    path = tmp_path_factory.mktemp("finished") / "run"
    return path, train_in(make_config(), path, lambda model: {"mine": float(model.training)})


@pytest.fixture
def copy(finished: tuple[Path, Summary], tmp_path: Path) -> Path:
    """The finished run once more, to do with as a test likes."""
    return shutil.copytree(finished[0], tmp_path / "copy", symlinks=True)


def lines(path: Path, split: str) -> list[dict[str, Any]]:
    return [line for line in read_lines(path / "metrics.jsonl") if line["split"] == split]


def test_a_run_leaves_everything_that_says_what_it_was(finished: tuple[Path, Summary]) -> None:
    run, summary = finished
    assert [line["step"] for line in lines(run, "train")] == [2, 4, 6]
    assert [line["step"] for line in lines(run, "valid")] == [4, 6]
    assert {"loss", "image", "kl", "grad_norm", "lr"} <= lines(run, "train")[0]["values"].keys()
    assert [line["values"]["mine"] for line in lines(run, "valid")] == [0.0, 0.0]
    assert not any("mine" in line["values"] for line in lines(run, "train"))
    timing = list(read_lines(run / "timing.jsonl"))
    assert [(line["step"], line["split"]) for line in timing] == [
        (2, "train"), (4, "train"), (4, "valid"), (6, "train"), (6, "valid"),
    ]  # fmt: skip
    assert json.loads((run / "finished.json").read_text())["step"] == summary.step == 6
    assert summary.best_loss == min(line["values"]["loss"] for line in lines(run, "valid"))
    assert (run / "checkpoints" / "best" / "model.safetensors").exists()
    assert list((run / "tensorboard").iterdir())


def test_training_lowers_the_loss(make_config: MakeConfig, train_in: TrainIn, tmp_path: Path) -> None:
    train_in(make_config(train={"steps": 40, "lr": 3e-3, "log_every": 5, "eval_every": 40}), tmp_path / "run")
    losses = [line["values"]["loss"] for line in lines(tmp_path / "run", "train")]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("sampler", ["windows", "episodes", "persistent"])
def test_a_stopped_run_continues_bit_for_bit(
    make_config: MakeConfig, train_in: TrainIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    config = make_config(data={"sampler": sampler}, train={"log_every": 4})
    train_in(config, tmp_path / "whole")
    taken = Trainer._train_step

    def stop_after_five(self: Trainer, batch: Batch) -> None:
        taken(self, batch)
        if self.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", stop_after_five)
        assert train_in(config, tmp_path / "cut").stopped_by == signal.SIGTERM
    assert not (tmp_path / "cut" / "finished.json").exists()
    torch.randn(3)  # whatever else draws in between
    train_in(config, tmp_path / "cut")
    assert (tmp_path / "cut" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
    whole, cut = (load_checkpoint(tmp_path / name / "checkpoints" / "step-00000006") for name in ("whole", "cut"))
    assert all(torch.equal(value, cut.weights[name]) for name, value in whole.weights.items())
    assert str(whole.training["optimiser"]) == str(cut.training["optimiser"])
    assert str(whole.training["carried"]) == str(cut.training["carried"])


def test_a_finished_run_has_nothing_left_to_do(
    make_config: MakeConfig, train_in: TrainIn, finished: tuple[Path, Summary], copy: Path
) -> None:
    assert train_in(make_config(), copy) == finished[1]
    assert (copy / "metrics.jsonl").read_text() == (finished[0] / "metrics.jsonl").read_text()


def test_a_checkpoint_of_another_config_is_refused_and_kept(
    make_config: MakeConfig, train_in: TrainIn, copy: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.name != "lock"}
    other = make_config(train={"lr": 0.5}, backbone="transformer_xl")
    with pytest.raises(
        ValueError, match=r"another config(.|\n)*backbone.name: gru in the checkpoint, transformer_xl now"
    ):
        train_in(other, copy)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.name != "lock"} == before


def test_more_steps_continue_a_constant_schedule_only(
    make_config: MakeConfig, train_in: TrainIn, tmp_path: Path
) -> None:
    for schedule in ("constant", "cosine"):
        train_in(make_config(train={"schedule": schedule, "steps": 2}), tmp_path / schedule)
    assert train_in(make_config(train={"schedule": "constant"}), tmp_path / "constant").step == 6
    with pytest.raises(ValueError, match=r"train\.steps: 2 in the checkpoint, 6 now"):
        train_in(make_config(train={"schedule": "cosine"}), tmp_path / "cosine")


def test_another_number_of_threads_is_allowed_and_said(
    make_config: MakeConfig, train_in: TrainIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_in(make_config(train={"steps": 2, "schedule": "constant"}), tmp_path / "run")
    train_in(make_config(train={"steps": 3, "schedule": "constant", "threads": 2}), tmp_path / "run")
    assert "2 threads instead of 1" in capsys.readouterr().out


def test_a_damaged_checkpoint_falls_back_and_says_so(
    make_config: MakeConfig,
    train_in: TrainIn,
    finished: tuple[Path, Summary],
    copy: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    os.truncate(copy / "checkpoints" / "step-00000006" / "model.safetensors", 10)
    train_in(make_config(), copy, lambda model: {"mine": 0.0})
    said = capsys.readouterr().out
    assert "step-00000006/model.safetensors has 10 bytes" in said
    assert "Continuing after step 4" in said
    assert (copy / "metrics.jsonl").read_text() == (finished[0] / "metrics.jsonl").read_text()


def rewrite(run: Path, step: int, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Make the checkpoint of `step` the newest, with `change(training state)` in place of the training state."""
    folder = CheckpointFolder(run / "checkpoints")
    for newer in [number for number in folder.steps() if number > step]:
        shutil.rmtree(folder.folder(newer))
    checkpoint = load_checkpoint(folder.folder(step))
    folder.save(dataclasses.replace(checkpoint, training=change(checkpoint.training)))


def test_a_checkpoint_in_the_layout_of_the_first_versions_goes_on(
    make_config: MakeConfig, train_in: TrainIn, finished: tuple[Path, Summary], copy: Path
) -> None:
    def as_then(saved: dict[str, Any]) -> dict[str, Any]:
        """Name by name what they wrote, which counted no seconds yet."""
        return {
            "optimiser": {"state": saved["optimiser"]["state"], "param_groups": saved["optimiser"]["param_groups"]},
            "schedule": saved["schedule"],
            "sampler": saved["sampler"],
            "guard": {"skipped": 0, "in_a_row": 0},
            "mean": {"sums": saved["mean"]["sums"], "count": 0},
            "carried": None,
            "best_loss": lines(finished[0], "valid")[0]["values"]["loss"],
            "random": torch.as_tensor(saved["random"], dtype=torch.uint8),
            "threads": 1,
        }

    rewrite(copy, 4, as_then)
    train_in(make_config(), copy, lambda model: {"mine": 0.0})
    assert (copy / "metrics.jsonl").read_text() == (finished[0] / "metrics.jsonl").read_text()


@pytest.mark.reported(
    "names",
    "",
    "an archive is moved after training: `resume=true` with its new name; `wmkit evaluate` and `imagine`",
    "`ValueError`: bring it back, or link to it; `--episodes-from` for the other two",
)
def test_a_run_on_an_archive_that_was_moved_says_what_to_do() -> None:
    began = RunConfig(backbone="gru", data=DataConfig(source="old/train"))
    now = RunConfig(backbone="gru", data=DataConfig(source="new/train"))
    with pytest.raises(ValueError, match=r"data\.source: old/train in .*\n.* archive was moved, bring it back"):
        check_same_run(Checkpoint(4, began.to_dict(), {}, {}), now)


def test_a_checkpoint_whose_world_is_written_by_its_name_is_of_the_same_run() -> None:
    config = RunConfig(world="ray_maze_9x9", backbone="gru")
    check_same_run(Checkpoint(4, config.to_dict() | {"world": "ray_maze_9x9"}, {}, {}), config)
    with pytest.raises(ValueError, match=r"world.size: 11 in the checkpoint, 9 now"):
        check_same_run(Checkpoint(4, config.to_dict() | {"world": "ray_maze_11x11"}, {}, {}), config)


def test_a_checkpoint_whose_world_has_no_such_name_any_more_is_refused_with_advice() -> None:
    config = RunConfig(backbone="gru")
    old = Checkpoint(4, config.to_dict() | {"world": "distracting_memory_16_4px"}, {}, {})
    with pytest.raises(ValueError, match=r"checkpoint of step 4 .* finish the run with the version that began it"):
        check_same_run(old, config)


@pytest.mark.parametrize("section", ["train", "backbone", None])
def test_a_checkpoint_with_a_key_that_this_version_does_not_know_is_refused_with_advice(section: str | None) -> None:
    config = RunConfig(backbone="gru")
    values = config.to_dict()
    (values[section] if section else values)["momentum"] = 0.9
    with pytest.raises(ValueError, match=r"(?s)checkpoint of step 4 .* version that began it.*momentum"):
        check_same_run(Checkpoint(4, values, {}, {}), config)


def test_a_checkpoint_that_lacks_a_part_is_refused_with_advice(
    make_config: MakeConfig, train_in: TrainIn, copy: Path
) -> None:
    rewrite(copy, 4, lambda saved: {name: state for name, state in saved.items() if name not in ("guard", "mean")})
    with pytest.raises(ValueError, match=r"checkpoint of step 4 .* lacks guard, mean. Continue it with the version"):
        train_in(make_config(), copy)


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(
    make_config: MakeConfig, train_in: TrainIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves = iter([CheckpointFolder.save])

    def save(self: CheckpointFolder, *args: Any) -> Path:
        if (working := next(saves, None)) is not None:
            return working(self, *args)
        raise OSError(errno.ENOSPC, "the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, "save", save)
        with pytest.raises(OSError, match="the disk is full"):
            train_in(make_config(), tmp_path / "run")
    assert CheckpointFolder(tmp_path / "run" / "checkpoints").steps() == [3]
    assert train_in(make_config(), tmp_path / "run").step == 6


def test_a_nan_in_a_batch_is_refused_before_it_reaches_the_model(
    make_config: MakeConfig, trainer_of: Callable[[RunConfig], Trainer]
) -> None:
    trainer = trainer_of(make_config())
    batch = next(trainer.sampler)
    action = batch.action.clone()
    action[1, 2, 3] = torch.nan
    with pytest.raises(ValueError, match="action is nan in row 1 at t = 2"):
        trainer._train_step(dataclasses.replace(batch, action=action))
    assert trainer.step == 0


def test_a_step_without_finite_gradient_changes_no_parameter(
    make_config: MakeConfig, trainer_of: Callable[[RunConfig], Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = trainer_of(make_config(data={"sampler": "persistent"}))
    trainer._train_step(next(trainer.sampler))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    parameter = next(trainer.model.parameters())
    handle = parameter.register_hook(lambda gradient: gradient * torch.nan)
    trainer._train_step(next(trainer.sampler))
    assert all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())
    assert (trainer.guard.skipped, trainer.carried.value) == (1, None)
    assert "no finite gradient; skipped" in capsys.readouterr().out
    handle.remove()
    trainer._train_step(next(trainer.sampler))
    assert trainer.carried.value is not None


def test_a_skipped_step_leaves_no_trace_in_the_statistics_of_a_batch(
    make_config: MakeConfig, trainer_of: Callable[[RunConfig], Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(make_config(backbone="svg_lp"))
    trainer._train_step(next(trainer.sampler))
    before = {name: value.clone() for name, value in trainer.model.named_buffers()}
    dynamics = trainer.model.dynamics
    with monkeypatch.context() as patch:
        patch.setattr(dynamics, "draw_noise", lambda lead, generator: torch.full((*lead, dynamics.noise_dim), math.inf))
        trainer._train_step(next(trainer.sampler))
    assert trainer.guard.skipped == 1
    assert all(torch.equal(before[name], value) for name, value in trainer.model.named_buffers())
    trainer._train_step(next(trainer.sampler))
    assert not all(torch.equal(before[name], value) for name, value in trainer.model.named_buffers())
    assert all(bool(value.isfinite().all()) for value in trainer.model.buffers())


@pytest.mark.reported(
    "numbers",
    "clearml/clearml#118, tensorflow/tensorflow#3212, lanpa/tensorboardX#377",
    "a whole run with a backbone that is NaN in `eval()`",
    "status as ever; every JSON file of the run is strict, its best loss `null`, and the log says why",
)
def test_a_run_whose_validations_are_nan_leaves_strict_json_and_says_so(
    make_config: MakeConfig,
    train_in: TrainIn,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = GRU.step

    def step(core: GRU, x: torch.Tensor, state: Any) -> Any:
        h, state = plain(core, x, state)
        return (h if core.training else h * torch.nan), state

    monkeypatch.setattr(GRU, "step", step)
    run = tmp_path / "run"
    summary = train_in(make_config(train={"steps": 4, "eval_every": 2}), run)
    assert summary.best_loss == math.inf
    for path in [*run.rglob("*.json"), *run.rglob("*.jsonl")]:
        for text in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.loads(text, parse_constant=pytest.fail)
    assert json.loads((run / "finished.json").read_text())["best_loss"] is None
    assert [line["values"]["loss"] for line in lines(run, "valid")] == [None, None]
    assert capsys.readouterr().out.count("the validation loss is not finite") == 2
    with pytest.raises(ValueError, match=r"no validation had a finite loss; --checkpoint last .* is step 4"):
        wmkit.load(run)


def test_every_step_tells_the_backbones_and_a_skipped_one_does_not(
    make_config: MakeConfig, trainer_of: Callable[[RunConfig], Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[bool, bool]] = []
    before: dict[str, torch.Tensor] = {}

    def after_update(core: GRU) -> None:
        told.append((torch.is_grad_enabled(), torch.equal(before["weight"], core.from_input.weight)))

    monkeypatch.setattr(GRU, "after_update", after_update)
    trainer = trainer_of(make_config())
    for steps in range(3):
        before["weight"] = trainer.model.dynamics.backbone.from_input.weight.detach().clone()
        trainer._train_step(next(trainer.sampler))
        assert told == [(False, False)] * (steps + 1)  # without gradients, and after the weights have moved
    handle = next(trainer.model.parameters()).register_hook(lambda gradient: gradient * torch.nan)
    trainer._train_step(next(trainer.sampler))
    handle.remove()
    assert len(told) == 3


def test_a_loss_of_the_backbone_is_in_the_runs_log_under_its_name(
    make_config: MakeConfig, train_in: TrainIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = GRU.step

    def step(core: GRU, *arguments: Any) -> Any:
        core.add_loss("balance", torch.tensor(0.25))
        return plain(core, *arguments)

    monkeypatch.setattr(GRU, "step", step)
    train_in(make_config(), tmp_path / "run")
    for split in ("train", "valid"):
        assert all(line["values"]["balance"] == 0.25 for line in lines(tmp_path / "run", split))


def test_persistent_rows_carry_their_state_detached(
    make_config: MakeConfig, trainer_of: Callable[[RunConfig], Trainer]
) -> None:
    trainer = trainer_of(make_config(data={"sampler": "persistent"}))
    seen = []
    forward = trainer.forward

    def spy(batch: Batch, state: Any, noise: torch.Tensor, **options: Any) -> Any:
        output = forward(batch, state, noise, **options)
        seen.append((state, output.state))
        return output

    trainer.forward = spy
    for _ in range(2):
        trainer._train_step(next(trainer.sampler))
    (first, after), (second, _) = seen
    assert first is None
    assert all(torch.equal(a, b) for a, b in zip(tree.leaves(after), tree.leaves(second), strict=True))
    assert not any(leaf.requires_grad for leaf in tree.leaves(second))


def test_validation_of_persistent_rows_goes_on_from_window_to_window(
    make_config: MakeConfig, trainer_of: Callable[[RunConfig], Trainer]
) -> None:
    trainer = trainer_of(make_config(data={"sampler": "persistent"}))
    states = []
    loss = trainer._loss

    def spy(batch: Batch, state: Any, generator: torch.Generator) -> Any:
        output = loss(batch, state, generator)
        states.append((state, output.state))
        return output

    trainer._loss = spy
    trainer._validate()
    assert [given is before for (given, _), (_, before) in zip(states[1:], states, strict=False)] == [True, True]
    assert states[0][0] is trainer.carried.value is None


def test_windows_carry_nothing(make_config: MakeConfig, trainer_of: Callable[[RunConfig], Trainer]) -> None:
    trainer = trainer_of(make_config())
    trainer._train_step(next(trainer.sampler))
    assert trainer.carried.value is None


def test_validation_sees_the_same_batches_and_noise_each_time(
    make_config: MakeConfig, trainer_of: Callable[[RunConfig], Trainer]
) -> None:
    trainer = trainer_of(make_config())
    assert trainer._validate()
    best = trainer.best.value
    assert not trainer._validate()
    assert trainer.best.value == best
    assert trainer.model.training


def test_bf16_trains_with_float32_weights(make_config: MakeConfig, train_in: TrainIn, tmp_path: Path) -> None:
    summary = train_in(make_config(train={"precision": "bf16", "steps": 2}), tmp_path / "run")
    assert summary.skipped == 0
    weights = load_checkpoint(tmp_path / "run" / "checkpoints" / "step-00000002").weights
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.float32}


def test_the_initial_weights_are_a_function_of_the_seed(make_config: MakeConfig) -> None:
    def flat(seed: int) -> torch.Tensor:
        return torch.cat([p.flatten() for p in build_model(make_config(seed=seed), (3, 64, 64), 6).parameters()])

    assert torch.equal(flat(0), flat(0))
    assert not torch.equal(flat(0), flat(1))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_says_which_settings_to_lower(
    make_config: MakeConfig, trainer_of: Callable[[RunConfig], Trainer], error: RuntimeError
) -> None:
    trainer = trainer_of(make_config())

    def fail(*args: object, **options: object) -> None:
        raise error

    trainer.forward = fail
    with pytest.raises(MemoryError, match=r"step 1 with 2 x 6 frames: lower data\.batch_size"):
        trainer._train_step(next(trainer.sampler))


def test_a_run_that_cannot_begin_leaves_no_folder(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Unknown world"):
        train_in_folder(make_config(world="ray_maze_8x8"), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_train_is_all_a_library_user_needs(make_config: MakeConfig, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.open()
    assert train(make_config(train={"steps": 1}), folder).step == 1
    folder.close()
