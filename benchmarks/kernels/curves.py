"""How time and memory grow with length T, channels H and state size N: both passes, one axis at a time."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from benchmarks.gpu import Size
from benchmarks.kernels import ops
from benchmarks.kernels.clock import Run, interleaved, peak_mib
from wmkit.backbones import S4Config, S4DConfig
from wmkit.backbones.s4 import StateSpace
from wmkit.backbones.s4d import DiagonalStateSpace
from wmkit.backbones.ssm.blocks import Layer

WITHOUT_STATE = {"fft_conv", "diagonal_scan"}
"""What knows no N: the second takes the states themselves for channels."""

LEAST = 256
"""The exponent in T is fitted from here on."""

CENTRE = Size(1, 256, 32, 1024)
"""What the axes that are not varied stay at; N counts conjugate pairs."""

AXES: dict[str, tuple[str, Sequence[int]]] = {
    "T": ("length", (256, 512, 1024, 2048, 4096, 8192, 16384)),
    "H": ("channels", (64, 128, 256, 512, 1024)),
    "N": ("pairs", (8, 16, 32, 64, 128)),
}

QUICK_CENTRE = Size(1, 16, 8, 128)
QUICK_AXES: dict[str, tuple[str, Sequence[int]]] = {
    "T": ("length", (256, 512)), "H": ("channels", (8, 16)), "N": ("pairs", (4, 8))
}  # fmt: skip


def rows(quick: bool, end: float) -> Iterator[dict[str, Any]]:
    """One row per axis and subject; points not begun by `end` (`time.monotonic`) are left out."""
    centre, axes = (QUICK_CENTRE, QUICK_AXES) if quick else (CENTRE, AXES)
    for axis, (field, values) in axes.items():
        for name, make in SUBJECTS.items():
            if axis == "N" and name in WITHOUT_STATE:
                continue
            found = [point(make, centre, field, value) for value in values if time.monotonic() < end]
            yield {"axis": axis, "name": name, "points": found, "verdict": "measured"} | exponents(found, axis)


def point(make: Callable[[Size], Run], centre: Size, field: str, value: int) -> dict[str, float]:
    """Milliseconds and MiB of both passes at one size."""
    run = make(dataclasses.replace(centre, **{field: value}))
    ms = interleaved({"both": run}, rounds=5, seconds=2)
    return {"value": value, "ms": ms["both"], "mib": peak_mib(run)}


def exponents(points: Sequence[dict[str, float]], axis: str) -> dict[str, float]:
    """p of time ~ value^p and of memory ~ value^p, by least squares of the logarithms."""
    kept = [p for p in points if axis != "T" or p["value"] >= LEAST]
    if len(kept) < 2:
        return {}
    return {key: slope([(math.log(p["value"]), math.log(p[key])) for p in kept]) for key in ("ms", "mib")}


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line with the least squared error."""
    mean_x, mean_y = (sum(column) / len(points) for column in zip(*points, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def of_op(name: str) -> Callable[[Size], Run]:
    """Both passes of an op."""
    (case,) = (case for case in ops.CASES if case.name == name)
    return lambda size: ops.passes(case, case.make(size), size.length)[1]


def s4_layer(size: Size) -> Run:
    """Both passes of an S4 layer as in training on whole episodes."""
    config = S4Config(input_dim=size.channels, state_size=2 * size.pairs)
    return of_layer(Layer(size.channels, config, StateSpace(size.channels, config)), size)


def s4d_layer(size: Size) -> Run:
    """The same with a diagonal system."""
    config = S4DConfig(input_dim=size.channels, state_size=2 * size.pairs)
    return of_layer(Layer(size.channels, config, DiagonalStateSpace(size.channels, config)), size)


def of_layer(layer: Layer, size: Size) -> Run:
    """Norm, state space, GELU, linear, GLU, residual, and their gradients."""
    x = torch.randn(size.batch, size.length, size.channels)

    def both() -> None:
        layer.zero_grad()
        layer.scan(x, None, None, return_state=False)[0].sum().backward()

    return both


SUBJECTS: dict[str, Callable[[Size], Run]] = {
    **{name: of_op(name) for name in ("dplr_kernel", "vandermonde", "fft_conv", "dplr_scan", "diagonal_scan")},
    "S4 layer": s4_layer,
    "S4D layer": s4d_layer,
}
