"""A gallery of backbones with one fault each, and the law of the contract that has to name it."""

import collections
import contextlib
import dataclasses
import hashlib
import math
import os
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmkit import Backbone, tree
from wmkit.backbones.base import ParameterGroup
from wmkit.testing import examine_backbone
from wmkit.tree import State

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
WIDTH = 6


def exact(x: Tensor) -> torch.autocast:
    """A block that autocast leaves alone."""
    return torch.autocast(x.device.type, enabled=False)


def lowered(x: Tensor) -> bool:
    """Is autocast on?"""
    return torch.is_autocast_enabled(x.device.type)


def rounded(state: State, dtype: torch.dtype = torch.bfloat16) -> State:
    """The state in its own precision, with values that 16 bits can hold."""
    return tree.map_tree(lambda leaf: leaf.to(dtype).to(leaf.dtype), state)


# ---------------------------------------------------------------------------------------------- healthy ones


class Leaky(Backbone):
    """Healthy: h_t = a h_{t-1} + W x_t with a learned start, in the contract's own loop."""

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.rate = nn.Parameter(torch.full((WIDTH,), 0.9))
        self.start = nn.Parameter(torch.zeros(WIDTH))

    def initial_state(self, batch_size: int) -> State:
        return (self.start.repeat(batch_size, 1),)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = self.rate * state[0] + self.mix(x).to(self.rate.dtype)
        return torch.tanh(h), (h,)


class Positions(Leaky):
    """Healthy: adds a position to each input, counted in the state."""

    def initial_state(self, batch_size: int) -> State:
        return *super().initial_state(batch_size), self.rate.new_zeros(batch_size, dtype=torch.int64)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, position = state
        angle = position[:, None] / 100 ** torch.linspace(0, 1, WIDTH, dtype=x.dtype, device=x.device)
        features, (h,) = super().step(x + angle.sin(), (h,))
        return features, (h, position + 1)


