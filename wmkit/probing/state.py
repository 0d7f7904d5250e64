"""Two looks at a state that need no probe: how far back gradients reach, and what imagination follows.

Reach is not retention: a model that could use the past need not, and one that keeps it may pass no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wmkit import tree
from wmkit.batch import Batch
from wmkit.evaluation.record import Metric
from wmkit.networks import to_unit
from wmkit.probing.readers import Reader

REACH = Metric(
    "reach",
    "share of the largest",
    "higher",
    label="gradient of the last step's features by the frame d steps before",
    caption="Norms, of each episode divided by the largest.",
)
SWAP = Metric(
    "follows_donor",
    "share",
    "higher",
    label="imagined frames that follow the episode whose state was swapped in",
    caption="0 %: as if nothing was swapped; 100 %: as from the other episode's whole state.",
)
RESET = Metric(
    "follows_empty",
    "share",
    "higher",
    label="imagined frames that follow an empty memory",
    caption="0 %: as if nothing was reset; 100 %: as from the state before an episode.",
)
DIRECTIONS = 4
"""Random projections of the features whose gradients are taken: the mean of their squares estimates the Jacobian's."""
EPISODES, LONGEST, AHEAD = 4, 200, 20
"""Held-out episodes that are looked at, the last so many steps of them for the reach, and steps imagined after a part
of the state was replaced."""


def gradient_reach(reader: Reader, batch: Batch, seeds: Sequence[int]) -> npt.NDArray[np.float64]:
    """How much the last features of image (B, T, C, H, W) depend on the frame d steps before, (B, T) for d = 0..T-1:

        r(d) = || d f_T / d x_{T-d} || / max_d' || d f_T / d x_{T-d'} ||

    with Frobenius norms, estimated along `DIRECTIONS` random directions of the features f.
    """
    image = to_unit(batch.image[:, -LONGEST:]).to(reader.device).detach().clone().requires_grad_()
    action = batch.action[:, -LONGEST:].to(reader.device).clone()
    action[:, 0] = 0
    generator = torch.Generator().manual_seed(seeds[0])
    with reader.reading(gradients=True):
        last = reader.observe(image, action, seeds)[0][:, -1]  # (B, F)
        squares = torch.zeros(image.shape[:2], dtype=torch.float64, device=image.device)  # (B, T)
        for _ in range(DIRECTIONS):
            along = torch.randn(last.shape, generator=generator).to(last)
            [gradient] = torch.autograd.grad(last, image, along, retain_graph=True)
            squares += gradient.flatten(2).double().square().sum(-1)
    norms = squares.sqrt().flip(1).cpu().numpy()
    return norms / np.maximum(norms.max(1, keepdims=True), np.finfo(np.float64).tiny)


def replace_parts(
    reader: Reader, batch: Batch, context: int, seeds: Sequence[int]
) -> dict[Metric, dict[str, npt.NDArray[np.float64]]]:
    """After the context one part of each episode's state is replaced, and it imagines on with its own actions. What
    the frames x follow, of each measure by part, (B, H):

        |x - x_own| / (|x - x_own| + |x - x_other|)

    with x_own imagined from the episode's own state, x_other from all of the one that the part was taken from, both
    with these actions and this noise. `SWAP` takes it from the state that the episode before has by then, `RESET` from
    the state before any episode, where the reader has one. Of all of the state both are 1, which is left out. States
    that are no dict have no parts.

    Raises `ValueError` where the reader's initial state has other parts.
    """
    batch = batch.to(reader.device)
    with reader.reading():
        _, state = reader.observe(batch.image[:, :context], batch.action[:, :context], seeds)
        action = batch.action[:, context : context + AHEAD]

        def imagined(of: object) -> Tensor:
            return reader.decode(reader.imagine(action, of, seeds)[1]).float().flatten(2)  # (B, H, pixels)

        if not isinstance(state, dict):
            return {}
        others = {SWAP: tree.map_tree(lambda leaf: leaf.roll(1, dims=0), state)}
        if (empty := reader.initial(len(batch.image))) is not None:
            if not isinstance(empty, dict) or empty.keys() != state.keys():
                parts = list(empty) if isinstance(empty, dict) else f"a {type(empty).__name__}"
                raise ValueError(f"initial: expected a state with the parts {list(state)}, got {parts}")
            others[RESET] = empty
        own = imagined(state)
        found: dict[Metric, dict[str, npt.NDArray[np.float64]]] = {}
        for metric, other in others.items():
            all_of_it = imagined(other)
            found[metric] = {}
            for part in state:
                frames = imagined({**state, part: other[part]})
                from_own, from_other = ((frames - one).norm(dim=-1) for one in (own, all_of_it))  # (B, H)
                share = from_own / (from_own + from_other).clamp(min=1e-12)
                found[metric][part] = share.double().cpu().numpy()
    return found
