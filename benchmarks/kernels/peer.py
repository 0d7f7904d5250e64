"""Against state-spaces/s4, the reference implementation, whose naive path is what runs on a CPU.

It is imported from a checkout that the environment names:

    git clone https://github.com/state-spaces/s4 && export WMKIT_PEER_S4=$PWD/s4

Commit e757cef was timed. Ours takes over all of its parameters; what both give is compared before anything is timed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.kernels.clock import Run, interleaved, peak_mib
from wmkit.backbones import S4Config, S4DConfig
from wmkit.backbones.s4 import StateSpace
from wmkit.backbones.s4d import DiagonalStateSpace
from wmkit.backbones.ssm.blocks import Layer
from wmkit_kernels import dplr_kernel, prepare_readout_step, prepare_step

VARIABLE = "WMKIT_PEER_S4"

LIMIT = 2e-3
"""Largest relative L2 difference from the peer, whose own error in single precision is up to 1e-4 here."""

ROUNDS = 9


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a contest."""

    batch: int = 8
    channels: int = 512
    state: int = 64
    length: int = 1000
    step_batch: int = 64


QUICK = Shape(batch=2, channels=32, state=16, length=100, step_batch=4)


@dataclasses.dataclass(frozen=True)
class Contest:
    """The same work by both."""

    name: str
    ours: Run
    theirs: Run
    difference: Callable[[], float]
    """Relative L2 difference of what they give."""
    bar: float | None = None
    """How many times faster ours is to be."""
    most_mib: float | None = None
    """Memory that ours may take; None where it is not measured."""
    most_ms: float | None = None
    """Time that ours may take."""


def missing() -> str | None:
    """What keeps the peer from being imported, or None."""
    folder = os.environ.get(VARIABLE)
    if folder and (Path(folder) / "models/s4/s4.py").is_file():
        return None
    return f"no peer: git clone https://github.com/state-spaces/s4, then set {VARIABLE} to its folder"


def peer_module() -> Any:
    """The standalone file of the checkout."""
    stand_in("pytorch_lightning.utilities", rank_zero_only=lambda function: function)
    stand_in("scipy.special")
    logging.disable(logging.WARNING)  # it warns that its compiled extensions are missing
    path = Path(os.environ[VARIABLE]) / "models/s4/s4.py"
    spec = importlib.util.spec_from_file_location("state_spaces_s4", path)
    assert spec is not None, f"{path} is no Python file"
    assert spec.loader is not None, f"{path} cannot be imported"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stand_in(name: str, **content: Any) -> None:
    """Put an empty module, with `content`, where the peer imports one that is not installed and not needed for this."""
    package, _, inner = name.partition(".")
    if importlib.util.find_spec(package) is None:
        module = types.ModuleType(name)
        vars(module).update(content)
        sys.modules[package], sys.modules[name] = types.ModuleType(package), module
        setattr(sys.modules[package], inner, module)


def rows(shape: Shape, end: float) -> Iterator[dict[str, Any]]:
    """Measurements of every contest; those not begun by `end` (`time.monotonic`) are left out, and said so."""
    peer = peer_module()
    for mode in ("dplr", "diag"):
        for contest in contests(peer, mode, shape):
            if time.monotonic() > end:
                yield {"name": contest.name, "verdict": "left out: no time"}
                continue
            yield measured(contest, judged=shape == Shape())


def measured(contest: Contest, judged: bool) -> dict[str, Any]:
    """One row; times only where both give the same, and bars only at the size that they are for."""
    difference = contest.difference()
    row = {"name": contest.name, "difference": difference, "bar": contest.bar, "most_mib": contest.most_mib}
    if not difference <= LIMIT:
        return row | {"verdict": f"NOT THE SAME (off by {difference:.1e}), not timed"}
    ms = interleaved({"ours": contest.ours, "theirs": contest.theirs}, ROUNDS)
    row |= {"ms": ms["ours"], "their_ms": ms["theirs"], "ratio": ms["theirs"] / ms["ours"], "most_ms": contest.most_ms}
    if contest.most_mib is not None:
        row |= {"mib": peak_mib(contest.ours), "their_mib": peak_mib(contest.theirs)}
    missed = (
        (contest.bar is not None and row["ratio"] < contest.bar)
        or (contest.most_mib is not None and row["mib"] > contest.most_mib)
        or (contest.most_ms is not None and row["ms"] > contest.most_ms)
    )
    return row | {"verdict": ("MISSED" if missed else "met") if judged else "not judged"}


def contests(peer: Any, mode: str, shape: Shape) -> Iterator[Contest]:
    """Kernel, layer, step and its preparation, of a DPLR or a diagonal system with the peer's initial parameters."""
    torch.manual_seed(0)
    block = peer.S4Block(shape.channels, mode=mode, d_state=shape.state, l_max=None, transposed=False, verbose=False)
    layer = layer_like(block, mode, shape)
    yield from kernel_contests(mode, layer.ssm, block.layer.kernel, shape.length)
    yield layer_contest(mode, layer, block, shape)
    yield from step_contests(mode, layer.eval(), block.eval(), shape)