class Convolution(Backbone):
    """Healthy: a causal convolution over the last three inputs, kept in the state."""

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.convolution = nn.Conv1d(WIDTH, WIDTH, 3)

    def initial_state(self, batch_size: int) -> State:
        return {"past": self.convolution.weight.new_zeros(batch_size, 2, WIDTH)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window = torch.cat([state["past"], x[:, None].to(state["past"].dtype)], dim=1)
        return self.convolution(window.mT)[..., 0], {"past": window[:, 1:].clone()}


class LSTM(Backbone):
    """Healthy: an LSTM with both of its states, which start at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.gates = nn.Linear(2 * WIDTH, 4 * WIDTH)

    def initial_state(self, batch_size: int) -> State:
        h, c = self.gates.weight.new_zeros(2, batch_size, WIDTH)
        return h, c

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = state
        i, f, o, g = self.gates(torch.cat([x.to(h.dtype), h], dim=-1)).to(h.dtype).chunk(4, dim=-1)
        c = torch.sigmoid(f + 1) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h.clone(), (h, c)


class PackedLSTM(LSTM):
    """Healthy: the LSTM with h and c side by side in one leaf."""

    def initial_state(self, batch_size: int) -> State:
        return torch.cat(super().initial_state(batch_size), dim=-1)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, last = super().step(x, state.chunk(2, dim=-1))
        return features, torch.cat(last, dim=-1)


class Attention(Backbone):
    """Healthy: attention of each step over its own input and the three before it, kept in the state."""

    WINDOW = 3

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)

    def initial_state(self, batch_size: int) -> State:
        return [self.query.weight.new_zeros(batch_size, self.WINDOW, WIDTH)]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window = torch.cat([state[0], x[:, None].to(state[0].dtype)], dim=1)
        scores = self.query(x)[:, None] @ self.key(window).mT / math.sqrt(WIDTH)
        return (scores.softmax(-1) @ window)[:, 0], [window[:, 1:].clone()]


class Chunks(Backbone):
    """Healthy: linear attention with a decay; `scan` goes chunk by chunk, and begins one at every reset."""

    CHUNK = 16

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.project = nn.Linear(WIDTH, 3 * WIDTH)
        self.decay = nn.Parameter(torch.tensor([2.0]))

    def initial_state(self, batch_size: int) -> State:
        return {"memory": self.decay.new_zeros(batch_size, WIDTH, WIDTH)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = self.chunk(x[:, None], state)
        return features[:, 0], state

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        memory, steps = state["memory"], torch.arange(x.shape[1], device=x.device)
        q, k, v = self.project(x).to(memory.dtype).chunk(3, dim=-1)
        with exact(x):
            decay, between = torch.sigmoid(self.decay), steps[:, None] - steps
            weights = (decay ** between.clamp(min=0)).tril()
            features = (q @ k.mT * weights) @ v + decay ** (steps[:, None] + 1) * (q @ memory)
            memory = decay ** len(steps) * memory + (k * decay ** (steps.flip(0)[:, None])).mT @ v
        return features, {"memory": memory}

    def starts(self, length: int, is_first: Tensor | None) -> list[int]:
        """Where chunks begin."""
        resets = set() if is_first is None else set(is_first.any(dim=0).nonzero()[:, 0].tolist())
        return sorted({*range(0, length, self.CHUNK), *resets})

    def enter(self, state: State, fresh: State, is_first: Tensor | None, start: int) -> State:
        """The state that enters the chunk which begins at `start`."""
        return state if is_first is None else tree.where(is_first[:, start], fresh, state)

    def scan(self, x, state=None, is_first=None, return_state=True):
        fresh = self.initial_state(len(x))
        state, features, starts = fresh if state is None else state, [], self.starts(x.shape[1], is_first)
        for start, stop in zip(starts, [*starts[1:], x.shape[1]], strict=True):
            feature, state = self.chunk(x[:, start:stop], self.enter(state, fresh, is_first, start))
            features.append(feature)
        return torch.cat(features, dim=1), state if return_state else None


class Stacked(Backbone):
    """Healthy: two recurrent layers, whose weights are one parameter and whose states are one leaf."""

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.inputs, self.weight = nn.Linear(WIDTH, WIDTH), nn.Parameter(0.3 * torch.randn(2, WIDTH, WIDTH))

    def initial_state(self, batch_size: int) -> State:
        return {"layers": self.weight.new_zeros(batch_size, 2, WIDTH)}

    def of_layer(self, layer: int) -> Tensor:
        return self.weight[layer]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, layers = self.inputs(x).to(self.weight.dtype), []
        for layer in range(2):
            with exact(x):
                y = torch.tanh(y + state["layers"][:, layer] @ self.of_layer(layer))
            layers.append(y)
        return y, {"layers": torch.stack(layers, dim=1)}


HEALTHY = [Leaky, Positions, Convolution, LSTM, PackedLSTM, Attention, Chunks, Stacked]

# ---------------------------------------------------------------------------- `scan` without a state to return


class StatelessIgnoresResets(Leaky):
    """Nothing resets where no last state is asked for."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, is_first if return_state else None, return_state)


class StatelessIgnoresState(LSTM):
    """The incoming state is dropped where no last state is asked for."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state if return_state else None, is_first, return_state)


class StatelessLosesGradient(Leaky):
    """The incoming state is detached where no last state is asked for."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        cut = state if return_state or state is None else tree.detach(state)
        return super().scan(x, cut, is_first, return_state)


class StatelessNoGradAtAll(LSTM):
    """An engine for evaluation is taken for every call that wants no last state."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        with torch.set_grad_enabled(return_state and torch.is_grad_enabled()):
            return super().scan(x, state, is_first, return_state)


# ------------------------------------------------------------------------------------- which state comes in


class FreshScanIgnoresResets(Chunks):
    """`state=None` is taken to mean that nothing resets."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, None if state is None else is_first, return_state)


class ResetsOnlyFromFresh(Leaky):
    """Resets are obeyed only where no state comes in."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, is_first if state is None else None, return_state)


class ResetsForgetState(LSTM):
    """The path for sequences with resets starts afresh."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state if is_first is None else None, is_first, return_state)


class ExplicitStartDiffers(LSTM):
    """An initial state that is handed in skips the first input; `state=None` does not."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        if state is not None and not any(leaf.any() for leaf in state):
            x = F.pad(x[:, 1:], (0, 0, 1, 0))
        return super().scan(x, state, is_first, return_state)


class PartlyFreshStateDiffers(LSTM):
    """Fresh rows beside carried ones are started with the average of the carried ones."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        if state is not None:
            fresh = (state[0] == 0).all(dim=-1)
            if fresh.any() and not fresh.all():
                state = tree.map_tree(lambda leaf: torch.where(fresh[:, None], leaf.mean(0), leaf), state)
        return super().scan(x, state, is_first, return_state)


class ScanDetachesState(Leaky):
    """`scan` cuts the gradient to the state that comes in."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, None if state is None else tree.detach(state), is_first, return_state)


class IgnoresState(Leaky):
    """`scan` always starts afresh."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, None, is_first, return_state)


# --------------------------------------------------------------------------------------------------- train()


class FutureInTrain(Leaky):
    """In train() inputs are centred over the whole sequence."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x - x.mean(dim=1, keepdim=True) if self.training else x, state, is_first, return_state)


class NoResetInTrain(LSTM):
    """Resets are obeyed in eval() only."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, None if self.training else is_first, return_state)


class BatchNormInTrain(Leaky):
    """In train() features are normalised over the rows of the batch."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = super().step(x, state)
        return (y - y.mean(dim=0)) / (y.std(dim=0, correction=0) + 0.1) if self.training else y, state


class BufferWrittenInTrain(Leaky):
    """A running mean of the features, followed in train()."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(WIDTH))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = super().step(x, state)
        if self.training:
            self.mean = torch.lerp(self.mean, y.detach().mean(dim=0), 0.1)
        return y - self.mean, state


class DetachesInTrain(Leaky):
    """In train() no gradient flows from step to step."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, tree.detach(state) if self.training else state)


class GradientOnlyInTrain(LSTM):
    """In eval() `scan` runs without gradients, as if nobody could want them there."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        return features if self.training else features.detach() + 0 * features, last


# --------------------------------------------------------------------------------------- lengths and chunks


class ResetsOnlyInFirstChunk(Chunks):
    """Resets behind the first chunk are lost."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        kept = None if is_first is None else is_first & (torch.arange(x.shape[1]) < self.CHUNK)
        return super().scan(x, state, kept, return_state)


class ResetAtChunkStartLost(Chunks):
    """A reset at the first step of a later chunk is taken for one of the chunk before."""

    def enter(self, state: State, fresh: State, is_first: Tensor | None, start: int) -> State:
        return state if start and start % self.CHUNK == 0 else super().enter(state, fresh, is_first, start)


class ResetAtLargeChunkStartLost(ResetAtChunkStartLost):
    """The same with chunks of 64 steps."""

    CHUNK = 64


class DetachesBetweenChunks(Chunks):
    """No gradient flows from chunk to chunk."""

    def enter(self, state: State, fresh: State, is_first: Tensor | None, start: int) -> State:
        state = super().enter(state, fresh, is_first, start)
        return tree.detach(state) if start and start % self.CHUNK == 0 else state


class WrongLastStateAtMultiples(Chunks):
    """Where the last chunk is a full one, the state before it is returned."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        if return_state and x.shape[1] > self.CHUNK and x.shape[1] % self.CHUNK == 0:
            kept = None if is_first is None else is_first[:, : -self.CHUNK]
            last = super().scan(x[:, : -self.CHUNK], state, kept)[1]
        return features, last


class CrashesAtMultiples(Chunks):
    """A remainder of no steps has no last step."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        remainder = x[:, x.shape[1] // 64 * 64 :] if x.shape[1] >= 64 else x
        assert remainder[:, -1:].reshape(len(x), WIDTH) is not None
        return super().scan(x, state, is_first, return_state)


class WrapsAtLongPowersOfTwo(Convolution):
    """The circular convolution is padded to a power of two, which 64 and 128 are already."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        if state is None and is_first is None and x.shape[1] in (64, 128, 256):
            state = {"past": x[:, -2:]}
        return super().scan(x, state, is_first, return_state)


class WrapsAround(Convolution):
    """A circular convolution without padding: the first steps see the last ones."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        if state is None and is_first is None and x.shape[1] > 1:
            state = {"past": x[:, -2:]}
        return super().scan(x, state, is_first, return_state)


class LongCarryFades(Leaky):
    """The incoming state reaches 32 steps far and no further."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        head, tail = (None, None) if is_first is None else (is_first[:, :32], is_first[:, 32:])
        features, last = super().scan(x[:, :32], state, head)
        if x.shape[1] > 32:
            forgetful = super().scan(x[:, :32], None, head)[1]
            rest, last = super().scan(x[:, 32:], forgetful, tail)
            features = torch.cat([features, rest], dim=1)
        return features, last if return_state else None


class OneStepIgnoresReset(LSTM):
    """A scan of one step is handed to `step`, and its reset forgotten."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, is_first if x.shape[1] > 1 else None, return_state)


class OneStepKeepsState(LSTM):
    """A scan of one step returns the state it was given."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        old = self.initial_state(len(x)) if state is None else state
        return features, old if return_state and x.shape[1] == 1 else last


class DividesByLength(Leaky):
    """`scan` normalises by the number of steps of the call."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        return features / x.shape[1], last


class ForgetsAfter200(Leaky):
    """A kernel of 200 steps: in a longer call the rest starts afresh."""

    CAP = 200

    def scan(self, x, state=None, is_first=None, return_state=True):
        head, tail = (None, None) if is_first is None else (is_first[:, : self.CAP], is_first[:, self.CAP :])
        features, last = super().scan(x[:, : self.CAP], state, head)
        if x.shape[1] > self.CAP:
            rest, last = super().scan(x[:, self.CAP :], None, tail)
            features = torch.cat([features, rest], dim=1)
        return features, last if return_state else None


class PositionTable(Positions):
    """Positions from a table of 64 rows."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        table = torch.linspace(0, 1, 64, dtype=x.dtype)
        return super().step(x + table[state[1]][:, None], state)


# ----------------------------------------------------------------------------------------------- no gradients


class OtherEngineWithoutGradients(LSTM):
    """Without gradients, a fast engine forgets the last step in the state it returns."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        if return_state and not torch.is_grad_enabled() and x.shape[1] > 1:
            last = super().scan(x[:, :-1], state, None if is_first is None else is_first[:, :-1])[1]
        return features, last


class OtherEngineWithGradients(LSTM):
    """With gradients, sequences of more than 32 steps are recomputed in two halves, the second from a fresh start."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        if not torch.is_grad_enabled() or x.shape[1] <= 32:
            return super().scan(x, state, is_first, return_state)
        masks = (None, None) if is_first is None else is_first.tensor_split(2, dim=1)
        first, second = x.tensor_split(2, dim=1)
        features = super().scan(first, state, masks[0])[0]
        rest, last = super().scan(second, None, masks[1])
        return torch.cat([features, rest], dim=1), last if return_state else None


# --------------------------------------------------------------------------------------------- pieces, causality


class RestartsPositions(Positions):
    """Positions count from the beginning of the call."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        state = None if state is None else (state[0], torch.zeros_like(state[1]))
        return super().scan(x, state, is_first, return_state)


class DropsCell(LSTM):
    """`scan` hands out h and forgets c."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        return features, (last[0], torch.zeros_like(last[1])) if return_state else None


class SegmentsOfACall(Attention):
    """As segments are trained: a query sees the cache and everything before it in its own call."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        steps = torch.arange(x.shape[1])
        beyond = (steps[:, None] - steps > self.WINDOW).to(x.dtype)
        return features + 0.1 * (beyond @ x) if is_first is None else features, last


class LooksAhead(Convolution):
    """The same kernel, centred."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        _, last = super().scan(x, state, is_first, return_state)
        return self.convolution(F.pad(x.mT, (1, 1))).mT, last


class MaskOffByOne(Attention):
    """In `scan` a tenth of the next input leaks into each feature."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        return features + 0.1 * F.pad(x[:, 1:], (0, 0, 0, 1)), last


class CentresOverTime(LSTM):
    """Features lose their mean over the sequence."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        return features - features.mean(dim=1, keepdim=True), last


class OtherStepInABlock(Leaky):
    """A single step gives something else within `prepared` than outside it, where an agent may call it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = None

    @contextlib.contextmanager
    def prepared(self):
        self.table = True
        yield
        self.table = None

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x if self.table else 0.9 * x, state)


class BehindLayerScale(Leaky):
    """A branch of `scan` that is a step late, behind a scale that starts at 1e-6."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((WIDTH,), 1e-6))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = super().step(x, state)
        return features + self.scale * x, state

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        return features + self.scale * (F.pad(x, (0, 0, 1, -1)) - x), last


class BehindZeroGain(Leaky):
    """A branch that looks ahead, behind a gain that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(WIDTH))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = super().step(x, state)
        return features + self.gain * x, state

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        return features + self.gain * (F.pad(x[:, 1:], (0, 0, 0, 1)) - x), last


# ---------------------------------------------------------------------------------------------------- resets


class ResetsEarly(Leaky):
    """Each reset comes a step early."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, None if is_first is None else F.pad(is_first[:, 1:], (0, 1)), return_state)


class ResetsLate(Leaky):
    """Each reset comes a step late."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, None if is_first is None else F.pad(is_first[:, :-1], (1, 0)), return_state)


class ResetAtZeroLost(LSTM):
    """A reset at the first step of a call is taken to be there already."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, None if is_first is None else F.pad(is_first[:, 1:], (1, 0)), return_state)


class ResetAtLastStepLost(LSTM):
    """A reset at the last step of a call is lost."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, None if is_first is None else F.pad(is_first[:, :-1], (0, 1)), return_state)


class AdjacentResetLost(LSTM):
    """Of two resets in a row only the first counts."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        edges = None if is_first is None else is_first & ~F.pad(is_first[:, :-1], (1, 0))
        return super().scan(x, state, edges, return_state)


class OnlyFirstResetCounts(Chunks):
    """One reset per row and call."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        once = None if is_first is None else is_first & (is_first.cumsum(dim=1) == 1)
        return super().scan(x, state, once, return_state)


class ResetEveryStepSkipped(Leaky):
    """A mask that is True everywhere is taken for none."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, None if is_first is None or is_first.all() else is_first, return_state)


class PartialReset(LSTM):
    """A reset clears h and keeps c."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        state, features = self.initial_state(len(x)) if state is None else state, []
        for t in range(x.shape[1]):
            if is_first is not None:
                state = (torch.where(is_first[:, t, None], 0.0, state[0]), state[1])
            feature, state = self.step(x[:, t], state)
            features.append(feature)
        return torch.stack(features, dim=1), state if return_state else None


class ForgetsStart(Leaky):
    """A reset puts zeros, where the learned start belongs."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        state, features = self.initial_state(len(x)) if state is None else state, []
        for t in range(x.shape[1]):
            if is_first is not None and t > 0:
                state = (torch.where(is_first[:, t, None], 0.0, state[0]),)
            elif is_first is not None:
                state = tree.where(is_first[:, t], self.initial_state(len(x)), state)
            feature, state = self.step(x[:, t], state)
            features.append(feature)
        return torch.stack(features, dim=1), state if return_state else None


class ResetByMultiplication(LSTM):
    """The state is multiplied by zero, which leaves a NaN what it is."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        state, features = self.initial_state(len(x)) if state is None else state, []
        for t in range(x.shape[1]):
            if is_first is not None:
                kept = (~is_first[:, t, None]).to(state[0].dtype)
                state = (state[0] * kept, state[1] * kept)
            feature, state = self.step(x[:, t], state)
            features.append(feature)
        return torch.stack(features, dim=1), state if return_state else None


class ResetByMaskedWeights(Chunks):
    """One chunk with a mask of the episodes: a NaN behind a reset counts zero times, and is still a NaN."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        if is_first is None:
            return super().scan(x, state, is_first, return_state)
        memory = (self.initial_state(len(x)) if state is None else state)["memory"]
        q, k, v = self.project(x).to(memory.dtype).chunk(3, dim=-1)
        episode, steps = is_first.cumsum(dim=1), torch.arange(x.shape[1])
        with exact(x):
            decay, between = torch.sigmoid(self.decay), steps[:, None] - steps
            same = (episode[:, :, None] == episode[:, None]).to(x.dtype)
            old = decay ** (steps[:, None] + 1) * (episode == 0)[:, :, None]
            features = (q @ k.mT * (decay ** between.clamp(min=0)).tril() * same) @ v + old * (q @ memory)
            memory = old[:, -1:] * memory + (k * (decay ** between[-1, :, None]) * same[:, -1, :, None]).mT @ v
        return features, {"memory": memory} if return_state else None


class ResetDetachesStart(Leaky):
    """The learned start that a reset puts in does not learn from it."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        fresh, features = tree.detach(self.initial_state(len(x))), []
        state = self.initial_state(len(x)) if state is None else state
        for t in range(x.shape[1]):
            state = state if is_first is None else tree.where(is_first[:, t], fresh, state)
            feature, state = self.step(x[:, t], state)
            features.append(feature)
        return torch.stack(features, dim=1), state if return_state else None


class ResetOfOneResetsAll(LSTM):
    """A reset of one row resets every row."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        every = None if is_first is None else is_first.any(dim=0).expand_as(is_first)
        return super().scan(x, state, every, return_state)


class ResetsOfRowZero(LSTM):
    """The resets of the first row are everybody's."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, None if is_first is None else is_first[:1].expand_as(is_first), return_state)


class ResetMissesFeatures(Leaky):
    """A reset changes the state, but the features of its step still see the old one."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        fresh, features = self.initial_state(len(x)), []
        state = fresh if state is None else state
        for t in range(x.shape[1]):
            feature, after = self.step(x[:, t], state)
            features.append(feature)
            if is_first is not None:
                after = tree.where(is_first[:, t], self.step(x[:, t], fresh)[1], after)
            state = after
        return torch.stack(features, dim=1), state if return_state else None


class BehindALoudChannel(Leaky):
    """One channel of the features is 1e5 times the others, in which resets are ignored."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = super().step(x, state)
        return features * torch.tensor([1e5, *[1] * (WIDTH - 1)], dtype=features.dtype), state

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        others, ignorant = super().scan(x, state, None, return_state)
        loud = torch.arange(WIDTH) == 0
        last = (torch.where(loud, last[0], ignorant[0]),) if return_state else None
        return torch.where(loud, features, others), last


# ------------------------------------------------------------------------------------------------------ rows


class FreshOnlyIfAllRowsAre(LSTM):
    """A first step is one where every row of the batch is fresh."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(2 * x if torch.all(state[1] == 0) else x, state)


class InitialStateKnowsBatchSize(LSTM):
    """The start is shared out among the rows."""

    def initial_state(self, batch_size: int) -> State:
        h, c = super().initial_state(batch_size)
        return h, c + 1 / batch_size


class InitialStateDiffersByRow(LSTM):
    """Every row starts somewhere else."""

    def initial_state(self, batch_size: int) -> State:
        h, c = super().initial_state(batch_size)
        return h, c + 0.1 * torch.arange(batch_size)[:, None]


class RandomStart(LSTM):
    """Every call starts somewhere else."""

    def initial_state(self, batch_size: int) -> State:
        h, c = super().initial_state(batch_size)
        return h, 0.3 * torch.randn_like(c)


class SingleRowIsAnother(LSTM):
    """A batch of one row is squeezed, and what is left of it scaled."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = super().step(x, state)
        return features * (2 if len(x) == 1 else 1), state


class SingleRowIgnoresResets(LSTM):
    """A batch of one row, as an agent has it, never resets."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, None if len(x) == 1 else is_first, return_state)


class LargeBatchMixesRows(LSTM):
    """More than eight rows are worked off in two halves, and put together the wrong way round."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = super().step(x, state)
        return features.roll(len(x) // 2, dims=0) if len(x) > 8 else features, state


class LargeBatchLeaks(Leaky):
    """From sixteen rows on, the mean of the batch leaks into every row."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = super().step(x, state)
        return features + 0.1 * x.mean(dim=0) if len(x) >= 16 else features, state


class RollsRows(LSTM):
    """`scan` hands each row the last state of its neighbour."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        return features, tree.map_tree(lambda leaf: leaf.roll(1, dims=0), last) if return_state else None


class AttendsAcrossRows(Attention):
    """A (B, D) step read as a sequence of B."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = super().step(x, state)
        return features + (self.query(x) @ self.key(x).mT).softmax(-1) @ x, state


class SeesLastRow(Leaky):
    """Reads the last row of the batch in every row."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = super().step(x, state)
        return features + x[-1:], state


# ------------------------------------------------------------------------------------------------- gradients


class UnusedParameter(Leaky):
    """A layer that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(WIDTH, WIDTH)


class DetachesState(Leaky):
    """No gradient flows from step to step."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, tree.detach(state))


class DropsCellEverywhere(LSTM):
    """The cell is kept in the state and never read."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, (state[0], torch.zeros_like(state[1])))


class PackedDropsCell(PackedLSTM):
    """Half of the leaf is never read."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, torch.cat([state[:, :WIDTH], torch.zeros_like(state[:, WIDTH:])], dim=-1))


class StackedLayersIndexBug(Stacked):
    """Both layers read the weights of the first: half of a parameter never trains."""

    def of_layer(self, layer: int) -> Tensor:
        return self.weight[0]


class StackedReadsOneState(Stacked):
    """The second layer reads the state of the first: half of a leaf is never read."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, {"layers": state["layers"][:, [0, 0]]})


class WrongTanh(torch.autograd.Function):
    """tanh, with a derivative that forgot a square."""

    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (1 - ctx.saved_tensors[0].abs())


class WrongCustomBackward(Leaky):
    """A backward pass written by hand, and wrong."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        _, (h,) = super().step(x, state)
        return WrongTanh.apply(h), (h,)


class WrongBackwardOfScan(Leaky):
    """The gradient through `scan` alone is half of what it should be."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        return (features + features.detach()) / 2, last


class ScalesGradient(LSTM):
    """The gradient through time is halved at every step, the values are not."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, tree.map_tree(lambda leaf: (leaf + leaf.detach()) / 2, state))


class RootOfZero(Leaky):
    """The length of a state that starts at zero has no gradient there: NaN from the first update on."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, new = super().step(x, state)
        return features + state[0].square().sum(dim=-1, keepdim=True).sqrt(), new


class ForeignGroup(Leaky):
    """A parameter group with a parameter of something else."""

    def __init__(self) -> None:
        super().__init__()
        self.others = [nn.Linear(WIDTH, WIDTH).weight]

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup("slow", (self.rate, *self.others), lr=1e-4)]


