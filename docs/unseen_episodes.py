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


def main() -> None:
    """Write the first `EPISODES` of them, and say how many were passed over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world")
    parser.add_argument("folder")
    parser.add_argument("trained", type=int)
    chosen = parser.parse_args()
    world = find_world(chosen.world)
    if not isinstance(world, GridWorld):
        parser.error(f"world: expected a tile world, got {chosen.world}")
    with EpisodeWriter(chosen.folder, {"world": world.name, "seed": SEED, "split": "test"}) as writer:
        unseen = list(itertools.islice(unseen_episodes(world, chosen.trained), EPISODES))
        for index in unseen[len(writer) :]:
            writer.append(world.generate(seed=SEED, split="test", index=index))
    print(f"{EPISODES} episodes in {chosen.folder}; of test 0..{unseen[-1]} training has {unseen[-1] + 1 - EPISODES}")


def unseen_episodes(world: GridWorld, trained: int) -> Iterator[int]:
    """Indices of test episodes that are none of 0..trained-1 of training."""
    known = {digest for part in parts(world, "train", trained) for digest in fingerprints(part)}
    for start in itertools.count(0, AT_ONCE):
        indices = range(start, start + AT_ONCE)
        part = world.generate_batch(seed=SEED, split="test", indices=indices)
        yield from (index for index, digest in zip(indices, fingerprints(part), strict=True) if digest not in known)


if __name__ == "__main__":
    main()
