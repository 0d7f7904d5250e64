"""Every Triton kernel on this GPU, checked and then timed, and whole models: `python -m benchmarks.gpu`, nine minutes.

Each op is first compared, output and every gradient, with its reference (small) and with its PyTorch path in double
precision (full size). Then it is timed against that PyTorch path in single precision, against plain code where there
is some, and against the machine: the bytes it must move and the operations it makes, counted by hand, over the
bandwidth of a copy and the rate of a float32 matrix product measured here. A wrong op gets no speed-up and the status
is 1. `--interpret` runs all of it at tiny sizes on a CPU, by Triton's interpreter, to test this file.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wmkit import Batch, build_world_model, tree
from wmkit.backbones import S4, S4Config
from wmkit.backbones.ssm.hippo import legs_dplr
from wmkit_kernels import diagonal_scan, dplr_kernel, dplr_scan, reference, vandermonde

SECONDS = 480
"""What is not begun by then is left out, and said so."""

OUTPUT_LIMIT, GRADIENT_LIMIT = 6e-5, 2e-4
"""Largest relative L2 errors of a kernel that counts as right."""

Tensors = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Size:
    """Axes of the tensors of a case."""

    batch: int
    channels: int
    pairs: int
    length: int


@dataclasses.dataclass(frozen=True)
class Case:
    """One op: its inputs, its implementations and what it costs."""

    name: str
    make: Callable[[Size], Tensors]
    run: Callable[..., Any]
    """run(tensors, length, backend)."""
    reference: Callable[..., Any]
    """reference(tensors, length)."""
    cost: Callable[[Size], tuple[float, float, float, float]]
    """Bytes and operations of the forward pass, then of both passes."""
    naive: Callable[..., Any] | None = None
    """naive(tensors, length): what one would write first."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interpret", action="store_true", help="tiny, on a CPU: a test of this file")
    interpret = parser.parse_args().interpret
    if interpret:
        os.environ["TRITON_INTERPRET"] = "1"  # the first op imports Triton
    elif not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; --interpret tests this file on a CPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    device = torch.device("cpu" if interpret else "cuda")
    end = time.monotonic() + SECONDS
    machine = Machine(device)
    print(machine, flush=True)
    rows, wrong = [], 0
    for case, size in ((case, size) for case in CASES for size in ((TINY,) if interpret else FULL)):
        if time.monotonic() > end:
            rows.append(Row(case.name, size, "left out: no time"))
            continue
        verdict = verdict_of(lambda case=case, size=size: check(case, size, device))
        wrong += verdict != "right"
        rows.append(measure(case, size, machine, verdict))
        print(rows[-1], flush=True)
    blocks = [] if time.monotonic() > end else end_to_end(machine)
    models = []
    for preset in MODELS:
        if time.monotonic() > end:
            models.append(f"{preset}: left out, no time")
            continue
        try:
            models.append(whole_model(preset, machine))
        except torch.OutOfMemoryError as error:
            models.append(f"{preset}: {str(error).splitlines()[0]}")
        print(models[-1], flush=True)
    print("\n" + "\n".join([Row.HEADER, *map(str, rows), *blocks, *models]))
    raise SystemExit(1 if wrong else 0)


def verdict_of(check: Callable[[], None]) -> str:
    """`right`, or what went wrong; a kernel that does not compile must not keep the others from being tried."""
    try:
        check()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:90]
    return "right"


def check(case: Case, size: Size, device: torch.device) -> None:
    """Raise `AssertionError` naming what is off, by how much."""
    small = Size(2, 3, min(size.pairs, 16), 33)
    compare(case, case.make(small), small.length, device, against_reference=True)
    compare(case, case.make(size), size.length, device, against_reference=False)


def compare(
    case: Case, tensors: Tensors, length: int, device: torch.device, backend: str = "triton", *, against_reference: bool
) -> None:
    """Raise `AssertionError` for an output or gradient that is off the reference, or PyTorch's path in double."""
    found = outputs_and_gradients(lambda xs: case.run(xs, length, backend), on(tensors, device))
    double = {name: to_double(x) for name, x in tensors.items()}
    if against_reference:
        expected = outputs_and_gradients(lambda xs: case.reference(xs, length), double)
    else:
        expected = outputs_and_gradients(lambda xs: case.run(xs, length, "torch"), on(double, device))
    for name, exact in expected.items():
        error = float((found[name].cpu().to(exact.dtype) - exact.cpu()).norm() / (exact.norm().cpu() + 1e-30))
        limit = OUTPUT_LIMIT if name.startswith("output") else GRADIENT_LIMIT
        assert error <= limit, f"{name} is off by {error:.1e}, length {length}"


