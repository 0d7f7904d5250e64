"""Frames per second of the ray-cast maze at 64x64 on one core: python benchmarks/raycast.py

Both wall-clock and CPU time are shown: on a machine that is busy with other things only the second is comparable.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from wmkit.machine import processor_name
from wmkit_envs import RayMaze
from wmkit_envs.world import EpisodeSeed

EPISODES = 10
WORLD = RayMaze(size=9)


def report(what: str, frames: int, work: Callable[[], None]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what:<28} {frames / wall:>9,.0f} frames/s wall {frames / cpu:>9,.0f} frames/s CPU")


def main() -> None:
    simulations = [WORLD.walk(EpisodeSeed(0, "train", index), 1001) for index in range(EPISODES)]
    walks = [(simulation.scene, simulation.trajectory()) for simulation in simulations]
    frames = sum(len(walk.poses) for _, walk in walks)

    def render() -> None:
        for scene, walk in walks:
            WORLD.draw(scene, walk)

    def generate() -> None:
        for index in range(EPISODES):
            WORLD.generate(seed=1, index=index)

    print(f"{processor_name()}, one core, {WORLD.name}, {frames} frames")
    started = time.perf_counter()
    WORLD.generate(seed=0, length=1)
    print(f"first picture (compiled or loaded from the cache): {time.perf_counter() - started:.1f} s")
    report("ray caster alone", frames, render)
    report("generate: maze, walk, frames", frames, generate)


if __name__ == "__main__":
    main()
