"""Times of the S4 ops and layers on this machine: `python -m benchmarks.s4 [--quick]`.

A benchmark of wrong results is worthless: each op is first compared with its reference.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from wmkit.backbones import S4, Backbone, S4Config
from wmkit.backbones.s4 import StateSpace
from wmkit.machine import processor_name
from wmkit_kernels import dplr_kernel, dplr_scan, fft_conv, reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the paper's size")
    sizes = [(16, 192, 64), (16, 192, 128)] + ([] if parser.parse_args().quick else [(8, 512, 1000)])
    torch.manual_seed(0)
    check()
    machine = f"{processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{machine}, float32, milliseconds (median)")
    print(f"\n{'op':<34}{'B':>4}{'H':>5}{'T':>6}{'forward':>10}{'+ backward':>12}")
    for batch, channels, length in sizes:
        for name, run in ops(batch, channels, length).items():
            print(
                f"{name:<34}{batch:>4}{channels:>5}{length:>6}{forward_ms(run):>10.2f}{both_ms(run):>12.2f}", flush=True
            )
    print(f"\n{'step of one state space':<34}{'B':>4}{'H':>5}{'':>6}{'prepared':>12}")
    for batch, channels in ((1, 192), (64, 192), (1, 512), (64, 512)):
        print(f"{'':<34}{batch:>4}{channels:>5}{'':>6}{step_ms(batch, channels):>12.3f}", flush=True)
    scan_against_steps()


def check() -> None:
    """Stop unless the ops agree with their references."""
    Lambda, P, B, C, dt = (x.detach() for x in StateSpace(3, S4Config()).system())
    u = torch.randn(2, 40, 3)
    kernel, (y, state) = dplr_kernel(Lambda, P, B, C, dt, 40), dplr_scan(Lambda, P, B, C, dt, u)
    dense_y, dense_state = reference.dplr_scan(Lambda, P, B, C, dt, u)
    dense = reference.dplr_kernel(Lambda, P, B, C, dt, 40)
    for name, ours, theirs in (
        ("kernel", kernel, dense),
        ("scan", y, dense_y),
        ("state", state, dense_state),
        ("conv", fft_conv(kernel, u), dense_y),
    ):
        error = float((ours - theirs).norm() / theirs.norm())
        if error > 5e-5:
            raise SystemExit(f"{name} is off by {error:.1e}: no times of wrong results")


def ops(batch: int, channels: int, length: int) -> dict[str, Callable[[], Any]]:
    config = S4Config(input_dim=channels, layers=1, feedforward=4 * channels)
    ssm, block = StateSpace(channels, config), S4(channels, config)
    u = torch.randn(batch, length, channels, requires_grad=True)
    state = torch.randn_like(ssm.initial_state(batch)).requires_grad_()
    is_first = torch.rand(batch, length) < 0.05
    kernel = torch.randn(channels, length, requires_grad=True)
    return {
        "dplr_kernel": lambda: dplr_kernel(*ssm.system(), length),
        "fft_conv": lambda: fft_conv(kernel, u),
        "state space, convolution": lambda: ssm.scan(u, None, None, False)[0],
        "state space, state in and out": lambda: ssm.scan(u, state, None, True),
        "state space, resets": lambda: ssm.scan(u, state, is_first, True),
        "block [S4, S4, MLP]": lambda: block.scan(u, return_state=False)[0],
    }


def forward_ms(run: Callable[[], Any]) -> float:
    with torch.no_grad():
        return median_ms(run)


def both_ms(run: Callable[[], Any]) -> float:
    def run_and_back() -> None:
        out = run()
        torch.autograd.backward([x.sum() for x in (out if isinstance(out, tuple) else (out,))])

    return median_ms(run_and_back)


def step_ms(batch: int, channels: int) -> float:
    backbone = S4(channels, S4Config(input_dim=channels, layers=1))
    ssm = backbone.layers[0].ssm
    u, state = torch.randn(batch, channels), ssm.initial_state(batch)
    with backbone.prepared():
        return forward_ms(lambda: ssm.step(u, state))


def scan_against_steps(length: int = 1000) -> None:
    """The anti-toy line: a whole scan of `small` at T = 1000 against as many steps.

    The steps of a loop share their tables, in `training` with gradients and in `reading` without.
    """
    config = S4Config.for_size("small")
    backbone = S4(config.input_dim, config)
    print(f"\n{f'small S4, T = {length}':<34}{'B':>4}{'scan':>10}{'steps':>12}{'ratio':>8}")
    for name, gradients, batch in (("training", True, 8), ("reading", False, 8), ("reading", False, 1)):
        x = torch.randn(batch, length, config.input_dim)
        with torch.set_grad_enabled(gradients):
            scan = median_ms(partial(backbone.scan, x, return_state=False))
            with_state = median_ms(partial(backbone.scan, x))
            steps = once_ms(partial(Backbone.scan, backbone, x))
        for what, taken in ((f"{name}, no state", scan), (f"{name}, last state", with_state)):
            print(f"{what:<34}{batch:>4}{taken:>10.1f}{steps:>12.1f}{steps / taken:>8.1f}", flush=True)


def once_ms(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def median_ms(run: Callable[[], Any], repeats: int = 7) -> float:
    run()
    return statistics.median(once_ms(run) for _ in range(repeats))


if __name__ == "__main__":
    main()