def outputs_and_gradients(run: Callable[[Tensors], Any], tensors: Tensors) -> Tensors:
    """Outputs, and the gradient of a fixed projection of them in every input that has one."""
    leaves = {name: x.detach().requires_grad_(x.dtype != torch.bool) for name, x in tensors.items()}
    outputs = flat(run(leaves))
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in outputs]
    loss = sum(
        (x.to(torch.promote_types(x.dtype, w.dtype)) * w.to(x.device)).real.sum()
        for x, w in zip(outputs, weights, strict=True)
    )
    wanted = [name for name, x in leaves.items() if x.requires_grad]
    grads = torch.autograd.grad(loss, [leaves[name] for name in wanted])
    named = {f"output {i}": x.detach() for i, x in enumerate(outputs)}
    return named | dict(zip(wanted, grads, strict=True))


def flat(out: Any) -> list[Tensor]:
    """What an op returns, as a list."""
    return list(out) if isinstance(out, tuple) else [out]


def on(tensors: Tensors, device: torch.device) -> Tensors:
    return {name: x.to(device) for name, x in tensors.items()}


def to_double(x: Tensor) -> Tensor:
    return x if x.dtype == torch.bool else x.to(torch.complex128 if x.is_complex() else torch.float64)


class Machine:
    """A device and its limits, measured: bytes per second of a copy, float32 operations per second of a product."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.name = "CPU, Triton's interpreter" if device.type == "cpu" else torch.cuda.get_device_name()
        edge = 256 if device.type == "cpu" else 8192
        source, target = (torch.empty(edge * edge, device=device) for _ in range(2))
        square = torch.randn(edge, edge, device=device)
        self.bandwidth = 8 * source.numel() / (self.ms(lambda: target.copy_(source)) * 1e-3)
        self.rate = 2 * edge**3 / (self.ms(lambda: square @ square) * 1e-3)

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.bandwidth / 1e9:.0f} GB/s, {self.rate / 1e12:.2f} Tflop/s, torch {torch.__version__}"
        )

    def ms(self, run: Callable[[], Any], seconds: float = 1.0) -> float:
        """Median time of as many runs as fit, at least five (one of the interpreter), after two that do not count."""
        least = 1 if self.device.type == "cpu" else 5
        for _ in range(2 if least > 1 else 0):
            run()
        times, end = list[float](), time.monotonic() + seconds
        while len(times) < least or (time.monotonic() < end and len(times) < 100 and least > 1):
            times.append(self.once(run))
        return statistics.median(times)

    def once(self, run: Callable[[], Any]) -> float:
        """Milliseconds of one run."""
        if self.device.type == "cpu":
            start = time.perf_counter()
            run()
            return 1e3 * (time.perf_counter() - start)
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        run()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last))

    def peak_mb(self, run: Callable[[], Any]) -> float:
        """Memory that `run` takes beyond what is held already; nan on a CPU."""
        if self.device.type == "cpu":
            return float("nan")
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table."""

    HEADER = (
        f"{'op':<15}{'B':>4}{'H':>5}{'N':>4}{'T':>6}  {'fwd ms':>8}{'both ms':>9}{'MB':>7}{'of limit':>10}"
        f"{'x torch':>9}{'x naive':>9}  check"
    )
    name: str
    size: Size
    verdict: str
    forward: float = float("nan")
    both: float = float("nan")
    megabytes: float = float("nan")
    share: float = float("nan")
    over_torch: float = float("nan")
    over_naive: float = float("nan")

    def __str__(self) -> str:
        s = self.size
        size = f"{s.batch:>4}{s.channels:>5}{s.pairs:>4}{s.length:>6}"
        taken = f"{self.forward:>8.3f}{self.both:>9.3f}{self.megabytes:>7.0f}{self.share:>10.0%}"
        return f"{self.name:<15}{size}  {taken}{self.over_torch:>9.1f}{self.over_naive:>9.1f}  {self.verdict}"


def measure(case: Case, size: Size, machine: Machine, verdict: str) -> Row:
    """Times of both passes; ratios only for an op that is right, and not of the interpreter."""
    tensors = on(case.make(size), machine.device)

    def timed(run: Callable[[Tensors], Any]) -> tuple[float, float, float]:
        leaves = {name: x.clone().requires_grad_(x.dtype != torch.bool) for name, x in tensors.items()}

        def forward() -> None:
            with torch.no_grad():
                run(leaves)

        def both() -> None:
            loss = torch.stack([x.real.sum() for x in flat(run(leaves))]).sum()
            torch.autograd.grad(loss, [x for x in leaves.values() if x.requires_grad])

        return machine.ms(forward), machine.ms(both), machine.peak_mb(both)

    if verdict != "right":
        return Row(case.name, size, f"NOT RIGHT, not timed: {verdict}")
    forward, both, megabytes = timed(lambda xs: case.run(xs, size.length, "triton"))
    if machine.device.type == "cpu":
        return Row(case.name, size, "right", forward, both)
    _, _, moved, operations = case.cost(size)
    share = max(moved / machine.bandwidth, operations / machine.rate) / (both * 1e-3)
    torch_ms = _or_nan(lambda: timed(lambda xs: case.run(xs, size.length, "torch"))[1])
    naive = case.naive
    naive_ms = float("nan") if naive is None else _or_nan(lambda: timed(lambda xs: naive(xs, size.length))[1])
    return Row(case.name, size, "right", forward, both, megabytes, share, torch_ms / both, naive_ms / both)