class ParameterInTwoGroups(Leaky):
    """One parameter, two learning rates."""

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup("slow", (self.rate, self.start), lr=1e-4), ParameterGroup("fast", (self.rate,), lr=1.0)]


# ---------------------------------------------------------------------------------------------------- saving


class Unsaved(Leaky):
    """A random gain that is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.rand(WIDTH)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x * self.gain.to(x), state)


class UnsavedBuffer(Leaky):
    """A random projection in a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.rand(WIDTH), persistent=False)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x * self.gain, state)


class HandleState(Leaky):
    """The state is the number of a row in a table that the module keeps."""

    def __init__(self) -> None:
        super().__init__()
        del self.start
        self.table: dict[int, Tensor] = {}

    def keep(self, rows: Tensor) -> State:
        first = len(self.table)
        self.table |= {first + i: row for i, row in enumerate(rows.detach())}
        return {"row": torch.arange(first, first + len(rows))}

    def initial_state(self, batch_size: int) -> State:
        return self.keep(self.rate.new_zeros(batch_size, WIDTH))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        nothing = self.rate.new_zeros(WIDTH)
        rows = torch.stack([self.table.get(row, nothing).to(nothing) for row in state["row"].tolist()])
        features, (h,) = super().step(x, (rows,))
        return features, self.keep(h)


