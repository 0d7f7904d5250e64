"""What does a backbone cost? Training and imagination, in time and memory, at equal parameters (Figures 3 and 15).

    python recipes/speed.py                                          # every shipped backbone, size small: ten minutes
    python recipes/speed.py --systems gru,s4,transformer_xl --quick  # a first look
    python recipes/speed.py --systems s4:state_size=16,s4:state_size=64,s4:mlp=false    # options of one backbone
    python recipes/speed.py --size 3d --protocol paper --systems gru:window=100,s4,transformer_xl    # for a GPU

Training is a step of the optimiser on whole episodes of noise, imagination a context that is read, a horizon that is
imagined and its frames decoded; each system in a process of its own. `window=100` trains by truncated backpropagation,
as RSSM-TBTT. All are built with as many parameters as the largest: the backbone's hidden or feedforward width grows
until they are (`--as-configured`: each as its size has it). Beside the times stand those that the machine's own matrix
products and memory would need at least: what PyTorch counts as products and convolutions over the measured rate, and
for an imagined step also its weights and states over the measured bandwidth.

Writes `speed.json`, `speed.md` and `speed.png` into `--out`. Times are the medians of several tries.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import gc
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from wmkit import Batch, WorldModel, build_world_model, tree
from wmkit.config import TrainConfig
from wmkit.evaluation.plots.look import Look, own_look
from wmkit.evaluation.tables import Table
from wmkit.files import to_json, write_text
from wmkit.machine import graphics, processor, seconds_of
from wmkit.registry import get_entry
from wmkit.training.optimiser import build_optimiser
from wmkit.training.runtime import keep_freed_memory
from wmkit.training.short import is_short

SYSTEMS = "gru,gru:window=50,plain_gru,s4,s4d,s5,lru,transformer_xl"
WIDTHS = ("hidden", "feedforward", "ff")
"""Names of the option by which a backbone grows, in the order in which they are looked for."""
ACTIONS = 6


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How long, on how many rows."""

    rows: int
    """Of a training batch."""
    lengths: tuple[int, ...]
    """Of training episodes, in steps; the last one is the protocol's."""
    imagined_rows: tuple[int, ...]
    """The last one is the protocol's."""
    context: int
    horizon: int
    tries: int