def _or_nan(measure: Callable[[], float]) -> float:
    """A competitor may run out of memory."""
    try:
        return measure()
    except torch.OutOfMemoryError:
        return float("nan")


def end_to_end(machine: Machine) -> list[str]:
    """A block of S4WM in training, and a step of its imagination."""
    width, batch, length = (8, 2, 9) if machine.device.type == "cpu" else (512, 8, 1000)
    config = S4Config(input_dim=width, layers=1, state_size=min(64, 2 * width), feedforward=4 * width)
    block = S4(width, config).to(machine.device)
    x = torch.randn(batch, length, width, device=machine.device)

    def train() -> None:
        block.scan(x, return_state=False)[0].square().sum().backward()

    now, state = torch.randn(8 * batch, width, device=machine.device), block.initial_state(8 * batch)

    def step() -> None:
        block.step(now, state)

    trained = f"{machine.ms(train):.2f} ms, {machine.peak_mb(train):.0f} MB"
    with torch.no_grad(), block.prepared():
        stepped = machine.ms(step)
    return [
        f"S4 block, training step, {batch} x {length} x {width}: {trained}",
        f"S4 block, one step, {8 * batch} x {width}: {stepped:.3f} ms",
    ]


def whole_model(preset: str, machine: Machine) -> str:
    """A training step and a step of imagination of the model of a preset, S4WM's Figure 3; on a CPU a tiny one."""
    tiny = machine.device.type == "cpu"
    rows, length, many, horizon = (2, 4, 2, 3) if tiny else (8, 1000, 64, 100)
    torch.manual_seed(0)
    model = build_world_model(MODELS[preset], "tiny", (3, 16, 16)) if tiny else build_world_model(preset=preset)
    model = model.to(machine.device)
    action = torch.zeros(rows, length, model.action_dim)
    image = torch.randint(0, 256, (rows, length, *model.image_shape), dtype=torch.uint8)
    batch = Batch.of(image, action).to(machine.device)
    window = max(1, length // 20) if "tbtt" in preset else length  # truncated backpropagation
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)

    def train() -> None:
        state = None
        for start in range(0, length, window):
            output = model.loss(batch.window(start, start + window), state, return_state=window < length)
            torch.autograd.backward(output.total)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            state = None if output.state is None else tree.detach(output.state)

    trained = machine.ms(train, seconds=5)
    told = f"training, {rows} x {length}: {trained:.0f} ms, {rows * length / trained:.1f} frames/ms, "
    told += f"{machine.peak_mb(train):.0f} MB"
    model.eval()
    with torch.no_grad(), model.prepared():
        for count in (many, 1):
            state = model.initial_state(count)
            ahead = torch.zeros(count, horizon, model.action_dim, device=machine.device)
            noise = model.draw_noise(count, horizon)
            step = machine.ms(functools.partial(model.imagine, ahead, state, noise=noise))
            told += f"; a step of {count} rows {step / horizon:.3f} ms"
    return f"{preset}, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M: {told}"


def _system(size: Size) -> Tensors:
    Lambda, P, B = (x.to(torch.complex64) for x in legs_dplr(2 * size.pairs))
    C = torch.randn(size.channels, size.pairs, dtype=torch.complex64)
    return {"Lambda": Lambda, "P": P, "B": B, "C": C, "dt": torch.logspace(-3, -1, size.channels)}


def _sequence(size: Size) -> Tensors:
    u = torch.randn(size.batch, size.length, size.channels)
    state = 0.1 * torch.randn(size.batch, size.channels, size.pairs, 2)
    return _system(size) | {"u": u, "state": state, "is_first": torch.rand(size.batch, size.length) < 0.01}


def _exponentials(size: Size) -> Tensors:
    v = torch.randn(size.channels, size.pairs, dtype=torch.complex64)
    dt = torch.logspace(-3, -1, size.channels).unsqueeze(1)
    log_x = dt * torch.complex(torch.full((size.pairs,), -0.5), torch.pi * torch.arange(size.pairs))
    return {"v": v, "log_x": log_x.to(torch.complex128)}  # double, as S4D gives it


