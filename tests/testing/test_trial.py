"""What the laws are tried on: short scans in the place of a long loop, precisions that something computes in inside."""

import pytest
import torch
import torch.nn.functional as F

from tests.testing.test_broken_backbones import WIDTH, Chunks, Leaky
from wmkit import tree
from wmkit.testing.situations import FIXED, Situation
from wmkit.testing.trial import NoFunctionalDropout, Trial, loop, pieces


def trial_of(backbone, dtype=torch.float64):
    return Trial(backbone.to(dtype), seed=0, tolerance=None, longest_loop=16, settings={})


@pytest.mark.parametrize("resets", ["none", "together", "chunks"])
@pytest.mark.parametrize("length", [1, 2, 3, 70])
def test_pieces_are_the_loop_over_single_steps(length, resets):
    core, x = Chunks().double(), torch.randn(3, length, WIDTH, dtype=torch.float64)
    state = core.scan(torch.randn_like(x))[1]
    marks = Situation(length, 3, resets=resets).is_first()
    got, want = (run(core, x, state, marks) for run in (pieces, loop))
    torch.testing.assert_close(got[0], want[0])
    torch.testing.assert_close(got[1], want[1])
    assert pieces(core, x, state, marks, return_state=False)[1] is None


def test_the_coarsest_precision_inside_is_seen_and_single_numbers_do_not_count():
    class Rounds(Leaky):
        def step(self, x, state):
            return super().step(x.bfloat16().float().to(x.dtype), state)

    class Constant(Leaky):
        def step(self, x, state):
            return super().step(x * torch.tensor(0.5), state)

    assert trial_of(Rounds()).coarsest(torch.float64) == torch.bfloat16
    assert trial_of(Constant()).coarsest(torch.float64) == torch.float64


def test_dropout_by_a_function_is_held_at_none_inside_the_block_alone():
    x, weights = torch.ones(4, 64), torch.randn(1, 8, 4)
    with NoFunctionalDropout():
        assert torch.equal(F.dropout(x, 0.5, True), x)
        assert torch.equal(torch.dropout(input=x, p=0.5, train=True), x)
        attended = F.scaled_dot_product_attention(weights, weights, weights, None, 0.9)
    torch.testing.assert_close(attended, F.scaled_dot_product_attention(weights, weights, weights))
    assert not torch.equal(F.dropout(x, 0.5, True), x)


def test_a_call_in_train_is_made_inside_a_block_and_resets_are_strided_where_inputs_are():
    seen = []

    class Looks(Leaky):
        inside = False

        def scan(self, x, state=None, is_first=None, return_state=True):
            seen.append((x.is_contiguous(), is_first.is_contiguous(), state[0].is_contiguous()))
            return super().scan(x, state, is_first, return_state)

    trial_of(Looks()).outcome(Situation(4, 3, "carried", "middle", strided=True, training=True), stepwise=False)
    assert seen == [(False, False, False)]


def test_what_truncated_backpropagation_passes_is_tried_with_and_without_resets():
    for resets, situations in FIXED.items():
        windows = [s for s in situations if s.start == "carried" and s.training and s.gradient and s.return_state]
        assert windows
        assert all(s.length > 128 and (s.is_first() is not None) == resets for s in windows)
    assert any(bool(s.is_first().all(dim=0).any()) for s in FIXED[True]), "every row resets at once somewhere"


def test_a_gradient_by_an_infinite_entry_is_not_compared():
    class Maximum(Leaky):
        def initial_state(self, batch_size):
            return (self.rate.new_full((batch_size, WIDTH), -torch.inf),)

        def step(self, x, state):
            h = torch.logaddexp(state[0], self.mix(x))
            return h.tanh(), (h,)

    outcome = trial_of(Maximum()).outcome(Situation(3, 2, "initial", gradient=True), stepwise=True)
    assert not tree.leaves(outcome.gradients["state[0]"])[0].any()
