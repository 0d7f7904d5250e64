"""The recurrent part of a CW-VAE training step against its papers' loop: `python -m benchmarks.clockwork [--quick]`.

The preset cwvae-mmnist: 50 clips of 100 frames of 64x64, three levels, k = 6. The recurrent part is all of observing
but the convolutions and the MLPs that embed frames for a level, with the KL terms: forward and backward. Outputs and
gradients are first compared in double precision; a benchmark of wrong results is worthless. Then both take turns.

Wall-clock and CPU time are shown: on a machine that is busy with other things only the second is comparable. Launches
are the operations that compute something, whatever the machine; of small ones on a GPU they are what costs.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.references.clockwork_loop import ClockworkLoop, level_frames, level_noise
from wmkit import Batch, WorldModel, build_world_model
from wmkit.dynamics import ClockworkDynamics, Inputs
from wmkit.machine import processor_name
from wmkit.networks import to_unit
from wmkit.training.runtime import keep_freed_memory

LIMIT = 1e-9
"""Largest relative error in double precision of what counts as the same."""

KINDS = ("wall", "cpu")

Run = Callable[[], object]
Pass = Callable[[], Tensor]
"""A forward pass to a scalar."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 clips of 8 frames, once: a test of this file")
    rows, length, rounds = (2, 8, 1) if parser.parse_args(argv).quick else (50, 100, 7)
    keep_freed_memory()  # as training does
    torch.manual_seed(0)
    model = build_world_model(preset="cwvae-mmnist", image_shape=(1, 64, 64), action_dim=0)
    check(Recurrent(model, 3, 40, torch.float64))
    machine = f"{processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{machine}, float32, {rows} x {length} frames")
    recurrent = Recurrent(model, rows, length)
    both = against_the_loop(recurrent, rounds)
    whole_step(model, rows, length, both, rounds=min(rounds, 3))


class Given(nn.Module):
    """Stands for a level's MLP: what it would have made of the frames."""

    def __init__(self, frames: Tensor) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, below: Tensor) -> Tensor:
        """The embeddings (B, T, E), whatever those of the level below are."""
        return self.frames


class Recurrent:
    """The recurrent part as it is and as a loop, with the same weights, on random embeddings for each level."""

    def __init__(self, model: WorldModel, rows: int, length: int, dtype: torch.dtype = torch.float32) -> None:
        dynamics = copy.deepcopy(model.dynamics).to(dtype)
        assert isinstance(dynamics, ClockworkDynamics), "the preset is a clockwork"
        lead = (rows, length, dynamics.embed_dim)
        self.frames = [torch.randn(lead, dtype=dtype, requires_grad=True) for _ in dynamics.levels]
        dynamics.embedders = nn.ModuleList(Given(frames) for frames in self.frames[1:])
        self.dynamics, self.loop = dynamics, ClockworkLoop(dynamics)
        self.noise = dynamics.draw_noise((rows, length)).to(dtype)
        self.inputs = Inputs(
            embed=self.frames[0],
            action=self.noise.new_zeros(rows, length, 0),
            is_first=torch.arange(length).expand(rows, length) == 0,
            noise=self.noise,
            inner_reset=False,
        )

    def ours(self) -> Tensor:
        """A functional of all KL terms and of what the decoder reads."""
        seen, _ = self.dynamics.observe(self.inputs, return_state=False)
        kl = torch.stack([term.sum() for term in self.dynamics.kl(seen, None, 0.0).values()]).sum()
        return kl + seen.features.square().sum()

    def plain(self) -> Tensor:
        """The same by the loop."""
        levels = self.loop(self.frames, self.inputs.action, level_noise(self.dynamics, self.noise))
        kl = torch.stack([level["kl"].sum() for level in levels]).sum()
        return kl + torch.cat([levels[0]["h"], levels[0]["z"]], -1).square().sum()


def check(recurrent: Recurrent) -> None:
    """Stop unless outputs and all gradients agree."""
    pairs = list(recurrent.loop.pairs(recurrent.dynamics))
    ours, plain = recurrent.ours(), recurrent.plain()
    mine = torch.autograd.grad(ours, [*recurrent.frames, *(source for source, _ in pairs)])
    parts = iter(torch.autograd.grad(plain, [*recurrent.frames, *(part for _, targets in pairs for part in targets)]))
    theirs = [next(parts) for _ in recurrent.frames]
    theirs += [torch.cat([next(parts) for _ in targets]) for _, targets in pairs]
    for x, y in zip([ours, *mine], [plain, *theirs], strict=True):
        error = float(((x - y).norm() / (y.norm() + 1e-30)).detach())
        if not error <= LIMIT:
            raise SystemExit(f"the recurrent part is off by {error:.1e}: no times of wrong results")


@dataclasses.dataclass(frozen=True)
class Times:
    """Milliseconds of one run."""

    wall: float
    cpu: float


