"""`check_backbone` finds each way a backbone can break the contract, by the law that forbids it."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmkit import Backbone, BackboneConfig, register_backbone, registry, tree
from wmkit.testing import ContractViolation, check_backbone, examine_backbone
from wmkit.tree import State

WIDTH = 6


class Leaky(Backbone):
    """Healthy: h_t = a h_{t-1} + W x_t with a learned start, in the contract's own loop."""

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.rate = nn.Parameter(torch.full((WIDTH,), 0.8))
        self.start = nn.Parameter(torch.zeros(WIDTH))

    def initial_state(self, batch_size: int) -> State:
        return (self.start.repeat(batch_size, 1),)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = self.rate * state[0] + self.mix(x)
        return torch.tanh(h), (h,)


class IgnoresState(Leaky):
    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, None, is_first, return_state)


class ResetsEarly(Leaky):
    def scan(self, x, state=None, is_first=None, return_state=True):
        moved = None if is_first is None else F.pad(is_first[:, 1:], (0, 1))
        return super().scan(x, state, moved, return_state)


class ResetsLate(Leaky):
    def scan(self, x, state=None, is_first=None, return_state=True):
        moved = None if is_first is None else F.pad(is_first[:, :-1], (1, 0))
        return super().scan(x, state, moved, return_state)


class UnusedParameter(Leaky):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(WIDTH, WIDTH)


class DetachesState(Leaky):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, tree.detach(state))


class WritesCallersState(Leaky):
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        with torch.no_grad():
            state[0].mul_(0.5)
        return super().step(x, state)


class RewritesParameter(Leaky):
    def scan(self, x, state=None, is_first=None, return_state=True):
        with torch.no_grad():
            self.rate.mul_(1.0)
        return super().scan(x, state, is_first, return_state)


class GrowsWithLength(Leaky):
    """The kernel of a long call is kept as a buffer for the next one."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        self.register_buffer("kernel", self.rate.detach()[:, None] ** torch.arange(x.shape[1]), persistent=False)
        return super().scan(x, state, is_first, return_state)


class ShortKernel(Leaky):
    """Keeps only the last CAP steps of one call; shorter calls never show it."""

    CAP = 16

    def scan(self, x, state=None, is_first=None, return_state=True):
        kept = None if x.shape[1] > self.CAP else state
        dropped = max(0, x.shape[1] - self.CAP)
        features, _ = super().scan(x, state, is_first)
        tail, last = super().scan(x[:, dropped:], kept, None if is_first is None else is_first[:, dropped:])
        return torch.cat([features[:, :dropped], tail], dim=1), last if return_state else None


class Positions(Leaky):
    """Healthy: adds a position to each input, counted in the state."""

    def initial_state(self, batch_size: int) -> State:
        return *super().initial_state(batch_size), torch.zeros(batch_size, dtype=torch.int64)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, position = state
        angle = position[:, None] / 100 ** torch.linspace(0, 1, WIDTH, dtype=x.dtype)
        features, (h,) = super().step(x + angle.sin(), (h,))
        return features, (h, position + 1)


class RestartsPositions(Positions):
    def scan(self, x, state=None, is_first=None, return_state=True):
        state = None if state is None else (state[0], torch.zeros_like(state[1]))
        return super().scan(x, state, is_first, return_state)


class PositionTable(Positions):
    """Positions from a table of 64 rows."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        table = torch.linspace(0, 1, 64, dtype=x.dtype)
        return super().step(x + table[state[1]][:, None], state)