class HandleStateCanonical(HandleState):
    """The same with numbers that depend on what the row holds, so that equal states have equal numbers."""

    def keep(self, rows: Tensor) -> State:
        kept = {self.number(row): row for row in rows.detach()}
        self.table |= kept
        return {"row": torch.tensor([self.number(row) for row in rows.detach()])}

    def number(self, row: Tensor) -> int:
        text = " ".join(f"{value:.4e}" for value in row.tolist())
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest())


# ---------------------------------------------------------------------------------------------- what is written


class WritesState(Leaky):
    """The caller's state is halved in place."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        with torch.no_grad():
            state[0].mul_(0.5)
        return super().step(x, state)


class InPlaceUnderGrad(Leaky):
    """The caller's state is cleared, behind autograd's back, only while gradients are on."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, new = super().step(x, tree.map_tree(Tensor.clone, state))
        if torch.is_grad_enabled():
            state[0].data.zero_()
        return features, new


class WritesIsFirst(LSTM):
    """The caller's mask loses its first step."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        mask = None if is_first is None else is_first.clone()
        if is_first is not None:
            is_first[:, 0] = False
        return super().scan(x, state, mask, return_state)


class WritesInputs(Leaky):
    """Without gradients, inputs are normalised where they are."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        if not torch.is_grad_enabled():
            x.mul_(0.5)
        return features, last


class StateIsParameter(Leaky):
    """The state holds a view of a parameter, which the next update of the optimiser changes."""

    def initial_state(self, batch_size: int) -> State:
        return *super().initial_state(batch_size), self.rate.expand(batch_size, -1)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = state[1] * state[0] + self.mix(x).to(self.rate.dtype)
        return torch.tanh(h), (h, self.rate.expand(len(x), -1))


class StateIsInput(Leaky):
    """The last input is kept as it came, not a copy of it."""

    def initial_state(self, batch_size: int) -> State:
        return *super().initial_state(batch_size), self.rate.new_zeros(batch_size, WIDTH)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, (h,) = super().step((x + state[1]) / 2, (state[0],))
        return features, (h, x.to(self.rate.dtype))


class HoldsWholeSequence(Leaky):
    """The last state is a view of the states of every step."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        fresh = self.initial_state(len(x))
        state, states = fresh if state is None else state, []
        for t in range(x.shape[1]):
            state = state if is_first is None else tree.where(is_first[:, t], fresh, state)
            _, state = self.step(x[:, t], state)
            states.append(state[0])
        whole = torch.stack(states, dim=1)
        return torch.tanh(whole), (whole[:, -1],) if return_state else None


class RowsKnowTheirPlace(LSTM):
    """Each row of the state holds its place in the batch, and is looked up by it."""

    def initial_state(self, batch_size: int) -> State:
        return *super().initial_state(batch_size), torch.arange(batch_size)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c, place = state
        features, (h, c) = super().step(x, (h[place % len(x)], c[place % len(x)]))
        return features, (h, c, place)


# ------------------------------------------------------------------------------------------- strides of tensors


class NeedsContiguousState(Leaky):
    """The state is flattened by `view`."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, (state[0].view(-1).reshape(-1, WIDTH),))


class NeedsTimeContiguous(Leaky):
    """The inputs of `scan` are flattened by `view`."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x.view(-1, WIDTH).reshape(x.shape), state, is_first, return_state)


class ReadsMemoryInOrder(LSTM):
    """The inputs of `scan` are read as they lie in memory, as a kernel does that is given no strides."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x.as_strided(x.shape, (x.shape[1] * WIDTH, WIDTH, 1)), state, is_first, return_state)


