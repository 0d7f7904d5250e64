"""Archive test episodes of a tile world that no run has seen: python docs/unseen_episodes.py WORLD FOLDER TRAINED

A world of few maps repeats its episodes, in other splits too. Of episodes 0..TRAINED-1 of the split `train`, data seed
0, none is in the archive, which `evaluate_run(run, checkpoint="last", held_out=FOLDER)` reads.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator

from world_baselines import AT_ONCE, SEED, fingerprints, parts

from wmkit.data import EpisodeWriter
from wmkit_envs import find_world
from wmkit_envs.grid.world import GridWorld

EPISODES = 256
LOOKED_AT = 20_000
"""Test episodes at most: a world that has shown no more unseen ones by then is taken to have none."""


def main() -> None:
    """Write the first `EPISODES` of them, and say how many were passed over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world")
    parser.add_argument("folder")
    parser.add_argument("trained", type=int)
    chosen = parser.parse_args()
    try:
        last = archive(chosen.world, chosen.folder, chosen.trained)
    except ValueError as error:
        parser.error(str(error))
    print(f"{EPISODES} episodes in {chosen.folder}; of test 0..{last} training has {last + 1 - EPISODES}")


def archive(name: str, folder: str, trained: int) -> int:
    """Write them; the index of the last one. Raises `ValueError` for too few of them and a folder that has others."""
    world = find_world(name)
    if not isinstance(world, GridWorld):
        raise ValueError(f"world: expected a tile world, got {name}")
    origin = {"world": world.name, "seed": SEED, "split": "test", "without_training_episodes": trained}
    with EpisodeWriter(folder, origin) as writer:
        unseen = list(itertools.islice(unseen_episodes(world, trained), EPISODES))
        if len(unseen) < EPISODES:
            raise ValueError(
                f"{name}: of the first {LOOKED_AT:,} test episodes {len(unseen)} are not among {trained:,} of "
                f"training, expected {EPISODES}. Take a larger world."
            )
        for index in unseen[len(writer) :]:
            writer.append(world.generate(seed=SEED, split="test", index=index))
    return unseen[-1]


def unseen_episodes(world: GridWorld, trained: int) -> Iterator[int]:
    """Indices of test episodes that are none of 0..trained-1 of training."""
    known = {digest for part in parts(world, "train", trained) for digest in fingerprints(part)}
    for start in range(0, LOOKED_AT, AT_ONCE):
        indices = range(start, start + AT_ONCE)
        part = world.generate_batch(seed=SEED, split="test", indices=indices)
        yield from (index for index, digest in zip(indices, fingerprints(part), strict=True) if digest not in known)


if __name__ == "__main__":
    main()
