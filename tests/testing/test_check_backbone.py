"""`check_backbone` finds each way a backbone can break the contract, by the law that forbids it."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.testing.test_broken_backbones import WIDTH, Attention, Leaky, Mixed, ResetsLate, RewritesParameter
from wmkit import Backbone, BackboneConfig, register_backbone, registry
from wmkit.testing import ContractViolation, check_backbone, examine_backbone
from wmkit.tree import State


def broken_laws(backbone: Backbone) -> list[int]:
    return [result.number for result in examine_backbone(backbone, longest=130, quick=True) if not result.kept]


def test_a_law_that_crashes_is_broken_and_quotes_the_exception() -> None:
    class Crashes(Leaky):
        def scan(self, x, state=None, is_first=None, return_state=True):
            if is_first is not None and x.shape[1] > 2:
                raise NotImplementedError("no resets here")
            return super().scan(x, state, is_first, return_state)

    with pytest.raises(ContractViolation, match="NotImplementedError: no resets here") as caught:
        check_backbone(Crashes(), longest=130, quick=True)
    assert 4 in caught.value.laws
    assert 2 not in caught.value.laws


def test_the_breach_says_where_and_by_how_much() -> None:
    results = {result.number: result for result in examine_backbone(ResetsLate(), longest=130, quick=True)}
    first = results[4].breaches[0]
    assert first.startswith("scan of 64 steps, 16 rows, from state=None, resets: chunks, return_state=False, with grad")
    assert "features: off by" in first
    assert "allowed 5." in first


def test_outputs_that_are_not_numbers_are_a_breach() -> None:
    class Infinite(Leaky):
        def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
            features, state = super().step(x, state)
            return features / 0.0, state

    assert 1 in broken_laws(Infinite())


def test_announced_widths_are_kept() -> None:
    class Narrow(Leaky):
        def __init__(self) -> None:
            super().__init__()
            self.feature_dim = WIDTH + 1

    with pytest.raises(ContractViolation, match="feature_dim = 7"):
        check_backbone(Narrow(), longest=130, quick=True)


def test_randomness_in_eval_is_a_breach_and_does_not_widen_the_tolerance() -> None:
    class Noisy(Leaky):
        def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
            return super().step(x + 0.1 * torch.randn_like(x), state)

    assert {1, 2, 4, 5, 9} <= set(broken_laws(Noisy()))


def test_randomness_in_train_is_a_warning() -> None:
    class NoisyInTrain(Leaky):
        def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
            return super().step(x + 0.1 * torch.randn_like(x) if self.training else x, state)

    with pytest.warns(UserWarning, match=r"NoisyInTrain: two equal calls differ in train\(\)"):
        check_backbone(NoisyInTrain(), longest=130, quick=True)


class RoundedWindow(Attention):
    """Healthy: a cache may be rounded by autocast, it is only read."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window = torch.cat([state[0][:, 1:], self.key(x)[:, None]], dim=1)
        scores = self.query(x)[:, None] @ window.mT / math.sqrt(WIDTH)
        return (scores.softmax(-1) @ window)[:, 0], [window]


def test_a_cache_rounded_by_autocast_is_kept_apart_from_an_accumulator() -> None:
    assert broken_laws(Mixed()) == [10]
    assert broken_laws(RoundedWindow()) == []


@pytest.mark.parametrize(
    ("initial", "sentence"),
    [
        (lambda b: (torch.zeros(1, WIDTH),), "initial_state(3), state[0]: shape (1, 6), expected (3, ...)"),
        (lambda b: (torch.zeros(b, WIDTH, dtype=torch.complex64),), "state[0]: torch.complex64, expected real numbers"),
        (lambda b: (torch.zeros(b, WIDTH, dtype=torch.float64),), "state[0]: torch.float64 on cpu, expected torch.flo"),
        (lambda b: [torch.zeros(b, WIDTH)], "structure differs"),
        (lambda b: (torch.zeros(b, WIDTH), None), "state[1] is None, expected a tensor"),
        (lambda b: (torch.zeros(b, WIDTH), b), "state[1] is a int, expected a tensor"),
    ],
    ids=["not batch first", "complex", "other precision", "other structure", "nothing", "a number"],
)
def test_a_malformed_state_is_described(initial: Callable[[int], State], sentence: str) -> None:
    class Malformed(Leaky):
        def initial_state(self, batch_size: int) -> State:
            return initial(batch_size)

    (result,) = examine_backbone(Malformed(), longest=130, quick=True)
    assert result.number == 0
    assert sentence in result.breaches[0]