# ------------------------------------------------------------------------------------------ traces of earlier calls


class StaleWeights(Leaky):
    """Without gradients, a copy of the weights is used that no update reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = None

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if torch.is_grad_enabled():
            return super().step(x, state)
        self.kept = self.rate.clone() if self.kept is None else self.kept
        h = self.kept * state[0] + self.mix(x).to(self.rate.dtype)
        return torch.tanh(h), (h,)


class StaleStart(Leaky):
    """The start is worked out once, without gradients, and kept."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = None

    def initial_state(self, batch_size: int) -> State:
        if torch.is_grad_enabled():
            return super().initial_state(batch_size)
        self.kept = self.start.clone() if self.kept is None else self.kept
        return (self.kept.repeat(batch_size, 1),)


class TablesOutliveTheirBlock(Leaky):
    """What `prepared` computed is used after the block too."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = None

    @contextlib.contextmanager
    def prepared(self):
        if not torch.is_grad_enabled() and self.kept is None:
            self.kept = self.rate.clone()
        yield

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        rate = self.rate if self.kept is None or torch.is_grad_enabled() else self.kept
        h = rate * state[0] + self.mix(x).to(self.rate.dtype)
        return torch.tanh(h), (h,)


class RemembersBatchSize(LSTM):
    """The batch size of the first call is taken for that of all."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        self.rows = self.rows or len(x)
        features, state = super().step(x, state)
        return features * (len(x) / self.rows), state


class KernelOfFirstCall(Leaky):
    """A kernel as long as the first call is used for all: a longer one starts afresh where it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.cap = 0

    def scan(self, x, state=None, is_first=None, return_state=True):
        self.cap = self.cap or x.shape[1]
        parts, last = [], state
        for i, part in enumerate(x.split(self.cap, dim=1)):
            mask = None if is_first is None else is_first.split(self.cap, dim=1)[i]
            features, last = super().scan(part, last if i == 0 else None, mask)
            parts.append(features)
        return torch.cat(parts, dim=1), last if return_state else None


class HiddenMemory(Leaky):
    """A call without a state continues where the call before it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.past = None

    def scan(self, x, state=None, is_first=None, return_state=True):
        if state is None and self.past is not None and self.past[0].shape[0] == len(x):
            state = tree.map_tree(lambda leaf: leaf.to(self.rate), self.past)
        features, last = super().scan(x, state, is_first)
        self.past = tree.map_tree(lambda leaf: leaf.detach().clone(), last)
        return features, last if return_state else None


class RunningStatistics(Leaky):
    """Features are centred by a running mean that is followed in eval() too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(WIDTH))

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        self.mean = torch.lerp(self.mean, features.detach().mean(dim=(0, 1)).to(self.mean), 0.1)
        return features - self.mean, last


class RewritesParameter(Leaky):
    """A parameter is put back where it belongs at every call."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        with torch.no_grad():
            self.rate.clamp_(0, 1)
        return super().scan(x, state, is_first, return_state)


class GrowsWithLength(Leaky):
    """The kernel of a long call is kept as a buffer for the next one."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        self.register_buffer("kernel", self.rate.detach()[:, None] ** torch.arange(x.shape[1]), persistent=False)
        return super().scan(x, state, is_first, return_state)


class StaticOutput(LSTM):
    """Without gradients, calls of one shape write their features to the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[object, Tensor] = {}

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        if not torch.is_grad_enabled():
            place = self.outputs.setdefault((features.shape, features.dtype), torch.empty_like(features))
            features = place.copy_(features)
        return features, last


class StaticState(Leaky):
    """Without gradients, every step writes its state to the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[object, Tensor] = {}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, (h,) = super().step(x, state)
        if not torch.is_grad_enabled():
            h = self.places.setdefault((h.shape, h.dtype), torch.empty_like(h)).copy_(h)
        return features, (h,)


class KeepsGraph(Leaky):
    """A term of the loss is left on the module, graph and all: it cannot be copied after a call."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        self.balance = features.square().mean()
        return features, last


class NoiseInEval(Leaky):
    """Dropout that eval() does not switch off."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(F.dropout(x, 0.2, training=True), state)


class ConsumesGlobalRandomness(LSTM):
    """A random number is drawn in eval() and thrown away."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        torch.rand(())
        return super().scan(x, state, is_first, return_state)


class Reseeds(LSTM):
    """A fixed random projection is drawn anew at each call, by seeding the generator of everybody."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        torch.manual_seed(0)
        return super().step(x * (1 + 0.1 * torch.rand(WIDTH)).to(x), state)


# ----------------------------------------------------------------------------------------------------- autocast


class Mixed(Leaky):
    """All of the recurrence is left to autocast."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = F.linear(state[0], torch.diag(self.rate)) + self.mix(x)
        return torch.tanh(h), (h.to(state[0].dtype),)


class AutocastIgnoresResets(LSTM):
    """The path for autocast knows no resets."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, None if lowered(x) else is_first, return_state)


class AutocastIgnoresState(Leaky):
    """The path for autocast starts afresh."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, None if lowered(x) else state, is_first, return_state)


class RoundedWithResets(Leaky):
    """Under autocast, the path for resets returns a state of 16 bits."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        return features, rounded(last) if return_state and lowered(x) and is_first is not None else last


class RoundedHalfOfLeaf(PackedLSTM):
    """Under autocast, the cell is rounded to 16 bits, the output beside it in the same leaf is not."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, new = super().step(x, state)
        return features, torch.cat([new[:, :WIDTH], rounded(new[:, WIDTH:])], dim=-1) if lowered(x) else new


class HalfAccumulatorUnderAutocast(Leaky):
    """Under autocast, the sum is rounded to float16 at every step."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, new = super().step(x, state)
        return features, rounded(new, torch.float16) if lowered(x) else new


class HalfAccumulator(Leaky):
    """The sum is rounded to float16 at every step, with autocast or without."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, new = super().step(x, state)
        return features, rounded(new, torch.float16)


class RoundedFreshScan(Chunks):
    """Products of one chunk are left to autocast: after a fresh scan all of the memory has 16 bits."""

    CHUNK = 128

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, new = super().chunk(x, state)
        if lowered(x):
            grown = new["memory"] - torch.sigmoid(self.decay) ** x.shape[1] * state["memory"]
            new = {"memory": new["memory"] - grown + rounded(grown)}
        return features, new


class LoudUnderAutocast(LSTM):
    """Scores are scaled by the precision they are computed in."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = super().step(x, state)
        return features * (2 if lowered(x) else 1), state


class CrashesUnderAutocast(Leaky):
    """A solver that 16 bits do not have."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        products = self.mix.weight @ self.mix.weight.mT
        x = torch.linalg.solve_triangular(products, x.to(products.dtype).mT, upper=False, unitriangular=True).mT
        return super().step(x, state)


# ------------------------------------------------------------------------------ what is no backbone to begin with


class Cache:
    """Something with tensors inside."""

    def __init__(self, h: Tensor) -> None:
        self.h = h


class CacheObject(Leaky):
    """A leaf of the state is an object."""

    def initial_state(self, batch_size: int) -> State:
        return {"cache": Cache(super().initial_state(batch_size)[0])}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, (h,) = super().step(x, (state["cache"].h,))
        return features, {"cache": Cache(h)}


@dataclasses.dataclass
class Slots:
    """A state with names."""

    h: Tensor


class DataclassState(Leaky):
    """The state is a dataclass."""

    def initial_state(self, batch_size: int) -> State:
        return Slots(super().initial_state(batch_size)[0])

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, (h,) = super().step(x, (state.h,))
        return features, Slots(h)


class NoState(Leaky):
    """The initial state is None."""

    def initial_state(self, batch_size: int) -> State:
        return None

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, (self.start.repeat(len(x), 1),) if state is None else state)