class Convolution(Backbone):
    """Healthy: a causal convolution over the last three inputs, kept in the state."""

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.convolution = nn.Conv1d(WIDTH, WIDTH, 3)

    def initial_state(self, batch_size: int) -> State:
        return {"past": self.convolution.weight.new_zeros(batch_size, 2, WIDTH)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window = torch.cat([state["past"], x[:, None]], dim=1)
        return self.convolution(window.mT)[..., 0], {"past": window[:, 1:]}


class LooksAhead(Convolution):
    """The same kernel, centred."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        _, last = super().scan(x, state, is_first, return_state)
        return self.convolution(F.pad(x.mT, (1, 1))).mT, last


class LSTM(Backbone):
    """Healthy: an LSTM with both of its states."""

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.cell = nn.LSTMCell(WIDTH, WIDTH)

    def initial_state(self, batch_size: int) -> State:
        zeros = self.cell.weight_hh.new_zeros(batch_size, WIDTH)
        return zeros, zeros

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = self.cell(x, state)
        return h, (h, c)


class DropsCell(LSTM):
    """`scan` hands out h and forgets c."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first)
        return features, (last[0], torch.zeros_like(last[1])) if return_state else None


class DropsCellEverywhere(LSTM):
    """`step` forgets c as well, so that `scan` and `step` agree."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, (state[0], torch.zeros_like(state[1])))


class Attention(Backbone):
    """Healthy: attention of each step over the last four inputs, kept in the state."""

    WINDOW = 4

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def initial_state(self, batch_size: int) -> State:
        return [self.query.weight.new_zeros(batch_size, self.WINDOW, WIDTH)]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window = torch.cat([state[0][:, 1:], x[:, None]], dim=1)
        scores = self.query(x)[:, None] @ self.key(window).mT / math.sqrt(WIDTH)
        return (scores.softmax(-1) @ window)[:, 0], [window]


class AttendsAcrossRows(Attention):
    """A (B, D) step read as a sequence of B."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = super().step(x, state)
        scores = self.query(x) @ self.key(x).mT / math.sqrt(WIDTH)
        return features + scores.softmax(-1) @ x, state


class SeesLastRow(Leaky):
    """Reads the last row of the batch in every row."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = super().step(x, state)
        return features + x[-1:], state


BROKEN: list[tuple[Callable[[], Backbone], int]] = [
    (AttendsAcrossRows, 5),
    (SeesLastRow, 5),
    (IgnoresState, 6),
    (IgnoresState, 2),
    (ResetsEarly, 4),
    (ResetsLate, 4),
    (LooksAhead, 3),
    (RestartsPositions, 2),
    (UnusedParameter, 6),
    (DetachesState, 6),
    (WritesCallersState, 8),
    (ShortKernel, 9),
    (PositionTable, 9),
    (DropsCell, 2),
    (DropsCellEverywhere, 6),
    (RewritesParameter, 9),
    (GrowsWithLength, 9),
]
HEALTHY = [Leaky, Positions, Convolution, LSTM, Attention]


def broken_laws(backbone: Backbone) -> list[int]:
    return [result.number for result in examine_backbone(backbone, longest=130, quick=True) if not result.kept]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("make", "law"), BROKEN, ids=[f"{make.__name__}-law{law}" for make, law in BROKEN])
def test_a_broken_backbone_is_caught_by_its_law(make: Callable[[], Backbone], law: int, dtype: torch.dtype) -> None:
    with pytest.raises(ContractViolation) as caught:
        check_backbone(make().to(dtype), longest=130, quick=True)
    assert law in caught.value.laws
    assert f"law {law} " in str(caught.value)
    assert make.__name__ in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("make", HEALTHY)
def test_its_healthy_twin_passes(make: Callable[[], Backbone], dtype: torch.dtype) -> None:
    check_backbone(make().to(dtype), longest=130, rebuild=make)


@pytest.mark.parametrize(
    ("make", "laws"),
    [
        (ResetsEarly, [4]),
        (ResetsLate, [4]),
        (UnusedParameter, [6]),
        (RewritesParameter, [9]),
        (DropsCellEverywhere, [6]),
    ],
)
def test_a_single_fault_breaks_no_other_law(make: Callable[[], Backbone], laws: list[int]) -> None:
    assert broken_laws(make()) == laws


def test_a_fault_behind_a_parameter_that_starts_at_zero_is_found() -> None:
    class ForgetsStart(Leaky):
        def initial_state(self, batch_size: int) -> State:
            return (self.start.repeat(batch_size, 1),)

        def scan(self, x, state=None, is_first=None, return_state=True):
            if is_first is None or state is None:
                return super().scan(x, state, is_first, return_state)
            zeros = (torch.zeros_like(state[0]),)
            features = []
            for t in range(x.shape[1]):
                feature, state = self.step(x[:, t], tree.where(is_first[:, t], zeros, state))
                features.append(feature)
            return torch.stack(features, dim=1), state if return_state else None

    assert 4 in broken_laws(ForgetsStart())


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
    assert first.startswith("scan of 64 steps, 17 rows, from state=None, resets: chunks, return_state=False, with grad")
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
    class Dropout(Leaky):
        def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
            return super().step(F.dropout(x, training=self.training), state)

    with pytest.warns(UserWarning, match=r"Dropout: two equal calls differ in train\(\)"):
        check_backbone(Dropout(), longest=130, quick=True)


def test_what_is_not_saved_is_found_by_rebuilding() -> None:
    class Unsaved(Leaky):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.rand(WIDTH)

        def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
            return super().step(x * self.gain.to(x), state)

    results = examine_backbone(Unsaved(), longest=130, quick=True, rebuild=Unsaved)
    assert [result.number for result in results if not result.kept] == [7]


class Mixed(Leaky):
    """Leaves all of the state to autocast."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = F.linear(state[0], torch.diag(self.rate)) + self.mix(x)
        return torch.tanh(h), (h.to(state[0].dtype),)


class RoundedWindow(Attention):
    """Healthy: a cache may be rounded by autocast, it is only read."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window = torch.cat([state[0][:, 1:], self.key(x)[:, None]], dim=1)
        scores = self.query(x)[:, None] @ window.mT / math.sqrt(WIDTH)
        return (scores.softmax(-1) @ window)[:, 0], [window]


def test_an_accumulator_rounded_by_autocast_is_caught_and_a_rounded_cache_is_not() -> None:
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


def test_code_that_only_knows_float32_is_checked_with_the_floor_alone() -> None:
    class Single(Leaky):
        def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
            if x.dtype != torch.float32:
                raise TypeError("float32 only")
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
