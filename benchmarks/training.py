"""Where a training step's time goes: `python -m benchmarks.training [--size 3d] [--systems gru s4] [--quick]`.

A step of the optimiser on a batch of noise is taken apart: each part of the model is run alone, forward and backward,
and so is the optimiser; `other` is what the whole takes beyond them, the losses among it. In brackets stands the share
of the machine's limit: the time of products and convolutions, as PyTorch counts them, at the rate of a large matrix
product; for the optimiser that of reading parameters, gradients and two moments and of writing all but the gradients,
at the bandwidth of a copy. Transforms and scans of state space models are not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.kernels.clock import Machine, Run, interleaved
from wmkit import Batch, build_world_model
from wmkit.config import TrainConfig
from wmkit.evaluation.tables import Table
from wmkit.training.optimiser import build_optimiser
from wmkit.training.runtime import keep_freed_memory

SYSTEMS = ("gru", "s4", "transformer_xl", "s5")
ACTIONS = 6


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), help="backbones (%(default)s)")
    parser.add_argument("--size", default="small", help="a size's name (%(default)s)")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=100, help="steps of an episode (%(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="tiny: a test of this command")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    if args.quick:
        args.size, args.rows, args.length = "tiny", 2, 8
    machine = Machine.measured(256 if args.quick else 2048)
    columns = ("system", "step, ms", "encoder", "dynamics", "decoder", "optimiser", "other")
    rows = [row(system, args.size, args.rows, args.length, machine) for system in args.systems]
    note = f"{machine}. In brackets the share of the machine's limit."
    Console(width=140).print(Table(f"{args.size}: {args.rows} x {args.length} steps", columns, rows, note).rich())


def row(system: str, size: str, rows: int, length: int, machine: Machine) -> list[str]:
    """Times in ms and shares of a system's step."""
    torch.manual_seed(0)
    side = 16 if size == "tiny" else 64
    model = build_world_model(system, size, (3, side, side), ACTIONS)
    optimiser = build_optimiser(model, TrainConfig())
    image = torch.randint(0, 256, (rows, length, 3, side, side), dtype=torch.uint8)
    batch = Batch.of(image, torch.eye(ACTIONS)[torch.randint(ACTIONS, (rows, length))])
    noise = model.draw_noise(rows, length)
    inputs = dataclasses.replace(
        found := model.encode(batch, noise), embed=found.embed.detach().requires_grad_(), inner_reset=False
    )
    features = torch.randn(rows, length, model.feature_dim, requires_grad=True)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(model.loss(batch, noise=noise, return_state=False).total)
        optimiser.step()

    def dynamics() -> tuple[Tensor, ...]:
        seen, _ = model.dynamics.observe(inputs, return_state=False)
        return seen.h, seen.z, seen.posterior, seen.prior

    parts = {
        "encoder": both(lambda: (model.encode(batch).embed,)),
        "dynamics": both(dynamics),
        "decoder": both(lambda: (model.decode(features, chunk=rows * length),)),
    }
    runs: dict[str, Run] = {"step": step, **parts, "optimiser": optimiser.step}
    ms = interleaved(runs, rounds=9, seconds=60)
    limit = {name: 1e3 * operations(runs[name]) / machine.rate for name in ("step", *parts)}
    limit["optimiser"] = 1e3 * sum(7 * parameter.nbytes for parameter in model.parameters()) / machine.bandwidth
    told = [f"{ms[p]:,.1f} = {ms[p] / ms['step']:.0%} ({limit[p] / ms[p]:.0%})" for p in (*parts, "optimiser")]
    other = ms["step"] - sum(ms[name] for name in (*parts, "optimiser"))
    whole = f"{ms['step']:,.1f} ({limit['step'] / ms['step']:.0%})"
    return [system, whole, *told, f"{other:,.1f} = {other / ms['step']:.0%}"]


def both(forward: Callable[[], tuple[Tensor, ...]]) -> Run:
    """The pass back from all outputs after the pass forward."""

    def run() -> None:
        outputs = forward()
        torch.autograd.backward(outputs, [torch.ones_like(x) for x in outputs])

    return run


def operations(run: Run) -> float:
    """Products and convolutions, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counted:
        run()
    return float(counted.get_total_flops())


if __name__ == "__main__":
    main()