class NoneInState(Leaky):
    """A slot of the state is None until there is something to keep."""

    def initial_state(self, batch_size: int) -> State:
        return {"h": super().initial_state(batch_size)[0], "past": None}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, (h,) = super().step(x, (state["h"],))
        return features, {"h": h, "past": x}


class PythonInt(Leaky):
    """The position is a Python int."""

    def initial_state(self, batch_size: int) -> State:
        return {"h": super().initial_state(batch_size)[0], "position": 0}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, (h,) = super().step(x, (state["h"],))
        return features, {"h": h, "position": state["position"] + 1}


class NotBatchFirst(Leaky):
    """The state is (layers, B, D), as torch.nn.LSTM has it."""

    def initial_state(self, batch_size: int) -> State:
        return super().initial_state(batch_size)[0][None]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, (h,) = super().step(x, (state[0],))
        return features, h[None]


class NoBatchAxis(Leaky):
    """The state is one row, whatever the batch."""

    def initial_state(self, batch_size: int) -> State:
        return super().initial_state(1)


class ScalarCounter(Positions):
    """One position for all rows, without a batch axis."""

    def initial_state(self, batch_size: int) -> State:
        return super().initial_state(batch_size)[0], torch.zeros((), dtype=torch.int64)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, (h, _) = super().step(x, (state[0], state[1].expand(len(x))))
        return features, (h, state[1] + 1)


class ComplexState(Leaky):
    """The state is complex."""

    def initial_state(self, batch_size: int) -> State:
        h = super().initial_state(batch_size)[0]
        return (torch.complex(h, h),)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, (h,) = super().step(x, (state[0].real,))
        return features, (torch.complex(h, state[0].imag),)


class OtherPrecision(Leaky):
    """The state starts in double precision."""

    def initial_state(self, batch_size: int) -> State:
        return (super().initial_state(batch_size)[0].double(),)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, (h,) = super().step(x, state)
        return features.to(x.dtype), (h,)


class ChangesPrecision(Leaky):
    """The state becomes one of half precision after a step."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, (h,) = super().step(x, (state[0].to(self.rate.dtype),))
        return features, (h.half(),)


class FeaturesOfOtherPrecision(Leaky):
    """Features are in double precision."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = super().step(x, state)
        return features.double(), state


class ListThenTuple(Leaky):
    """The state begins as a list, and a step makes it a tuple."""

    def initial_state(self, batch_size: int) -> State:
        return list(super().initial_state(batch_size))


class ScanHasAnotherState(LSTM):
    """`scan` returns h alone."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        return features, last[0] if return_state else None


class GrowingCache(Attention):
    """The cache grows by a position at each step."""

    def initial_state(self, batch_size: int) -> State:
        return [self.query.weight.new_zeros(batch_size, 1, WIDTH)]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, (window,) = super().step(x, [F.pad(state[0], (0, 0, 1, 0))])
        return features, [window]


class StepWithoutState(Leaky):
    """`step` returns the features alone."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(x, state)[0]


class ScanWithoutState(Leaky):
    """`scan` never returns a state."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, is_first, return_state)[0], None


class ScanRefusesReturnState(Leaky):
    """`scan` has no argument `return_state`."""

    def scan(self, x, state=None, is_first=None):
        return super().scan(x, state, is_first)


class ScanRefusesResets(Leaky):
    """`scan` has no argument `is_first`."""

    def scan(self, x, state=None, return_state=True):
        return super().scan(x, state, None, return_state)


class TimeFirst(LSTM):
    """Features of `scan` are (T, B, D)."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        return features.transpose(0, 1), last


class NarrowFeatures(Leaky):
    """Features have one channel less than announced."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim = WIDTH + 1


class UnknownPosterior(Leaky):
    """A posterior that does not exist."""

    default_posterior = "filter"


class GroupsAreDicts(Leaky):
    """Parameter groups as torch.optim takes them."""

    def parameter_groups(self):
        return [{"params": [self.rate], "lr": 1e-4}]


# ------------------------------------------------------- what trains: whole episodes, truncated backpropagation


class WholeEpisodesLoseLaterResets(LSTM):
    """Where every row begins at the first step, nobody looks for another reset."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        if is_first is not None and len(x) > 1 and bool(is_first[:, 0].all()):
            state = is_first = None
        return super().scan(x, state, is_first, return_state)


class LastRowNeverResets(LSTM):
    """The loop over rows ends one early."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        if is_first is not None and len(x) > 1:
            is_first = torch.cat([is_first[:-1], torch.zeros_like(is_first[-1:])])
        return super().scan(x, state, is_first, return_state)


class TruncatedForgetsInTrain(LSTM):
    """In train(), windows of more than 32 steps with a state, resets and gradients begin afresh."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        if self.training and is_first is not None and return_state and x.shape[1] > 32 and torch.is_grad_enabled():
            state = None
        return super().scan(x, state, is_first, return_state)


class StatelessWindowsForget(LSTM):
    """The same where no last state is wanted and a chunk begins with a reset."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        if is_first is not None and not return_state and x.shape[1] > 16 and bool(is_first[:, 16].any()):
            state = None
        return super().scan(x, state, is_first, return_state)


class NoResetAtAllForgets(LSTM):
    """An `is_first` without a True takes a path of its own, which leaves the last step out of the state."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        if is_first is not None and not is_first.any() and x.shape[1] > 8 and return_state:
            last = super().scan(x[:, :-1], state)[1]
        return features, last


class ViewsResets(LSTM):
    """`is_first` is taken to be contiguous."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        kept = None if is_first is None else is_first.view(-1).view(x.shape[:2])
        return super().scan(x, state, kept, return_state)


class BlockIgnoresResets(Leaky):
    """Inside `prepared`, where a model's calls always are, nothing resets."""

    inside = 0

    @contextlib.contextmanager
    def prepared(self):
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, None if self.inside else is_first, return_state)


class LaterResetKeepsNaN(Leaky):
    """What came in is multiplied by zero from a reset on, unless that is at the first step."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        if state is None or is_first is None:
            return super().scan(x, state, is_first, return_state)
        fresh = self.initial_state(len(x))
        state = tree.where(is_first[:, 0], fresh, state)
        features = []
        for t in range(x.shape[1]):
            kept = 1.0 - is_first[:, t, None].to(state[0].dtype) if t else 1.0
            state = (state[0] * kept + fresh[0] * (1 - kept),)
            feature, state = self.step(x[:, t], state)
            features.append(feature)
        return torch.stack(features, dim=1), state if return_state else None


class DropoutHidesLostResets(LSTM):
    """Inputs are dropped out by a function, and in train() nothing resets."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().step(F.dropout(x, 0.1, self.training), state)

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, state, None if self.training else is_first, return_state)


class ForgetsBehind128(LSTM):
    """In train(), calls of more than 128 steps are checkpointed in segments that begin afresh."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        if not self.training or x.shape[1] <= 128 or is_first is not None:
            return super().scan(x, state, is_first, return_state)
        first, _ = super().scan(x[:, :128], state)
        rest, last = super().scan(x[:, 128:])
        return torch.cat([first, rest], dim=1), last if return_state else None


class ResetAtStartOfChunk128Lost(ResetAtChunkStartLost):
    """The first step of a chunk of 128 steps."""

    CHUNK = 128


class MultiplesOfEightMixRows(LSTM):
    """The path for eight rows at a time puts them back in another order."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        if len(x) > 8 and len(x) % 8 == 0:
            features = features.unflatten(0, (8, -1)).transpose(0, 1).flatten(0, 1)
        return features, last


class FrozenStopsGradients(LSTM):
    """Where the parameters are frozen, as for a policy that learns in imagination, no gradient is kept at all."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.gates.weight.requires_grad):
            return super().step(x, state)


class StartOfRowZeroLearns(Leaky):
    """The learned start gets the gradient of the first row alone."""

    def initial_state(self, batch_size: int) -> State:
        return (torch.cat([self.start[None], self.start.detach().repeat(batch_size - 1, 1)]),)


class TrainableIsNoParameter(Leaky):
    """A tensor that wants a gradient, which no optimiser is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.ones(WIDTH, requires_grad=True)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = super().step(x, state)
        return features * self.gain.to(features.dtype), state