def layer_like(block: Any, mode: str, shape: Shape) -> Layer:
    """Our layer with all parameters of the peer's block, which must not have run: it rewrites its C when it does."""
    sizes = {"input_dim": shape.channels, "state_size": shape.state}
    config = S4Config(**sizes) if mode == "dplr" else S4DConfig(**sizes)
    make = StateSpace if mode == "dplr" else DiagonalStateSpace
    layer = Layer(shape.channels, config, make(shape.channels, config))
    (linear,) = (module for module in block.output_linear.modules() if isinstance(module, nn.Linear))
    dt, A, B, C, *low_rank = block.layer.kernel._get_params()
    ours = {"log_dt": dt[:, 0].log(), "D": block.layer.D[0], "C": torch.view_as_real(C[0])}
    if low_rank:  # the peer holds the same A, B and P once per channel
        A, pairs = A[0], {"B": B[0, 0], "P": low_rank[0][0, 0]}
        ours |= {name: torch.view_as_real(x.resolve_conj()) for name, x in pairs.items()}
    else:
        ours["C"] = torch.view_as_real(B[0] * C[0])
    ours |= {"log_decay": torch.log(-A.real), "frequency": A.imag}
    with torch.no_grad():
        for name, parameter in layer.ssm.named_parameters():
            parameter.copy_(ours.pop(name))
        layer.mix[2].weight.copy_(linear.weight)
        layer.mix[2].bias.copy_(linear.bias)
    assert not ours, f"parameters of the peer that ours lacks: {', '.join(ours)}"
    return layer


def kernel_contests(mode: str, ssm: Any, kernel: Any, length: int) -> Iterator[Contest]:
    """The convolution kernel, without D: forward, and with its backward pass."""

    def ours() -> Tensor:
        return dplr_kernel(*ssm.system(), length) if mode == "dplr" else ssm.kernel(length)

    def theirs() -> Tensor:
        return kernel(L=length)[0][0]

    name, difference = {"dplr": "DPLR", "diag": "Vandermonde"}[mode] + " kernel", of_outputs(ours, theirs)
    forward, both, mib = (3, 3, 400) if mode == "dplr" else (40, 20, 60)
    yield Contest(f"{name}, forward", without_gradients(ours), without_gradients(theirs), difference, forward)
    yield Contest(
        f"{name}, forward + backward", with_backward(ours, ssm), with_backward(theirs, kernel), difference, both, mib
    )


def layer_contest(mode: str, layer: Layer, block: Any, shape: Shape) -> Contest:
    """State space, D, GELU, linear, GLU, over a batch of sequences; ours without the norm and the residual."""
    x = torch.randn(shape.batch, shape.length, shape.channels, requires_grad=True)

    def ours() -> Tensor:
        return layer.mix(layer.ssm.scan(x, None, None, False)[0])

    def theirs() -> Tensor:
        return block(x)[0]

    name, bar = ("S4 layer", 2.5) if mode == "dplr" else ("S4D layer", 3.5)
    both = with_backward(ours, layer, x), with_backward(theirs, block, x)
    return Contest(f"{name}, batch {shape.batch}, forward + backward", *both, of_outputs(ours, theirs), bar, 600)


def step_contests(mode: str, layer: Layer, block: Any, shape: Shape) -> Iterator[Contest]:
    """One step of the same layer, in each of the peer's ways that is right, and what has to be prepared for it."""
    bars = {"dense": 5.0, "linear": 10.0} if mode == "dplr" else {None: 1.2}
    with torch.no_grad():
        block(torch.randn(1, shape.length, shape.channels))
    for way, bar in bars.items():
        chosen = {} if way is None else {"mode": way}
        prepare = without_gradients(lambda chosen=chosen: block.setup_step(**chosen))
        prepare()
        yield one_step(f"{'S4' if mode == 'dplr' else 'S4D'} step against their {way or 'diagonal'} one", layer, block,
                       shape, bar)  # fmt: skip
    ours = without_gradients(lambda: prepared(mode, layer.ssm))
    yield Contest(f"{'S4' if mode == 'dplr' else 'S4D'}, preparing steps", ours, prepare, lambda: 0.0, most_ms=5)


def one_step(name: str, layer: Layer, block: Any, shape: Shape, bar: float) -> Contest:
    """From states that both have reached by the same eight inputs."""
    layer.ssm.tables = {}  # as in `Stack.prepared`, for good
    ours, theirs = layer.ssm.initial_state(shape.step_batch), block.default_state(shape.step_batch)
    with torch.no_grad():
        for u in torch.randn(8, shape.step_batch, shape.channels):
            ours, theirs = layer.ssm.step(u, ours)[1], block.step(u, theirs)[1]

    def step() -> Tensor:
        return layer.mix(layer.ssm.step(u, ours)[0])

    def their_step() -> Tensor:
        return block.step(u, theirs)[0]

    runs = without_gradients(step), without_gradients(their_step)
    return Contest(f"{name}, batch {shape.step_batch}", *runs, of_outputs(*runs), bar)


def prepared(mode: str, ssm: Any) -> Any:
    """What our steps need to know of the system."""
    if mode == "dplr":
        return prepare_step(*ssm.system(), ssm.D)
    log_a, b, C = ssm.system()
    return prepare_readout_step(torch.exp(log_a), b, C, ssm.D)


def of_outputs(ours: Run, theirs: Run) -> Callable[[], float]:
    """Relative L2 difference of what the two return."""

    def difference() -> float:
        with torch.no_grad():
            expected = theirs()
            return float((ours() - expected).norm() / expected.norm())

    return difference


def without_gradients(run: Run) -> Run:
    """The same under `no_grad`."""
    return torch.no_grad()(run)


def with_backward(run: Run, *leaves: Any) -> Run:
    """The run and the gradient of its sum in all parameters of the modules and in the tensors among `leaves`."""

    def both() -> None:
        for leaf in leaves:
            leaf.zero_grad() if isinstance(leaf, nn.Module) else setattr(leaf, "grad", None)
        run().sum().backward()

    return both
