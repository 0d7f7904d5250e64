"""`wmkit video RUN`: open-loop frames of a run against the horizon, beside the floors."""

from __future__ import annotations

import argparse
from pathlib import Path

from wmkit.evaluation.video.run import evaluate_video_run
from wmkit.training.checkpoints import BEST

HELP = "Open-loop frames of a run against the horizon: SSIM, PSNR, digits, beside floors that know nothing."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("--context", type=int, help="observed frames (default: as the run or its world says)")
    parser.add_argument("--horizon", type=int, help="imagined frames (default: as the run says)")
    parser.add_argument("--clips", type=int, default=100, help="held-out clips (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=1, help="N of best-of-N (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of latents and probe (default: 0)")
    parser.add_argument("--checkpoint", default=BEST, help="best, last, or a checkpoint's folder (default: best)")
    parser.add_argument("--held-out", help="a world or an archive of split test (default: the run's world)")


def run(arguments: argparse.Namespace) -> int:
    """Print the tables and fill the run folder; raises `ValueError` for what cannot be."""
    wanted = vars(arguments)
    for name, least in (("context", 2), ("horizon", 1), ("clips", 2), ("samples", 1)):
        if wanted[name] is not None and wanted[name] < least:
            raise ValueError(f"--{name}: expected at least {least}, got {wanted[name]}")
    names = ("context", "horizon", "clips", "samples", "seed", "checkpoint", "held_out")
    evaluate_video_run(arguments.run, **{name: wanted[name] for name in names})
    return 0
