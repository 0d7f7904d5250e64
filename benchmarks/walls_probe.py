"""How many mazes does the probe `walls` need, of what features? Nothing is trained but the probe.

    python -m benchmarks.walls_probe                          # some five minutes of one core
    python -m benchmarks.walls_probe --mazes 100 --steps 300  # a first look

Two sets of features bound what a world model could give it. `map`: which cells have been seen by now to be walls, and
which to be free, laid out in the maze's own axes, a perfect memory. `view`: the pixels of the frame of the step, no
memory at all; what is in view could be told from them and the pose, which the probe is given. For both: accuracy over
all cells, over those seen so far and over those in view, beside the constant answer; then for `view` how the same
network fares, whose loss counts only the cells in view. `--out` draws the map that is read off the perfect memory.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from wmkit.data import open_source
from wmkit.networks import to_unit
from wmkit.probing.base import INPUTS, NEVER
from wmkit.probing.features import kept_steps
from wmkit.probing.figures import draw_map_strip, write_map_film
from wmkit.probing.networks import Fit, answers, best_constant, fit_head
from wmkit.probing.probes.walls import Walls
from wmkit_envs import RayMaze

SIDES = (4, 32)
"""The frame is averaged to so many rows and columns: walls stand upright."""
HELD_OUT = 100
"""Mazes that the probe is asked about."""


class WallsInView(Walls):
    """`walls`, whose loss counts the cells in view alone."""

    def counts(self, delay: Tensor | None, target: Tensor) -> Tensor | None:
        return None if delay is None else delay == 0


def gathered(split: str, count: int, length: int, every: int) -> dict[str, Tensor]:
    """By name (E, S, ...): `map` and `view`, the pose, the target, and steps since each cell was last in view."""
    source, probe = open_source(RayMaze(image_size=32, plain=True), split=split, length=length), Walls()
    kept = kept_steps(length, every)
    found: dict[str, list[Tensor]] = {name: [] for name in ("map", "view", "pose", "target", "delay")}
    for index in track(range(count), f"{split} episodes", console=Console(stderr=True)):
        episode = source.episode(index)
        since = probe.delay(episode)
        assert since is not None, "walls hide something in mazes"
        delay, target = torch.from_numpy(since[kept]), torch.from_numpy(probe.target(episode)[kept])
        known = delay != NEVER
        frames = to_unit(torch.from_numpy(episode["image"][kept]).movedim(-1, 1))  # (S, C, H, W)
        found["map"].append(torch.stack([known & (target == 1), known & (target == 0)], 1).flatten(1).float())
        found["view"].append(F.adaptive_avg_pool2d(frames, SIDES).flatten(1))
        found["pose"].append(torch.from_numpy(INPUTS["pose"](episode)[kept].astype(np.float32)))
        found["target"].append(target)
        found["delay"].append(delay)
    return {name: torch.stack(parts) for name, parts in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mazes", type=int, nargs="+", default=[100, 600], help="to fit to")
    parser.add_argument("--steps", type=int, default=900, help="of the fit at most: it stops on mazes apart")
    parser.add_argument("--length", type=int, default=1001)
    parser.add_argument("--every", type=int, default=20, help="so many-th step of an episode is kept")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a folder for map.png and map.gif of the first held-out maze")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    test = gathered("test", HELD_OUT, args.length, args.every)
    train = gathered("train", max(args.mazes), args.length, args.every)
    print(f"{'features, loss on':28}{'mazes':>7}{'all':>9}{'seen':>9}{'in view':>9}")
    since = test["delay"]
    for mazes in args.mazes:
        some = {key: value[:mazes].flatten(0, 1) for key, value in train.items()}
        for probe, name in ((Walls(), "map"), (Walls(), "view"), (WallsInView(), "view")):
            counts = probe.counts(some["delay"], some["target"])
            constant = best_constant(probe, some["target"], counts)
            apart = max(1, mazes // 10) * test["target"].shape[1]
            told = {}
            for label, hidden in (("constant", None), (name, tuple(probe.hidden))):
                head = fit_head(
                    probe, hidden, some[name], some["pose"], some["target"], counts, constant, 0,
                    Fit(steps=args.steps), apart,
                )  # fmt: skip
                output = answers(head, test[name], test["pose"])  # (E, S, n, n, 2)
                right = output.argmax(-1) == test["target"]  # (E, S, n, n)
                told[label] = [float(right[which].float().mean()) for which in (since >= NEVER, since >= 0, since == 0)]
            what = "cells in view" if isinstance(probe, WallsInView) else "all cells"
            if args.out and name == "map":
                args.out.mkdir(parents=True, exist_ok=True)
                kept = kept_steps(args.length, args.every)
                first = {"output": output, "target": test["target"], "delay": test["delay"], "inputs": test["pose"]}
                shown = {key: value[0].numpy() for key, value in first.items()} | {"steps": kept}
                draw_map_strip(shown, args.out / "map.png", f"a perfect memory of what was seen; {mazes} mazes")
                write_map_film(shown, args.out / "map.gif")
            for label, shares in told.items():
                print(f"{f'{label}, {what}':28}{mazes:>7}" + "".join(f"{share:>9.1%}" for share in shares), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