PROTOCOLS = {
    "cpu": Protocol(8, (50, 100, 200), (1, 8, 32), context=100, horizon=100, tries=3),
    "paper": Protocol(8, (250, 500, 1000), (1, 8, 64), context=500, horizon=500, tries=5),
    "quick": Protocol(4, (25, 50), (1, 8), context=25, horizon=25, tries=1),
    "short": Protocol(2, (4, 8), (1, 2), context=4, horizon=4, tries=1),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the systems one after another; 0 when at least one could be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default=SYSTEMS, help="backbones with options, as s4:state_size=16 (%(default)s)")
    parser.add_argument("--size", default="small", help="a size's name (%(default)s)")
    parser.add_argument("--protocol", default="cpu", choices=[*PROTOCOLS], help="rows and lengths (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="the protocol `quick`")
    parser.add_argument("--image-size", type=int, default=64, help="of the square frames (%(default)s)")
    parser.add_argument("--as-configured", action="store_true", help="without equal parameters")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/speed"), help="folder (%(default)s)")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # one system, in a process of its own
    args = parser.parse_args(arguments)
    if is_short():
        args.size, args.protocol, args.image_size = "tiny", "short", 32
    elif args.quick:
        args.protocol = "quick"
    protocol = PROTOCOLS[args.protocol]
    if args.measure is not None:
        job = json.loads(args.measure)
        print(to_json(measure(job["system"], args.size, args.image_size, job["parameters"], protocol, args.device)))
        return 0
    systems = [word.strip() for word in args.systems.split(",") if word.strip()]
    try:
        models = {system: build(system, args.size, args.image_size) for system in systems}
    except ValueError as error:
        parser.error(str(error))
    counts = {system: parameters(model) for system, model in models.items()}
    target = 0 if args.as_configured else max(counts.values())
    del models
    args.out.mkdir(parents=True, exist_ok=True)
    found = {}
    for number, system in enumerate(systems):
        print(f"{number + 1} of {len(systems)}: {system}", file=sys.stderr, flush=True)
        job = to_json({"system": system, "parameters": target})
        options = ["--size", args.size, "--image-size", str(args.image_size), "--protocol", args.protocol]
        command = [sys.executable, __file__, "--measure", job, *options, "--device", args.device]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            print(f"{system} failed, see above; the others go on", file=sys.stderr)
            continue
        found[system] = json.loads(done.stdout.splitlines()[-1], object_hook=without_nulls)
    if not found:
        return 1
    machine = {
        "device": "; ".join(graphics()) if args.device == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **limits(torch.device(args.device), 256 if is_short() else 2048),
    }
    settings = {"size": args.size, "image_size": args.image_size, "protocol": dataclasses.asdict(protocol)}
    write_text(args.out / "speed.json", to_json({"machine": machine, **settings, "systems": found}))
    tables = speed_tables(found, protocol, machine)
    write_text(args.out / "speed.md", "\n".join(table.markdown() for table in tables))
    draw(found, args.out / "speed.png")
    Console().print(*(table.rich() for table in tables))
    print(f"{args.out}/speed.json, .md and .png")
    return 0


def without_nulls(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what a system does not tell."""
    return {key: math.nan if value is None else value for key, value in values.items()}


def build(system: str, size: str, image_size: int, least: int = 0) -> WorldModel:
    """The model of a word such as `s4:state_size=16`, its backbone widened until it has `least` parameters.

    Raises `ValueError` for an unknown backbone and for options that it has not.
    """
    name, *words = system.split(":")
    options = {key: value for key, _, value in (word.partition("=") for word in words) if key != "window"}
    config = get_entry(name).config.for_size(size)
    fields = {field.name for field in dataclasses.fields(config)}
    if unknown := sorted(set(options) - fields):
        raise ValueError(f"{system}: {name} has no option {unknown[0]!r}; it has {', '.join(sorted(fields))}, window")
    try:
        config = dataclasses.replace(config, **{key: json.loads(value) for key, value in options.items()})
    except json.JSONDecodeError as error:
        raise ValueError(f"{system}: expected numbers, true or false after =, got {error.doc!r}") from error

    def built(width: int | None = None) -> WorldModel:
        torch.manual_seed(0)
        wider = config if width is None else dataclasses.replace(config, **{field: width})
        return build_world_model(wider, size, (3, image_size, image_size), ACTIONS)

    model, field = built(), next((field for field in WIDTHS if field in fields), "")
    if parameters(model) >= least or not field:
        return model
    if parameters(built(8)) == parameters(built(16)):
        return model  # a width that these options leave without use
    low, high = 1, 2  # in eights; the number of parameters grows with the width
    while parameters(built(8 * high)) < least:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if parameters(built(8 * middle)) >= least else (middle, high)
    return built(8 * high)


def parameters(model: WorldModel) -> int:
    """Of the whole model."""
    return sum(parameter.numel() for parameter in model.parameters())


def measure(
    system: str, size: str, image_size: int, least: int, protocol: Protocol, device: str
) -> dict[str, float | dict[str, dict[str, float]]]:
    """Figures of one system: `training` by length and `imagination` by rows, each with seconds, bytes, operations."""
    keep_freed_memory()
    torch.backends.cudnn.allow_tf32 = False
    model = build(system, size, image_size, least).to(device)
    window = next((int(w.partition("=")[2]) for w in system.split(":") if w.startswith("window=")), None)
    state = sum(leaf.nbytes for leaf in tree.leaves(model.initial_state(1)))
    return {
        "parameters": parameters(model),
        "state_bytes": state,
        "training": {
            str(length): measure_training(model, protocol, length, window or length) for length in protocol.lengths
        },
        "imagination": {str(rows): measure_imagination(model, protocol, rows) for rows in protocol.imagined_rows},
        # Read at every imagined step, at least; a state may also be written anew, and a posterior is left alone.
        "step_bytes": protocol.imagined_rows[-1] * state
        + sum(p.nbytes for name, p in model.dynamics.named_parameters() if not name.startswith("posterior")),
    }


def measure_training(model: WorldModel, protocol: Protocol, length: int, window: int) -> dict[str, float]:
    """Of one batch of whole episodes: forward and backward pass and AdamW, a step for each window."""
    model.train()
    optimiser = build_optimiser(model, TrainConfig())
    image = torch.randint(0, 256, (protocol.rows, length, *model.image_shape), dtype=torch.uint8)
    whole = Batch.of(image, torch.eye(ACTIONS)[torch.randint(ACTIONS, (protocol.rows, length))]).to(model.device)
    windows = [whole.window(start, start + window) for start in range(0, length, window)]

    def learn() -> None:
        state = None
        for part in windows:
            output = model.loss(part, state, return_state=len(windows) > 1)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(output.total)
            optimiser.step()
            state = None if output.state is None else tree.detach(output.state)

    with FlopCounterMode(display=False) as counted:
        learn()
    peak = peak_bytes(learn, model.device)
    return {
        "seconds": timed(learn, protocol.tries, model.device),
        "peak_bytes": peak,
        "operations": counted.get_total_flops(),
    }


@torch.no_grad()
def measure_imagination(model: WorldModel, protocol: Protocol, rows: int) -> dict[str, float]:
    """Of rows that read a context, imagine a horizon and decode it; `step_seconds`: of a step, not decoded."""
    model.eval()
    context = torch.randint(0, 256, (rows, protocol.context, *model.image_shape), dtype=torch.uint8).to(model.device)
    past = torch.zeros(rows, protocol.context, ACTIONS, device=model.device)
    actions = torch.zeros(rows, protocol.horizon, ACTIONS, device=model.device)
    with model.prepared():
        _, state = model.observe(context, past)

        def dream() -> Any:
            return model.imagine(actions, state)

        with FlopCounterMode(display=False) as counted:  # one step: it knows no product of many (networks/packed.py)
            model.imagine(actions[:, :1], state)
        step = timed(dream, protocol.tries, model.device) / protocol.horizon
        read = timed(lambda: model.observe(context, past), protocol.tries, model.device)
        decoded = timed(lambda: model.decode(dream().features), protocol.tries, model.device)
        peak = peak_bytes(lambda: model.decode(dream().features), model.device)
    return {
        "read_seconds": read,
        "step_seconds": step,
        "seconds": decoded,
        "peak_bytes": peak,
        "step_operations": counted.get_total_flops(),
    }


def timed(run: Callable[[], object], tries: int, device: torch.device) -> float:
    """Seconds: the median over tries."""
    if device.type == "cpu":
        return seconds_of(run, tries, 1)
    times = []
    for _ in range(tries + 1):
        began = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def peak_bytes(run: Callable[[], object], device: torch.device) -> float:
    """Most bytes held beyond those that were held before; nan on a CPU whose system does not tell."""
    gc.collect()
    run()  # what is made once, such as kernels that are compiled, is none of it
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed goes back to the system
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark becomes what is held now
    except OSError:
        return math.nan
    held = status_bytes("VmRSS")
    run()
    return status_bytes("VmHWM") - held


def status_bytes(key: str) -> int:
    """Of this process, from /proc."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def limits(device: torch.device, edge: int) -> dict[str, float]:
    """Of the machine: float32 operations a second of a matrix product, bytes a second of a copy."""
    left, right = torch.randn(edge, edge, device=device), torch.randn(edge, edge, device=device)
    source = torch.zeros(16 * edge * edge, device=device)
    target = torch.empty_like(source)
    product = timed(lambda: left @ right, 7, device)
    copy = timed(lambda: target.copy_(source), 7, device)
    return {"operations_per_second": 2 * edge**3 / product, "bytes_per_second": 2 * source.nbytes / copy}


def speed_tables(found: dict[str, Any], protocol: Protocol, machine: dict[str, Any]) -> list[Table]:
    """Training and imagination at the protocol's length and rows: a row per system, with shares of the limit."""
    rate, bandwidth = machine["operations_per_second"], machine["bytes_per_second"]
    length, few, many = (str(n) for n in (protocol.lengths[-1], protocol.imagined_rows[0], protocol.imagined_rows[-1]))
    trained, dreamt = [], []
    for system, figures in found.items():
        training = figures["training"][length]
        size = [system, f"{figures['parameters'] / 1e6:.2f} M"]
        speed = f"{protocol.rows / training['seconds']:.2f}"
        share = training["operations"] / rate / training["seconds"]
        trained.append([*size, speed, f"{training['peak_bytes'] / 2**20:,.0f}", f"{share:.0%}"])
        one, dream = figures["imagination"][few], figures["imagination"][many]
        least = max(dream["step_operations"] / rate, figures["step_bytes"] / bandwidth)
        frames = (int(many) * protocol.context / dream["read_seconds"], int(many) * protocol.horizon / dream["seconds"])
        steps = (1e3 * one["step_seconds"], 1e3 * dream["step_seconds"])
        dreamt.append(
            [
                system,
                f"{figures['state_bytes']:,}",
                *(f"{value:,.0f}" for value in frames),
                *(f"{value:.2f}" for value in steps),
                f"{least / dream['step_seconds']:.0%}",
                f"{dream['peak_bytes'] / 2**20:,.0f}",
            ]
        )
    where = f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, float32."
    return [
        Table(
            f"Training: {protocol.rows} x {length} steps",
            ("system", "parameters", "episodes/s", "peak MiB", "of the limit"),
            trained,
            f"{where} Of the limit: products and convolutions at {rate / 1e9:,.0f} Gflop/s, over the time measured.",
        ),
        Table(
            f"Imagination: {many} rows, {protocol.context} steps read, {protocol.horizon} imagined",
            ("system", "state, bytes", "frames/s read", "imagined", f"ms a step, {few} row", many, "limit", "peak MiB"),
            dreamt,
            f"{where} Imagined frames are decoded, steps are not. Limit: the time of a step's products, or of its "
            f"weights and states at {bandwidth / 1e9:.0f} GB/s, over the time measured.",
        ),
    ]


@own_look()
def draw(found: dict[str, Any], path: Path) -> None:
    """Speed and memory of training against the length of an episode, of imagination against the rows."""
    figure = Figure(figsize=(12.5, 6.4), dpi=110, layout="constrained")
    for row, (kind, label, speed) in enumerate(
        (
            ("training", "steps of an episode", "training: batches per second"),
            ("imagination", "rows at a time", "imagination: latent steps per second, not decoded"),
        )
    ):
        for column, title in enumerate((speed, f"{kind}: peak memory, MiB")):
            axes = figure.add_subplot(2, 2, 2 * row + column + 1)
            axes.set(xscale="log", yscale="log", title=title, xlabel=label)
            axes.grid(alpha=0.3, which="both")
            axes.set_xticks([int(size) for size in next(iter(found.values()))[kind]])
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axis.set_minor_formatter(
                    NullFormatter()
                    if axis is axes.xaxis
                    else FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
                )
            for number, (system, figures) in enumerate(found.items()):
                sizes = {int(size): values for size, values in figures[kind].items()}
                if column:
                    values = [f["peak_bytes"] / 2**20 or math.nan for f in sizes.values()]
                elif kind == "training":
                    values = [1 / f["seconds"] for f in sizes.values()]
                else:
                    values = [rows / f["step_seconds"] for rows, f in sizes.items()]
                look = Look.of_system(number)
                axes.plot(
                    list(sizes), values, color=look.light, linestyle=look.dash, marker="o", markersize=4, label=system
                )
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(8, len(labels)), frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