class TableOfInferenceMode(Attention):
    """A table made in the first call: where that was under inference mode, no gradient can pass it."""

    table: Tensor | None = None

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if self.table is None:
            self.table = torch.linspace(1, 2, WIDTH, dtype=x.dtype, device=x.device)
        return super().step(x * self.table.to(x), state)


class RescalesInEval(Leaky):
    """eval() halves the weights, and train() does not double them."""

    def train(self, mode: bool = True):
        if self.training and not mode:
            with torch.no_grad():
                self.mix.weight.div_(2)
        return super().train(mode)


class KeepsHistory(LSTM):
    """A list with the features of every call."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Tensor] = []

    def scan(self, x, state=None, is_first=None, return_state=True):
        features, last = super().scan(x, state, is_first, return_state)
        self.history.append(features.detach())
        return features, last


class NeedsFullInputs(LSTM):
    """A cell kept out of autocast whose inputs are not cast: in training they are bf16."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        with exact(x):
            return super().step(F.linear(x, torch.eye(WIDTH).to(self.gates.weight)), state)


class NoGradientUnderAutocast(LSTM):
    """An engine for evaluation is taken wherever autocast is on."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        with torch.set_grad_enabled(torch.is_grad_enabled() and not lowered(x)):
            return super().scan(x, state, is_first, return_state)


class SecondChunkForgetsUnderAutocast(Chunks):
    """Under autocast each chunk begins afresh."""

    def enter(self, state: State, fresh: State, is_first: Tensor | None, start: int) -> State:
        state = super().enter(state, fresh, is_first, start)
        return fresh if start and start % self.CHUNK == 0 and lowered(state["memory"]) else state


class StateTakesPrecisionOfInputs(LSTM):
    """The state is kept in the precision of the inputs, which is bf16 in training."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, last = super().step(x, state)
        return features, tree.map_tree(lambda leaf: leaf.to(x.dtype), last)


class StateLostUnderAutocast(LSTM):
    """Under autocast, calls of more than 16 steps take a path that begins afresh."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        return super().scan(x, None if lowered(x) and x.shape[1] > 16 else state, is_first, return_state)


class SetsPrecisionOfProducts(LSTM):
    """Products of everybody else are rounded from the first call on."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        torch.set_float32_matmul_precision("medium")
        return super().scan(x, state, is_first, return_state)


class StaysOnTheCPU(LSTM):
    """An initial state made without a device."""

    def initial_state(self, batch_size: int) -> State:
        h, c = torch.zeros(2, batch_size, WIDTH, dtype=self.gates.weight.dtype)
        return h, c


# --------------------------------------------------------------------------------------- no backbone, continued


class LossPerRow(Leaky):
    """`add_loss` is given a number for each row."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = super().step(x, state)
        self.add_loss("balance", features.square().mean(-1))
        return features, state


class UpdateCrashes(Leaky):
    """`after_update` reads a copy that was never made."""

    def after_update(self) -> None:
        self.slow.lerp_(self.rate, 0.01)


class ComplexParameter(Leaky):
    """A parameter whose imaginary part a conversion drops."""

    def __init__(self) -> None:
        super().__init__()
        self.poles = nn.Parameter(torch.ones(WIDTH, dtype=torch.complex64))


class ComparesNothing(Leaky):
    """`comparable_state` forgets to return."""

    def comparable_state(self, state: State) -> State:
        tree.map_tree(torch.abs, state)


class ComparesZeros(Leaky):
    """`comparable_state` clears the state that it is shown."""

    def comparable_state(self, state: State) -> State:
        return (state[0].zero_(),)


class PathsAsText(Leaky):
    """One path instead of a tuple of them."""

    not_differentiable = "[0]"


class PathWithoutBrackets(Leaky):
    """A leaf by its name instead of its path."""

    not_differentiable = ("count",)


class SwappedArguments(Leaky):
    """`return_state` comes before `is_first`."""

    def scan(self, x, state=None, return_state=True, is_first=None):
        return super().scan(x, state, is_first, return_state)


class LazyLayer(Leaky):
    """A layer whose shape the first call decides."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.LazyLinear(WIDTH)


class PreparedIsGenerator(Leaky):
    """`prepared` without its decorator."""

    def prepared(self):
        yield


class BareAssert(Leaky):
    """A failure that does not say what it is about."""

    def scan(self, x, state=None, is_first=None, return_state=True):
        if state is None:
            raise AssertionError
        return super().scan(x, state, is_first, return_state)


Cell = collections.namedtuple("Cell", "h c")


class NamedTuple(LSTM):
    """A class of its own for the state, which torch.load refuses."""

    def initial_state(self, batch_size: int) -> State:
        return Cell(*super().initial_state(batch_size))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, last = super().step(x, state)
        return features, Cell(*last)


MALFORMED: list[tuple[type[Backbone], str]] = [
    (CacheObject, "Cache"),
    (DataclassState, "Slots"),
    (NoState, "None"),
    (NoneInState, "past"),
    (PythonInt, "position"),
    (NotBatchFirst, "initial_state"),
    (NoBatchAxis, "initial_state"),
    (ScalarCounter, "initial_state"),
    (ComplexState, "complex"),
    (OtherPrecision, "float64"),
    (ChangesPrecision, "float16"),
    (FeaturesOfOtherPrecision, "float64"),
    (ListThenTuple, "step"),
    (ScanHasAnotherState, "scan"),
    (GrowingCache, "step"),
    (StepWithoutState, "step"),
    (ScanWithoutState, "scan"),
    (ScanRefusesReturnState, "return_state"),
    (ScanRefusesResets, "is_first"),
    (TimeFirst, "scan"),
    (NarrowFeatures, "feature_dim"),
    (UnknownPosterior, "filter"),
    (GroupsAreDicts, "parameter_groups"),
    (LossPerRow, "add_loss('balance', ...): expected a scalar"),
    (UpdateCrashes, "after_update() raised AttributeError"),
    (ComplexParameter, "parameter poles is torch.complex64"),
    (ComparesNothing, "comparable_state(state): state is None"),
    (ComparesZeros, "comparable_state(state) wrote to state[0]"),
    (PathsAsText, "expected a tuple of paths"),
    (PathWithoutBrackets, "'count', expected paths of the state's leaves, of which it has '[0]'"),
    (SwappedArguments, "scan takes (x, state, return_state, is_first)"),
    (LazyLayer, "parameter last.weight has no shape yet"),
    (PreparedIsGenerator, "contextlib.contextmanager"),
    (BareAssert, "test_broken_backbones.py"),
    (NamedTuple, "a Cell, which torch.load refuses in a saved state, expected a tensor, or a dict, list or tuple"),
]
"""What the diagnosis refuses before any law, and a word that it has to say."""