def _diagonal(size: Size) -> Tensors:
    width = size.channels
    a = torch.polar(torch.linspace(0.9, 0.999, width), torch.linspace(0, 1, width))
    b = torch.randn(size.batch, size.length, width, dtype=torch.complex64)
    state = torch.randn(size.batch, width, dtype=torch.complex64)
    return {"a": a, "b": b, "initial_state": state, "is_first": torch.rand(size.batch, size.length) < 0.01}


def naive_kernel(tensors: Tensors, length: int) -> Tensor:
    """Every Cauchy fraction of every channel at once, and C (1 - Abar^length) by powers of a dense matrix."""
    Lambda, P, B, C, dt = (tensors[name] for name in ("Lambda", "P", "B", "C", "dt"))
    Lambda, P, B, C = (torch.cat([x, x.conj()], dim=-1) for x in (Lambda, P, B, C))
    A, eye = torch.diag(Lambda) - P[:, None] * P.conj(), torch.eye(len(P), dtype=P.dtype, device=P.device)
    half = dt[:, None, None] / 2
    Abar = torch.linalg.solve(eye - half * A, eye + half * A)
    C = C - (C[:, None] @ torch.linalg.matrix_power(Abar, length))[:, 0]
    z = torch.exp(-2j * torch.pi * torch.arange(length // 2 + 1, device=dt.device, dtype=torch.float64) / length)
    zeta, weight = 2 * (1 - z) / (1 + z), (2 / (1 + z)).to(P.dtype)
    fractions = 1 / ((zeta.to(P.dtype) / dt[:, None])[..., None] - Lambda)
    left, right = torch.stack([C, P.conj().expand_as(C)], dim=1), torch.stack([B, P])
    sums = torch.einsum("hxn,yn,hln->hxyl", left, right, fractions)
    return torch.fft.irfft(weight * (sums[:, 0, 0] - sums[:, 0, 1] * sums[:, 1, 0] / (1 + sums[:, 1, 1])), length)


def kernel_cost(s: Size) -> tuple[float, float, float, float]:
    """Per node and pair 52 operations forward, 380 backward; per channel two powers by about 2 sqrt(T) matrices."""
    fractions = s.channels * s.pairs * s.length / 2
    power = s.channels * s.length**0.5 * s.pairs**2 * (36 + 8)
    forward, backward = 24 * s.channels * s.length, 24 * s.channels * s.length
    return forward, 52 * fractions + power, forward + backward, (52 + 380) * fractions + 2 * power


def scan_cost(s: Size) -> tuple[float, float, float, float]:
    """26 operations per step and pair forward, 26 to recompute and 74 backward; every 32nd state kept."""
    steps = s.batch * s.length * s.channels
    kept = steps / 32 * s.pairs * 8
    return 8 * steps, 26 * steps * s.pairs, 8 * steps + 16 * steps + 2 * kept, 126 * steps * s.pairs


def vandermonde_cost(s: Size) -> tuple[float, float, float, float]:
    """By two levels: 4 operations per pair and output forward, 16 for both passes."""
    outputs = s.channels * s.length
    return 4 * outputs, 4 * outputs * s.pairs, 8 * outputs, 16 * outputs * s.pairs


def diagonal_cost(s: Size) -> tuple[float, float, float, float]:
    """Inputs and states once each forward; gradients, states and gradients of inputs backward."""
    numbers = s.batch * s.length * s.channels
    return 16 * numbers, 8 * numbers, 40 * numbers, 30 * numbers


CASES = (
    Case(
        "dplr_kernel", _system,
        lambda xs, length, backend: dplr_kernel(**xs, length=length, backend=backend),
        lambda xs, length: reference.dplr_kernel(**xs, length=length),
        kernel_cost, naive_kernel,
    ),
    Case(
        "dplr_scan", _sequence,
        lambda xs, length, backend: dplr_scan(**xs, backend=backend),
        lambda xs, length: reference.dplr_scan(**xs),
        scan_cost,
    ),
    Case(
        "vandermonde", _exponentials,
        lambda xs, length, backend: vandermonde(**xs, length=length, backend=backend),
        lambda xs, length: reference.vandermonde(**xs, length=length),
        vandermonde_cost, lambda xs, length: reference.vandermonde(**xs, length=length),
    ),
    Case(
        "diagonal_scan", _diagonal,
        lambda xs, length, backend: diagonal_scan(**xs, backend=backend),
        lambda xs, length: reference.diagonal_scan(**xs),
        diagonal_cost,
    ),
)  # fmt: skip

MODELS = {"s4wm-3d": "s4", "tssm-xl-3d": "transformer_xl", "rssm-tbtt-3d": "gru"}
"""Presets of whole models, and their backbones."""
TINY = Size(1, 2, 8, 34)
FULL = (Size(8, 192, 32, 64), Size(8, 512, 32, 1024), Size(8, 512, 32, 4096))

if __name__ == "__main__":
    main()
