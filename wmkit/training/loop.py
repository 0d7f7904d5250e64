"""The training loop: batch -> loss -> gradients -> guarded step, with everything needed to stop and go on.

Given (config, seed) a run on a CPU with a fixed number of threads is determined to the last bit: batch k comes from
(seed, k), noise from (seed, step), and a checkpoint holds the rest. `kill -9` and `resume=true` therefore give the
metrics of the run that was never killed. With `train.minutes` the clock decides when it ends and how the rate falls.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from wmkit import tree
from wmkit.batch import Batch
from wmkit.build import build_world_model
from wmkit.config import NOT_OF_VIDEO, RunConfig, differences, rule_of
from wmkit.data import check_batch
from wmkit.registry import entry_of
from wmkit.training.batches import (
    build_sampler,
    check_windows,
    training_source,
    validation_batches,
    validation_source,
)
from wmkit.training.checkpoints import Checkpoint, CheckpointFolder
from wmkit.training.log import Picture, RunLog, RunningMean
from wmkit.training.optimiser import Budget, StepGuard, build_optimiser, build_schedule
from wmkit.training.run_folder import RunFolder, check_local_data
from wmkit.training.runtime import (
    TRAIN,
    VALID,
    StopSignal,
    build_accelerator,
    draw_frames,
    memory_advice,
    step_generator,
    torch_settings,
)
from wmkit.training.stateful import (
    BestLoss,
    CarriedState,
    GlobalRandom,
    Stateful,
    restore_states,
    save_states,
)
from wmkit.training.threads import FIRST_LOOK, LOOK, Threads
from wmkit.tree import State
from wmkit.world_model import LossOutput, WorldModel

Validate = Callable[[WorldModel], Mapping[str, float | Picture]]
"""Figures of a model in eval() at each validation, the same in every process; and pictures, (height, width, 3) uint8,
of which the attribute `pictures`, if there is one, tells the names beforehand."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """How a call of `train` ended."""

    step: int
    best_loss: float
    """Lowest validation loss so far, nats per observation."""
    skipped: int
    """Steps skipped because the gradient was not finite."""
    stopped_by: int | None = None
    """The signal that stopped the run before its last step."""
    seconds: float = 0.0
    """Seconds of training, validations and checkpoints not counted."""


def train(config: RunConfig, folder: RunFolder, validate: Validate | None = None) -> Summary:
    """Train the run of `config` in `folder` (open), from its newest checkpoint if it has one.

    validate: what to measure at each validation beside the loss, such as `HeldOutValidation(config)` of
    `wmkit.evaluation`.

    Raises `ValueError` for what cannot be trained on and for what is no open folder, and `OSError` when the disk
    refuses; the last checkpoint stays whole in either case.
    """
    if not isinstance(folder, RunFolder):
        raise ValueError(f"folder: expected an open RunFolder, got {folder!r}; wmkit.train(config, folder) opens one")
    with torch_settings(config.train), StopSignal() as stop:
        with contextlib.closing(Trainer(config, folder, validate)) as trainer:
            return trainer.run(stop)


def build_model(config: RunConfig, image_shape: tuple[int, int, int], action_dim: int) -> WorldModel:
    """The world model of a run, at its initial weights: a function of the config."""
    assert config.model is not None, "filled in when the config was made"
    torch.manual_seed(config.seed)
    options = dataclasses.asdict(config.model)
    entry = entry_of(config.backbone)
    if entry is not None and entry.kind == "video_model":  # what a recipe sets for other systems
        options = {key: value for key, value in options.items() if key not in NOT_OF_VIDEO}
    return build_world_model(config.backbone, config.size, image_shape, action_dim, **options)


class Trainer:
    """One process of a run: model, optimiser, data order, and what is carried from step to step."""

    def __init__(self, config: RunConfig, folder: RunFolder, validate: Validate | None = None) -> None:
        self.config, self.folder, self.validate = config, folder, validate
        self.threads = Threads(config.train.threads)
        self.accelerator = build_accelerator(config.train)
        self.rank, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        source = training_source(config)
        self.model = build_model(config, source.image_shape, source.action_dim)
        self.forward: nn.Module = self.accelerator.prepare_model(self.model)
        self.optimiser = build_optimiser(self.model, config.train)
        self.budget = Budget(config.train, config.data.workers)
        self.schedule = build_schedule(self.optimiser, config.train, self.budget)
        self.guard = StepGuard(config.train.clip)
        self.mean = RunningMean(self.accelerator.device)
        self.checkpoints = CheckpointFolder(folder.checkpoints, config.train.keep_last)
        held_out = validation_source(config, like=source)
        dynamics, first_step = self.model.dynamics, self.model.first_step
        notes = check_windows(config.data, source, held_out, period=dynamics.period, first_step=first_step)
        self.validation = validation_batches(config, held_out, self.rank, self.processes)
        self.sampler = build_sampler(config, source).shard(self.rank, self.processes)
        self.step = self.saved_step = 0
        self.carried = CarriedState(self.accelerator, config.data.batch_size)
        self.best = BestLoss()
        self.parts: dict[str, Stateful] = {
            "optimiser": self.optimiser,
            "schedule": self.schedule,
            "sampler": self.sampler,
            "guard": self.guard,
            "mean": self.mean,
            "carried": self.carried,
            "best_loss": self.best,
            "seconds": self.budget,
            "random": GlobalRandom(),
            "threads": self.threads,
        }
        """What a checkpoint holds beside the weights."""
        check_local_data(folder.path, config.world)  # on every machine of the run
        notes += self._restore()
        self.log: RunLog | None = None
        if self.accelerator.is_main_process:
            if not folder.path.is_dir():
                raise ValueError(f"{folder.path} is not open: call its open(), or wmkit.train(config, path)")
            folder.describe(config, source.image_shape, source.action_dim)
            self.log = RunLog(folder, self.budget.steps, self.step, self.budget.share(self.step))
            names = [str(folder.pictures / f"{name}.png") for name in getattr(validate, "pictures", ())]
            drawn = [f"Each validation draws {', '.join(names)}"] if names else []
            for note in [*notes, *drawn]:
                self.log.display.say(note)

    @property
    def persistent(self) -> bool:
        """Whether rows go on from batch to batch: truncated backpropagation through time."""
        return self.config.data.sampler == "persistent"

    def run(self, stop: StopSignal) -> Summary:
        """Train until the budget is spent or a signal comes."""
        self._fit_threads(FIRST_LOOK)
        while not self.budget.spent(self.step) and not self._stopped(stop):
            started = self.budget.clock()
            self._train_step(next(self.sampler))
            self._spend(self.budget.clock() - started)
            self._fit_threads(LOOK)
            if self._due(self.config.train.log_every):
                self._log_training()
            improved = self._due(self.config.train.eval_every) and self._validate()
            if improved or self._due(self.config.train.checkpoint_every):
                self._save(improved)
        if self.step > self.saved_step:
            self._save()
        stopped_by = None if self.budget.spent(self.step) else stop.number
        return Summary(self.step, self.best.value, self.guard.skipped, stopped_by, self.budget.seconds)

    def close(self) -> None:
        """End the workers, close the logs, restore the terminal."""
        self.sampler.close()
        if self.log is not None:
            self.log.close()

    def _stopped(self, stop: StopSignal) -> bool:
        """Whether any process got a signal: all leave after the same step, or they would wait for one another."""
        if self.processes > 1:
            number = torch.tensor(stop.number or 0, device=self.accelerator.device)
            stop.number = int(self.accelerator.gather(number[None]).max()) or None
        return stop.number is not None

    def _fit_threads(self, after: float) -> None:
        """As many threads as there are free cores, unless the config says how many."""
        note = self.threads.fit(after)
        if note is not None and self.log is not None:
            self.log.display.say(note)

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.budget.spent(self.step)

    def _spend(self, seconds: float) -> None:
        """Count the seconds of a step: their mean over the processes, so that all of them end after the same one."""
        self.budget.seconds += self._over_processes({"seconds": seconds})["seconds"]

    def _train_step(self, batch: Batch) -> None:
        """One optimiser step; the loss continues from the carried state where rows persist."""
        check_batch(batch)
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        with memory_advice(f"step {self.step + 1}", batch):
            generator = step_generator(self.config.seed, self.step, TRAIN)
            output = self._loss(batch, self.carried.value, generator, self.config.train.decode_share)
            self.optimiser.zero_grad(set_to_none=True)
            self.accelerator.backward(output.total)
        norm = self.guard.step(self.model, self.optimiser, f"batch {self.step}")
        if norm is not None:
            self.model.after_update()
        else:  # the pass that led nowhere has written the statistics of BatchNorm, which may not be finite either
            for buffer, before in buffers:
                buffer.copy_(before)
        self.schedule.step()
        self.step += 1
        if norm is not None:
            self.mean.add({"loss": output.total.detach(), **output.metrics, "grad_norm": norm})
        # After a skipped step rows start afresh, for their state may not be finite either.
        self.carried.value = tree.detach(output.state) if self.persistent and norm is not None else None
        if self.log is not None:
            if norm is None:
                said = f"step {self.step}: loss {output.total.item():.4g}, no finite gradient; skipped"
                self.log.display.say(said)
            frames = batch.shape[0] * batch.shape[1] * self.processes
            self.log.step(self.step, frames, self.sampler.wait_seconds, self.budget.share(self.step))

    def _loss(self, batch: Batch, state: State | None, generator: torch.Generator, share: float = 1.0) -> LossOutput:
        """The loss of this process's rows; noise is drawn for the global batch, so a row's does not depend on N."""
        rows, length = batch.shape
        noise = self.model.draw_noise(rows * self.processes, length, generator)  # (B of all processes, T, ...)
        mine = noise[self.rank * rows : (self.rank + 1) * rows]  # (B, T, ...)
        frames = draw_frames(length, share, generator)
        frames = None if frames is None else frames.to(self.accelerator.device)
        batch = batch.to(self.accelerator.device)
        return self.forward(batch, state, mine, frames=frames, return_state=self.persistent)

    def _log_training(self) -> None:
        values = self._over_processes(self.mean.take())
        if self.log is not None:
            values |= {"lr": self.optimiser.param_groups[0]["lr"], "skipped": self.guard.skipped}
            self.log.training(self.step, values)

    @torch.no_grad()
    def _validate(self) -> bool:
        """Held-out losses, with the same noise each time, and what `validate` measures; says whether it is the best."""
        self.model.eval()
        mean = RunningMean(self.accelerator.device)
        state: State | None = None
        for number, batch in enumerate(self.validation):
            output = self._loss(batch, state, step_generator(self.config.seed, number, VALID))
            mean.add({"loss": output.total, **output.metrics})
            state = output.state if self.persistent else None
        losses = self._over_processes(mean.take())
        measured = {} if self.validate is None else self.validate(self.model)
        self.model.train()
        if self.log is not None:
            pictures = {name: value for name, value in measured.items() if isinstance(value, np.ndarray)}
            figures = {name: value for name, value in measured.items() if not isinstance(value, np.ndarray)}
            self.log.validation(self.step, losses, figures, self.budget.seconds, pictures)
        return self.best.improves(losses["loss"])

    def _over_processes(self, values: dict[str, float]) -> dict[str, float]:
        """Means over the processes, which see equally many rows each."""
        if self.processes == 1:
            return values
        stacked = torch.tensor(list(values.values()), dtype=torch.float64, device=self.accelerator.device)
        return dict(zip(values, self.accelerator.reduce(stacked, "mean").tolist(), strict=True))

    def _save(self, is_best: bool = False) -> None:
        """Commit a checkpoint; the metrics up to it reach the disk first."""
        self.saved_step = self.step
        states = save_states(self.parts)  # in every process: the carried rows of all of them are gathered
        if self.log is not None:
            self.log.sync()
            checkpoint = Checkpoint(self.step, self.config.to_dict(), self.model.state_dict(), states)
            self.checkpoints.save(checkpoint, is_best)

    def _restore(self) -> list[str]:
        """Go to the newest whole checkpoint, if there is one; returns notes for the user."""
        notes: list[str] = []
        checkpoint = self.checkpoints.load_newest(notes.append)
        if checkpoint is None:
            return notes
        check_same_run(checkpoint, self.config)
        restore_states(self.parts, checkpoint.training, checkpoint.step)
        self.model.load_state_dict(checkpoint.weights)
        self.step = self.saved_step = checkpoint.step
        return [*notes, *self.threads.notes(), f"Continuing after step {self.step}"]


def check_same_run(checkpoint: Checkpoint, config: RunConfig) -> None:
    """Refuse to continue a checkpoint under another config; `ValueError` shows the fields that differ."""
    # A constant schedule is the same for any budget.
    free = {"train.steps", "train.minutes"} if config.train.schedule == "constant" else set()
    try:
        began = RunConfig.from_dict(checkpoint.config).to_dict()  # older versions wrote some keys differently
    except ValueError as error:
        raise ValueError(
            f"The checkpoint of step {checkpoint.step} has a config that this version does not read; finish the run "
            f"with the version that began it, or train anew under another run_dir. {error}"
        ) from error
    changed = differences(began, config.to_dict())
    lines = [
        f"  {key}: {old} in the checkpoint, {new} now"
        for key, (old, new) in changed.items()
        if key not in free and not rule_of(key).resume
    ]
    if any(line.startswith(("  data.source:", "  data.valid_source:")) for line in lines):
        lines.append("If an archive was moved, bring it back, or link to it from where it was (ln -s).")
    if lines:
        raise ValueError("\n".join(["The checkpoint is of another config; nothing was changed.", *lines]))
