"""The randomness of a training step, as a function of (seed, step) alone."""

from __future__ import annotations

import numpy as np
import torch

TRAIN, VALID = 0, 1


def step_generator(seed: int, step: int, stream: int = TRAIN) -> torch.Generator:
    """A CPU generator for one step of one stream.

    Neither the number of processes nor what ran before enters, so that a resumed run and a run on N processes (each
    draws the noise of the global batch and takes its rows) see what the uninterrupted run on one process sees.
    """
    state = np.random.SeedSequence(entropy=seed, spawn_key=(stream, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def draw_frames(length: int, share: float, generator: torch.Generator) -> torch.Tensor | None:
    """Time steps to decode, sorted: a random `share` of `length`, at least one; None for all of them."""
    if share == 1:
        return None
    return torch.randperm(length, generator=generator)[: max(1, round(share * length))].sort().values