def test_the_users_module_is_left_alone() -> None:
    backbone = RewritesParameter().train()
    backbone.rate.grad = torch.ones(WIDTH)
    versions = [parameter._version for parameter in backbone.parameters()]
    before, generator = {k: v.clone() for k, v in backbone.state_dict().items()}, torch.get_rng_state()
    broken_laws(backbone)
    assert backbone.training
    assert torch.equal(backbone.rate.grad, torch.ones(WIDTH))
    assert [parameter._version for parameter in backbone.parameters()] == versions
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)


def test_code_that_refuses_float64_is_checked_with_the_floor_alone() -> None:
    class Single(Leaky):
        def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
            if x.dtype == torch.float64:
                raise TypeError("no float64")
            return super().step(x, state)

    check_backbone(Single(), longest=130, quick=True)


def test_other_kinds_are_sent_to_their_own_checker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    class ClockConfig(BackboneConfig):
        pass

    @register_backbone("clock", ClockConfig, kind="dynamics")
    class Clock(nn.Module):
        pass

    with pytest.raises(ValueError, match=r"'clock' is a dynamics.*check_dynamics"):
        check_backbone(Clock())


@pytest.mark.parametrize(
    ("backbone", "arguments", "message"),
    [
        (Leaky, {}, "expected an instance of a subclass of wmkit.Backbone"),
        (nn.Linear(3, 3), {}, "expected an instance of a subclass of wmkit.Backbone"),
        (Leaky(), {"length": 0}, "length >= 1"),
        (Leaky(), {"longest": 12}, "longest > 100"),
        (Leaky(), {"tolerance": math.nan}, "tolerance: expected a positive number, got nan"),
        (Leaky(), {"tolerance": -1}, "tolerance: expected a positive number, got -1"),
        (Leaky().half(), {}, "float32 or float64"),
    ],
)
def test_what_cannot_be_checked_is_refused(backbone: Backbone, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_backbone(backbone, **arguments)


def test_a_tolerance_of_ones_own_replaces_the_measured_one() -> None:
    class Rounded(Leaky):
        def scan(self, x, state=None, is_first=None, return_state=True):
            features, last = super().scan(x, state, is_first, return_state)
            return 1.01 * features, last

    assert 1 in broken_laws(Rounded())
    check_backbone(Rounded(), longest=130, quick=True, tolerance=0.1)


def test_a_start_that_is_a_parameter_expanded_is_a_note() -> None:
    class Expanded(Leaky):
        def initial_state(self, batch_size: int) -> State:
            return (self.start.expand(batch_size, -1),)

    results = {result.number: result for result in examine_backbone(Expanded(), laws=[8], quick=True, longest=130)}
    assert results[8].kept
    assert results[8].notes == (
        "initial_state: state[0] is the parameter start itself: one that is kept changes with it",
    )


def test_a_gradient_that_is_no_derivative_is_a_breach_until_it_is_declared() -> None:
    class StraightThrough(Leaky):
        def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
            features, state = super().step(x, state)
            return features + ((4 * features).round() / 4 - features).detach(), state

    class Declared(StraightThrough):
        surrogate_gradients = True

    found = examine_backbone(StraightThrough(), laws=[6], quick=True)[0]
    assert found.breaches[0].endswith("as straight through a rounding, set surrogate_gradients = True")
    found = examine_backbone(Declared(), laws=[6], quick=True)[0]
    assert found.kept
    assert found.notes == ("surrogate_gradients: that gradients are the derivatives was not tried",)


def test_a_parameter_that_an_added_loss_alone_teaches_is_reached() -> None:
    class Taught(Leaky):
        def __init__(self) -> None:
            super().__init__()
            self.code = nn.Parameter(torch.ones(WIDTH))

        def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
            features, state = super().step(x, state)
            self.add_loss("commitment", (features.detach() - self.code).square().mean())
            return features, state

    assert examine_backbone(Taught(), laws=[6], quick=True)[0].kept


def test_a_failure_without_a_text_is_described_by_its_line() -> None:
    class Silent(Leaky):
        def scan(self, x, state=None, is_first=None, return_state=True):
            if x.shape[1] > 2:
                raise AssertionError
            return super().scan(x, state, is_first, return_state)

    breach = examine_backbone(Silent(), laws=[2], quick=True)[0].breaches[0]
    assert "raised AssertionError() at " in breach
    assert breach.endswith("raise AssertionError")