BROKEN: list[tuple[type[Backbone], int]] = [
    (StatelessIgnoresResets, 4),
    (StatelessIgnoresState, 1),
    (StatelessLosesGradient, 1),
    (StatelessNoGradAtAll, 1),
    (FreshScanIgnoresResets, 4),
    (ResetsOnlyFromFresh, 4),
    (ResetsForgetState, 4),
    (ExplicitStartDiffers, 1),
    (PartlyFreshStateDiffers, 1),
    (ScanDetachesState, 1),
    (IgnoresState, 2),
    (FutureInTrain, 3),
    (NoResetInTrain, 4),
    (BatchNormInTrain, 5),
    (BufferWrittenInTrain, 9),
    (DetachesInTrain, 6),
    (GradientOnlyInTrain, 1),
    (ResetsOnlyInFirstChunk, 4),
    (ResetAtChunkStartLost, 4),
    (ResetAtLargeChunkStartLost, 4),
    (DetachesBetweenChunks, 1),
    (WrongLastStateAtMultiples, 1),
    (CrashesAtMultiples, 1),
    (WrapsAtLongPowersOfTwo, 1),
    (WrapsAround, 3),
    (LongCarryFades, 1),
    (OneStepIgnoresReset, 4),
    (OneStepKeepsState, 1),
    (DividesByLength, 1),
    (ForgetsAfter200, 9),
    (PositionTable, 9),
    (OtherEngineWithoutGradients, 1),
    (OtherEngineWithGradients, 1),
    (OtherStepInABlock, 1),
    (RestartsPositions, 2),
    (DropsCell, 2),
    (SegmentsOfACall, 2),
    (LooksAhead, 3),
    (MaskOffByOne, 3),
    (CentresOverTime, 3),
    (BehindLayerScale, 1),
    (BehindZeroGain, 3),
    (ResetsEarly, 4),
    (ResetsLate, 4),
    (ResetAtZeroLost, 4),
    (ResetAtLastStepLost, 4),
    (AdjacentResetLost, 4),
    (OnlyFirstResetCounts, 4),
    (ResetEveryStepSkipped, 4),
    (PartialReset, 4),
    (ForgetsStart, 4),
    (ResetByMultiplication, 4),
    (ResetByMaskedWeights, 4),
    (ResetDetachesStart, 4),
    (ResetOfOneResetsAll, 4),
    (ResetsOfRowZero, 4),
    (ResetMissesFeatures, 4),
    (BehindALoudChannel, 4),
    (FreshOnlyIfAllRowsAre, 5),
    (InitialStateKnowsBatchSize, 5),
    (InitialStateDiffersByRow, 5),
    (RandomStart, 5),
    (SingleRowIsAnother, 5),
    (SingleRowIgnoresResets, 4),
    (LargeBatchMixesRows, 5),
    (LargeBatchLeaks, 5),
    (RollsRows, 5),
    (AttendsAcrossRows, 5),
    (SeesLastRow, 5),
    (UnusedParameter, 6),
    (DetachesState, 6),
    (DropsCellEverywhere, 6),
    (WrongCustomBackward, 6),
    (WrongBackwardOfScan, 1),
    (ScalesGradient, 6),
    (RootOfZero, 6),
    (ForeignGroup, 6),
    (ParameterInTwoGroups, 6),
    (Unsaved, 7),
    (UnsavedBuffer, 7),
    (HandleState, 7),
    (HandleStateCanonical, 7),
    (WritesState, 8),
    (InPlaceUnderGrad, 8),
    (WritesIsFirst, 8),
    (WritesInputs, 8),
    (StateIsParameter, 8),
    (HoldsWholeSequence, 8),
    (RowsKnowTheirPlace, 8),
    (NeedsContiguousState, 1),
    (NeedsTimeContiguous, 1),
    (ReadsMemoryInOrder, 1),
    (StaleWeights, 9),
    (StaleStart, 9),
    (TablesOutliveTheirBlock, 9),
    (RemembersBatchSize, 9),
    (KernelOfFirstCall, 9),
    (HiddenMemory, 9),
    (RunningStatistics, 9),
    (RewritesParameter, 9),
    (GrowsWithLength, 9),
    (StaticOutput, 9),
    (StaticState, 9),
    (KeepsGraph, 9),
    (NoiseInEval, 9),
    (ConsumesGlobalRandomness, 9),
    (Reseeds, 9),
    (Mixed, 10),
    (AutocastIgnoresResets, 10),
    (AutocastIgnoresState, 10),
    (RoundedWithResets, 10),
    (RoundedHalfOfLeaf, 10),
    (HalfAccumulatorUnderAutocast, 10),
    (HalfAccumulator, 10),
    (RoundedFreshScan, 10),
    (LoudUnderAutocast, 10),
    (CrashesUnderAutocast, 10),
    (WholeEpisodesLoseLaterResets, 4),
    (LastRowNeverResets, 4),
    (TruncatedForgetsInTrain, 4),
    (StatelessWindowsForget, 4),
    (NoResetAtAllForgets, 1),
    (ViewsResets, 4),
    (BlockIgnoresResets, 4),
    (LaterResetKeepsNaN, 4),
    (DropoutHidesLostResets, 4),
    (ForgetsBehind128, 1),
    (ResetAtStartOfChunk128Lost, 4),
    (MultiplesOfEightMixRows, 5),
    (FrozenStopsGradients, 6),
    (StartOfRowZeroLearns, 6),
    (TrainableIsNoParameter, 6),
    (TableOfInferenceMode, 9),
    (RescalesInEval, 9),
    (KeepsHistory, 9),
    (NeedsFullInputs, 10),
    (NoGradientUnderAutocast, 10),
    (SecondChunkForgetsUnderAutocast, 10),
    (StateTakesPrecisionOfInputs, 10),
    (StateLostUnderAutocast, 10),
    (SetsPrecisionOfProducts, 9),
]
"""The law whose breach has to name the fault."""

WARNED: list[tuple[type[Backbone], int]] = [
    (StateIsInput, 8),
    (PackedDropsCell, 6),
    (StackedLayersIndexBug, 6),
    (StackedReadsOneState, 6),
    (StaysOnTheCPU, 8),
]
"""What may be meant that way: the law notes it, with the share of what is never used."""

CRASHES = {
    CrashesAtMultiples,
    NeedsContiguousState,
    NeedsTimeContiguous,
    KeepsGraph,
    CrashesUnderAutocast,
    PositionTable,
    ViewsResets,
    NeedsFullInputs,
}
"""Faults that are exceptions; all others have to be found without one."""

pytestmark = [pytest.mark.filterwarnings("ignore:.*differ in train:UserWarning"), pytest.mark.no_cover]


@pytest.fixture(autouse=True)
def precision_of_products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def names(table: list[tuple[type[Backbone], object]]) -> list[str]:
    return [f"{make.__name__}-{where}" for make, where in table]


@pytest.mark.parametrize(("make", "law"), BROKEN, ids=names(BROKEN))
def test_a_fault_is_named_by_its_law(make: type[Backbone], law: int) -> None:
    laws = None if LONG else [law]
    found = examine_backbone(make(), laws=laws, quick=True, longest=300, rebuild=make)
    results = {result.number: result for result in found}
    assert results[law].breaches
    if make not in CRASHES:
        assert not any(": raised " in text for result in found for text in result.breaches)


@pytest.mark.parametrize("make", [ResetsEarly, ResetsLate, UnusedParameter, DropsCellEverywhere])
def test_a_single_fault_breaks_no_other_law(make: type[Backbone]) -> None:
    results = examine_backbone(make().double(), quick=True, longest=130)
    assert [result.number for result in results if not result.kept] == [dict(BROKEN)[make]]


@pytest.mark.parametrize(("make", "law"), WARNED, ids=names(WARNED))
def test_what_may_be_meant_is_a_note(make: type[Backbone], law: int) -> None:
    results = {result.number: result for result in examine_backbone(make(), quick=True, longest=130, rebuild=make)}
    assert results[law].notes
    assert not any(result.breaches for result in results.values())


@pytest.mark.parametrize(("make", "word"), MALFORMED, ids=names(MALFORMED))
def test_what_is_no_backbone_is_diagnosed_before_any_law(make: type[Backbone], word: str) -> None:
    results = examine_backbone(make(), quick=True, longest=300, rebuild=make)
    assert [result.number for result in results if result.breaches] == [0]
    assert word in results[0].breaches[0]


@pytest.mark.parametrize("make", HEALTHY)
def test_what_the_faults_are_planted_in_is_healthy(make: type[Backbone]) -> None:
    results = examine_backbone(make(), quick=True, longest=130, rebuild=make)
    assert [text for result in results for text in (*result.breaches, *result.notes)] == []


def test_the_gallery_covers_every_law() -> None:
    everything = [make for table in (BROKEN, WARNED, MALFORMED) for make, _ in table]
    assert len(set(everything)) == len(everything) >= 65
    assert {law for _, law in BROKEN} == set(range(1, 11))
    assert all(make.__doc__ and make.__doc__ != make.__mro__[1].__doc__ for make in everything)