def against_the_loop(recurrent: Recurrent, rounds: int) -> list[Times]:
    """Print both in turns, forward and with the backward pass; the times of ours with it."""
    passes: dict[str, Pass] = {"loop": recurrent.plain, "ours": recurrent.ours}
    forward = in_turns(passes, rounds)
    both = in_turns({name: backward_of(run) for name, run in passes.items()}, rounds)
    print(f"\n{'recurrent part, ms (median)':<32}{'forward':>9}{'CPU':>9}{'+ backward':>12}{'CPU':>9}{'launches':>10}")
    for name, run in passes.items():
        times = "".join(
            f"{median(found[name], 'wall'):>{width}.1f}{median(found[name], 'cpu'):>9.1f}"
            for found, width in ((forward, 9), (both, 12))
        )
        print(f"{name:<32}{times}{launches(backward_of(run)):>10,}", flush=True)
    ratios = [
        statistics.median(getattr(a, kind) / getattr(b, kind) for a, b in zip(both["loop"], both["ours"], strict=True))
        for kind in KINDS
    ]
    print(f"loop / ours, both passes: {ratios[0]:.2f} wall, {ratios[1]:.2f} CPU")
    return both["ours"]


def whole_step(model: WorldModel, rows: int, length: int, recurrent: list[Times], rounds: int) -> None:
    """Print a training step, its parts each on their own, and what share they have of it."""
    batch, optimiser = clips(rows, length), torch.optim.AdamW(model.parameters(), lr=3e-4)
    noise, target = model.draw_noise(rows, length), to_unit(batch.image)
    embed = torch.randn(rows, length, model.encoder.embed_dim, requires_grad=True)
    features = torch.randn(rows, length, model.feature_dim, requires_grad=True)
    dynamics = model.dynamics
    assert isinstance(dynamics, ClockworkDynamics), "the preset is a clockwork"
    parts: dict[str, Pass] = {
        "encoder": lambda: model.encoder(batch.image).sum(),
        "level MLPs": lambda: torch.stack([x.sum() for x in level_frames(dynamics, embed)]).sum(),
        "decoder and image loss": lambda: (model.decoder(features) - target).square().sum(),
    }

    def step() -> None:
        optimiser.zero_grad()
        model(batch, None, noise, return_state=False).total.backward()
        optimiser.step()

    runs: dict[str, Run] = {name: backward_of(run) for name, run in parts.items()}
    times = in_turns({"whole step": step, **runs, "optimiser": optimiser.step}, rounds)
    whole = times.pop("whole step")
    rows_of = {"whole step": whole, "recurrent part": recurrent, **times}
    print(f"\n{'training step, ms (median)':<32}{'wall':>9}{'CPU':>9}{'share':>9}")
    for name, found in rows_of.items():
        print_share(name, median(found, "wall"), median(found, "cpu"), median(whole, "cpu"))
    wall, cpu_time = (2 * median(whole, kind) - sum(median(x, kind) for x in rows_of.values()) for kind in KINDS)
    print_share("rest: loss terms, metrics", wall, cpu_time, median(whole, "cpu"))


def print_share(name: str, wall: float, cpu_time: float, whole: float) -> None:
    print(f"{name:<32}{wall:>9.0f}{cpu_time:>9.0f}{cpu_time / whole:>9.1%}", flush=True)


def clips(rows: int, length: int) -> Batch:
    """Random clips of one channel, each an episode."""
    zeros = torch.zeros(rows, length)
    return Batch(
        image=torch.randint(0, 256, (rows, length, 1, 64, 64), dtype=torch.uint8),
        action=torch.zeros(rows, length, 0),
        reward=zeros,
        is_first=torch.arange(length).expand(rows, length) == 0,
        is_terminal=zeros.bool(),
        mask=~zeros.bool(),
        inner_reset=False,
    )


def backward_of(run: Pass) -> Run:
    """The pass and back."""
    return lambda: run().backward()


def in_turns(runs: Mapping[str, Run], rounds: int) -> dict[str, list[Times]]:
    """Times of all, one after the other in every round, after one that does not count."""
    for run in runs.values():
        run()
    found: dict[str, list[Times]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(once(run))
    return found


def once(run: Run) -> Times:
    wall, cpu_time = time.perf_counter(), time.process_time()
    run()
    return Times(1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu_time))


def median(times: list[Times], kind: str) -> float:
    return statistics.median(getattr(taken, kind) for taken in times)


class Launches(TorchDispatchMode):
    """Counts the operations that compute or move something: all but views and bookkeeping."""

    IDLE = ("detach", "empty", "empty_like", "empty_strided", "new_empty", "_unsafe_view", "lift_fresh", "alias")

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation."""
        name = func._schema.name.removeprefix("aten::")
        self.number += not func.is_view and name not in self.IDLE
        return func(*args, **(kwargs or {}))


def launches(run: Run) -> int:
    """Operations of one run."""
    with Launches() as counter:
        run()
    return counter.number


if __name__ == "__main__":
    main()
