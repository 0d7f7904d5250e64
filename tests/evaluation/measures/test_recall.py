"""The error of frames that the context showed, and of those that it did not."""

import torch

from wmkit.build import build_world_model
from wmkit.data import GeneratedEpisodes, WholeEpisodes
from wmkit.evaluation import evaluate
from wmkit.evaluation.measures.recall import KEY, SEEN, UNSEEN, seen_share
from wmkit.evaluation.predictors import IMAGINED, MEAN_IMAGE, NO_MEMORY
from wmkit_envs import Rooms


def test_a_wall_counts_as_seen_when_it_was_in_view_before_the_contexts_end() -> None:
    first = torch.tensor([[[0, 4, 5, 9], [9, 9, 9, 9]]])  # (B, T, rays)
    torch.testing.assert_close(seen_share(first, context=5), torch.tensor([[0.5, 0.0]]))


def test_steps_are_told_apart_by_what_the_context_showed() -> None:
    """In Two Rooms, 120 steps in: the first room was seen, the other was not before about step 100."""
    source = GeneratedEpisodes(Rooms(image_size=8), seed=0, split="test", length=140)
    batch = next(iter(WholeEpisodes(source, batch_size=4, keys=[KEY])))
    model = build_world_model("gru", size="tiny", image_shape=(3, 8, 8), action_dim=6)
    found = evaluate(model, batch, context=60, horizon=80, measures=["recall"])
    assert {IMAGINED, NO_MEMORY, MEAN_IMAGE} <= set(found.predictors(SEEN.name))
    share = seen_share(batch.extras[KEY][:, 60:], 60)
    values = {name: torch.from_numpy(found.values(name, IMAGINED)) for name in (SEEN.name, UNSEEN.name)}
    assert torch.equal(~values[SEEN.name].isnan(), share > 0.9)
    assert torch.equal(~values[UNSEEN.name].isnan(), share < 0.5)
    assert (share[:, :20] > 0.9).float().mean() > 0.8
    assert (share < 0.5).any()
