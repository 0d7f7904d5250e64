"""A gallery of right backbones of foreign kinds: none of them may be refused, whatever weights they start with."""

import contextlib
import math
import os
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wmkit import Backbone, build_world_model, tree
from wmkit.backbones.base import ParameterGroup
from wmkit.testing import examine_backbone
from wmkit.tree import State

WIDTH = 6
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


def exact(x: Tensor) -> torch.autocast:
    """A block that autocast leaves alone."""
    return torch.autocast(x.device.type, enabled=False)


def doubling(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """All h_t = a_t h_{t-1} + b_t, (B, T, ...), in log2(T) rounds."""
    b = torch.cat([(a[:, 0] * h + b[:, 0])[:, None], b[:, 1:]], dim=1)
    shift = 1
    while shift < b.shape[1]:
        b = torch.cat([b[:, :shift], a[:, shift:] * b[:, :-shift] + b[:, shift:]], dim=1)
        a = torch.cat([a[:, :shift], a[:, shift:] * a[:, :-shift]], dim=1)
        shift *= 2
    return b


def lags(x: Tensor, length: int) -> Tensor:
    """(T, T) numbers of steps between a step and one before it, negative for one after it."""
    steps = torch.arange(length, device=x.device)
    return steps[:, None] - steps


class Piecewise(Backbone):
    """`chunk` works off many steps at once; `scan` begins a chunk every CHUNK steps and wherever a row resets."""

    CHUNK = 16
    SINGLE: ClassVar[bool] = False
    """Computes in float32 whatever the precision of the module."""

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        raise NotImplementedError

    def scan(self, x, state=None, is_first=None, return_state=True):
        length, fresh, features = x.shape[1], self.initial_state(len(x)), []
        state = fresh if state is None else state
        resets = set() if is_first is None else set(is_first.any(dim=0).nonzero()[:, 0].tolist())
        starts = sorted({*range(0, length, self.CHUNK), *resets})
        for start, stop in zip(starts, [*starts[1:], length], strict=True):
            state = state if is_first is None else tree.where(is_first[:, start], fresh, state)
            feature, state = self.chunk(x[:, start:stop], state)
            features.append(feature)
        return torch.cat(features, dim=1), state if return_state else None


class GatedLinearAttention(Piecewise):
    """A matrix as state, forgotten channel by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.gate = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def initial_state(self, batch_size: int) -> State:
        return self.gate.weight.new_zeros(batch_size, WIDTH, WIDTH)

    def inputs(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        q, k, v = self.project(x).to(state.dtype).chunk(3, dim=-1)
        return q, k, v, F.logsigmoid(self.gate(x).to(state.dtype) + 2)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v, log_forget = self.inputs(x, state)
        with exact(x):
            memory = log_forget.exp()[:, :, None] * state + k[:, :, None] * v[:, None]
            return (q[:, None] @ memory)[:, 0], memory

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v, log_forget = self.inputs(x, state)
        with exact(x):
            total = log_forget.cumsum(dim=1)
            future = lags(x, x.shape[1])[:, :, None] < 0
            decay = (total[:, :, None] - total[:, None]).masked_fill(future, -math.inf).exp()
            scores = torch.einsum("btk,bsk,btsk->bts", q, k, decay)
            features = scores @ v + (q * total.exp()) @ state
            memory = total[:, -1].exp()[:, :, None] * state + (k * (total[:, -1:] - total).exp()).mT @ v
        return features, memory


class DecayByRatio(GatedLinearAttention):
    """The same in products of two matrices, as chunks are published: decays are ratios, which cost precision."""

    CHUNK = 8

    def inputs(self, x: Tensor, state: State) -> tuple[Tensor, ...]:
        q, k, v = self.project(x).to(state.dtype).chunk(3, dim=-1)
        return q, k, v, F.logsigmoid(self.gate(x).to(state.dtype) - 1)

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v, log_forget = self.inputs(x, state)
        with exact(x):
            total = log_forget.cumsum(dim=1)
            q, k, whole = q * total.exp(), k * (-total).exp(), total[:, -1].exp()[:, :, None]
            return (q @ k.mT).tril() @ v + q @ state, whole * (state + k.mT @ v)


class DeltaRule(Piecewise):
    """DeltaNet: a matrix as state, corrected towards each new value; chunks by a triangular system."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.write = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, 1)

    def initial_state(self, batch_size: int) -> State:
        return {"memory": self.write.weight.new_zeros(batch_size, WIDTH, WIDTH)}

    def inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        q, k, v = self.project(x).chunk(3, dim=-1)
        return q, F.normalize(k, dim=-1), v, torch.sigmoid(self.write(x))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        memory = state["memory"]
        with exact(x):
            q, k, v, beta = self.inputs(x.to(memory.dtype))
            error = beta * (v - (k[:, None] @ memory)[:, 0])
            memory = memory + k[:, :, None] * error[:, None]
            return (q[:, None] @ memory)[:, 0], {"memory": memory}

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        memory = state["memory"]
        with exact(x):
            q, k, v, beta = self.inputs(x.to(memory.dtype))
            system = torch.eye(x.shape[1], dtype=k.dtype, device=k.device) + beta * (k @ k.mT).tril(-1)
            errors = torch.linalg.solve_triangular(system, beta * (v - k @ memory), upper=False, unitriangular=True)
            return q @ memory + (q @ k.mT).tril() @ errors, {"memory": memory + k.mT @ errors}


class MatrixLSTM(Piecewise):
    """mLSTM: matrix and normaliser are kept as multiples of exp(-m), through which no gradient goes."""

    not_differentiable: ClassVar[tuple[str, ...]] = ("['m']",)

    def __init__(self) -> None:
        super().__init__()
        self.project, self.gates = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, 2)

    def initial_state(self, batch_size: int) -> State:
        new = self.gates.weight.new_zeros
        return {"C": new(batch_size, WIDTH, WIDTH), "n": new(batch_size, WIDTH), "m": new(batch_size)}

    def comparable_state(self, state: State) -> State:
        """How much of (C, n) is in m means nothing: all of it in C and n."""
        scale = state["m"].exp()
        scaled = {"C": state["C"] * scale[:, None, None], "n": state["n"] * scale[:, None]}
        return {**scaled, "m": torch.zeros_like(state["m"])}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = self.chunk(x[:, None], state)
        return features[:, 0], state

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        m = state["m"].detach()
        with exact(x):
            x = x.to(m.dtype)
            q, k, v = self.project(x).chunk(3, dim=-1)
            write, keep = (2 * self.gates(x)).unbind(dim=-1)
            total = F.logsigmoid(keep + 1).cumsum(dim=1)
            from_state, future = total + m[:, None], lags(x, x.shape[1]) < 0
            from_steps = (total[:, :, None] - total[:, None] + write[:, None]).masked_fill(future, -math.inf)
            highest = torch.maximum(from_state, from_steps.amax(dim=-1)).detach()
            old, new = (from_state - highest).exp()[:, :, None], (from_steps - highest[:, :, None]).exp()
            scores = new * (q @ k.mT)
            numerator = scores @ v + old * (q @ state["C"])
            denominator = scores.sum(dim=-1) + (old * q * state["n"][:, None]).sum(dim=-1)
            features = numerator / torch.maximum(denominator.abs(), (-highest).exp())[:, :, None]
            last = new[:, -1, :, None] * k
            state = {
                "C": old[:, -1, :, None] * state["C"] + last.mT @ v,
                "n": old[:, -1] * state["n"] + last.sum(dim=1),
                "m": highest[:, -1].clone(),
            }
        return features, state


class ScalarLSTM(Backbone):
    """sLSTM: exponential gates, held by a stabiliser through which gradients do go; a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.gates = nn.Linear(2 * WIDTH, 4 * WIDTH)

    def initial_state(self, batch_size: int) -> State:
        zeros = self.gates.weight.new_zeros(4, batch_size, WIDTH)
        return {name: zeros[i].clone() for i, name in enumerate(["c", "n", "h", "m"])}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        joined = torch.cat([x.to(state["h"].dtype), state["h"]], dim=-1)
        write, keep, out, value = self.gates(joined).to(state["h"].dtype).chunk(4, dim=-1)
        kept = F.logsigmoid(keep + 1) + state["m"]
        m = torch.maximum(kept, write)
        c = (kept - m).exp() * state["c"] + (write - m).exp() * torch.tanh(value)
        n = (kept - m).exp() * state["n"] + (write - m).exp()
        h = torch.sigmoid(out) * c / n
        return h.clone(), {"c": c, "n": n, "h": h, "m": m}


class MinimalGRU(Piecewise):
    """minGRU: a positive state whose logarithms are summed over the whole call."""

    CHUNK = 1_000_000

    def __init__(self) -> None:
        super().__init__()
        self.project, self.start = nn.Linear(WIDTH, 2 * WIDTH), nn.Parameter(torch.zeros(WIDTH))

    def initial_state(self, batch_size: int) -> State:
        return (F.softplus(self.start).repeat(batch_size, 1),)

    def logarithms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of the share that is kept, and of what is added."""
        gate, value = self.project(x.to(self.start.dtype)).to(self.start.dtype).chunk(2, dim=-1)
        candidate = torch.where(value >= 0, (value.relu() + 0.5).log(), F.logsigmoid(value))
        return -F.softplus(gate), F.logsigmoid(gate) + candidate

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        keep, add = self.logarithms(x)
        h = keep.exp() * state[0] + add.exp()
        return h - 0.5, (h,)

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        keep, add = self.logarithms(x)
        with exact(x):
            total = F.pad(keep.cumsum(dim=1), (0, 0, 1, 0))
            h = (total + torch.logcumsumexp(torch.cat([state[0].log()[:, None], add], dim=1) - total, dim=1)).exp()
        return h[:, 1:] - 0.5, (h[:, -1].clone(),)


class RingBuffer(Piecewise):
    """Attention over a ring of slots with a write pointer; what is in a slot before it is written is anything."""

    SLOTS = 5

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def initial_state(self, batch_size: int) -> State:
        none = torch.zeros(batch_size, dtype=torch.int64, device=self.query.weight.device)
        return {
            "slots": self.query.weight.new_full((batch_size, self.SLOTS, WIDTH), 7.0),
            "pointer": none,
            "filled": none.clone(),
        }

    def ordered(self, state: State) -> tuple[Tensor, Tensor]:
        """Slots from the oldest to the newest, (B, SLOTS, WIDTH), and which of them hold something."""
        places = torch.arange(self.SLOTS, device=state["pointer"].device)
        turned = (state["pointer"][:, None] + places) % self.SLOTS
        slots = state["slots"].gather(1, turned[:, :, None].expand(-1, -1, WIDTH))
        return slots, places >= self.SLOTS - state["filled"][:, None]

    def comparable_state(self, state: State) -> State:
        """In order, with nothing in the empty slots."""
        slots, visible = self.ordered(state)
        slots = torch.where(visible[:, :, None], slots, 0.0)
        return {"slots": slots, "pointer": torch.zeros_like(state["pointer"]), "filled": state["filled"]}

    def attend(self, x: Tensor, slots: Tensor, hidden: Tensor) -> Tensor:
        """Queries (B, T, WIDTH) over slots (B, T, M, WIDTH), except the hidden ones; older ones count less."""
        ages = torch.arange(slots.shape[2] - 1, -1, -1, device=x.device)
        scores = (self.key(slots) @ self.query(x)[..., None])[..., 0] / math.sqrt(WIDTH) - 0.3 * ages
        weights = scores.masked_fill(hidden, -math.inf).softmax(dim=-1)
        return (weights[:, :, None].to(slots.dtype) @ slots)[:, :, 0]

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        x = x.to(state["slots"].dtype)
        here = torch.arange(self.SLOTS, device=x.device) == state["pointer"][:, None]
        new = {
            "slots": torch.where(here[:, :, None], x[:, None], state["slots"]),
            "pointer": (state["pointer"] + 1) % self.SLOTS,
            "filled": (state["filled"] + 1).clamp(max=self.SLOTS),
        }
        slots, visible = self.ordered(new)
        return self.attend(x[:, None], slots[:, None], ~visible[:, None])[:, 0], new

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        slots, visible = self.ordered(state)
        history = torch.cat([torch.where(visible[:, :, None], slots, 3.0), x.to(slots.dtype)], dim=1)
        shown = F.pad(visible, (0, x.shape[1]), value=True)
        windows = history[:, 1:].unfold(1, self.SLOTS, 1).transpose(2, 3)
        features = self.attend(x.to(slots.dtype), windows, ~shown[:, 1:].unfold(1, self.SLOTS, 1))
        new = {
            "slots": history[:, -self.SLOTS :].clone(),
            "pointer": torch.zeros_like(state["pointer"]),
            "filled": (state["filled"] + x.shape[1]).clamp(max=self.SLOTS),
        }
        return features, new


class MaskedCache(Piecewise):
    """Keys and values of the last steps, with the mask as it is added to the scores: -inf where there is none yet."""

    SLOTS = 4

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(WIDTH, 3 * WIDTH)

    def initial_state(self, batch_size: int) -> State:
        empty = self.project.weight.new_zeros(batch_size, self.SLOTS, 2 * WIDTH)
        keys, values = empty.clone().chunk(2, dim=-1)
        return {"keys": keys, "values": values, "mask": torch.full_like(empty[..., 0], -math.inf)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = self.chunk(x[:, None], state)
        return features[:, 0], state

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v = self.project(x).to(state["keys"].dtype).chunk(3, dim=-1)
        keys, values = torch.cat([state["keys"], k], dim=1), torch.cat([state["values"], v], dim=1)
        mask = F.pad(state["mask"], (0, x.shape[1]))
        places = torch.arange(keys.shape[1], device=x.device)
        behind = places[self.SLOTS :, None] - places
        outside = (behind < 0) | (behind > self.SLOTS)
        scores = (q @ keys.mT / math.sqrt(WIDTH) + mask[:, None]).masked_fill(outside, -math.inf)
        features = scores.softmax(dim=-1).to(values.dtype) @ values
        window = {"keys": keys, "values": values, "mask": mask}
        return features, tree.map_tree(lambda leaf: leaf[:, -self.SLOTS :].clone(), window)


class StackedCaches(Piecewise):
    """A transformer of two layers over a window that never grows; keys and values of both are one leaf."""

    SLOTS = 3

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))

    def initial_state(self, batch_size: int) -> State:
        return {"cache": self.project[0].weight.new_zeros(batch_size, 2, self.SLOTS, 2 * WIDTH)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = self.chunk(x[:, None], state)
        return features[:, 0], state

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, caches = x.to(state["cache"].dtype), []
        places = torch.arange(self.SLOTS + x.shape[1], device=x.device)
        behind = places[self.SLOTS :, None] - places
        outside = (behind < 0) | (behind > self.SLOTS)
        for layer, project in enumerate(self.project):
            q, new = project(y).to(y.dtype).split([WIDTH, 2 * WIDTH], dim=-1)
            cache = torch.cat([state["cache"][:, layer], new], dim=1)
            keys, values = cache.chunk(2, dim=-1)
            scores = (q @ keys.mT / math.sqrt(WIDTH)).masked_fill(outside, -math.inf)
            y = y + (scores.softmax(dim=-1).to(y.dtype) @ values).to(y.dtype)
            caches.append(cache[:, -self.SLOTS :])
        return y, {"cache": torch.stack(caches, dim=1)}


class Clockwork(Backbone):
    """A second unit moves at every third step, told by a counter that is a float."""

    not_differentiable: ClassVar[tuple[str, ...]] = ("['count']",)

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.fast, self.slow = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def initial_state(self, batch_size: int) -> State:
        new = self.fast.weight.new_zeros
        return {"count": new(batch_size), "fast": new(batch_size, WIDTH), "slow": new(batch_size, WIDTH)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        dtype = state["fast"].dtype
        fast = 0.5 * state["fast"] + self.fast(x).to(dtype)
        moved = 0.9 * state["slow"] + self.slow(fast).to(dtype)
        slow = torch.where((state["count"] % 3 == 0)[:, None], moved, state["slow"])
        return torch.tanh(fast + slow), {"count": state["count"] + 1, "fast": fast, "slow": slow}


class Hybrid(Piecewise):
    """A convolution over a window, then a selective state space: two kinds of state in one nest."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(WIDTH, WIDTH, 3, groups=WIDTH)
        self.gate, self.value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def initial_state(self, batch_size: int) -> State:
        new = self.gate.weight.new_zeros
        return {"window": new(batch_size, 2, WIDTH), "memory": (new(batch_size, WIDTH),)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        u, window = self.convolve(x[:, None], state["window"])
        keep, add = self.coefficients(u[:, 0])
        h = keep * state["memory"][0] + add
        return u[:, 0] + h, {"window": window, "memory": (h,)}

    def convolve(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        window = torch.cat([past, x.to(past.dtype)], dim=1)
        return F.silu(self.convolution(window.mT).to(past.dtype)).mT, window[:, -2:].clone()

    def coefficients(self, u: Tensor) -> tuple[Tensor, Tensor]:
        keep = torch.sigmoid(self.gate(u).to(u.dtype) + 1)
        return keep, (1 - keep) * self.value(u).to(u.dtype)

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        u, window = self.convolve(x, state["window"])
        h = doubling(*self.coefficients(u), state["memory"][0])
        return u + h, {"window": window, "memory": (h[:, -1].clone(),)}


class TimeMixing(Piecewise):
    """RWKV: sums weighted by exp(k), kept as multiples of the largest weight so far, which starts at -1e38."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(WIDTH, 3 * WIDTH)
        self.decay, self.bonus = nn.Parameter(torch.linspace(-3, 0, WIDTH)), nn.Parameter(torch.zeros(WIDTH))

    def initial_state(self, batch_size: int) -> State:
        sums = self.decay.new_zeros(2, batch_size, WIDTH)
        return [sums[0].clone(), sums[1].clone(), self.decay.new_full((batch_size, WIDTH), -1e38)]

    def inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        r, k, v = self.project(x).to(self.decay.dtype).chunk(3, dim=-1)
        return torch.sigmoid(r), k, v, self.decay.exp()

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        r, k, v, w = self.inputs(x)
        numerator, denominator, top = state
        highest = torch.maximum(top, self.bonus + k)
        old, new = (top - highest).exp(), (self.bonus + k - highest).exp()
        features = r * (old * numerator + new * v) / (old * denominator + new)
        highest = torch.maximum(top - w, k)
        old, new = (top - w - highest).exp(), (k - highest).exp()
        return features, [old * numerator + new * v, old * denominator + new, highest]

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        r, k, v, w = self.inputs(x)
        numerator, denominator, top = state
        length = x.shape[1]
        between = lags(x, length + 1)[:, :-1, None] - 1
        weights = (k[:, None] - between * w).masked_fill(between < 0, -math.inf)
        own = torch.eye(length + 1, length, dtype=torch.bool, device=x.device)[:, :, None]
        weights = torch.where(own, (self.bonus + k)[:, None], weights)
        carried = top[:, None] - torch.arange(length + 1, device=x.device)[:, None] * w
        highest = torch.maximum(carried, weights.amax(dim=2))
        old, new = (carried - highest).exp(), (weights - highest[:, :, None]).exp()
        above = old * numerator[:, None] + (new * v[:, None]).sum(dim=2)
        below = old * denominator[:, None] + new.sum(dim=2)
        return r * (above / below)[:, :-1], [leaf[:, -1].clone() for leaf in (above, below, highest)]


class Experts(Piecewise):
    """Each step is worked on by one expert of sixteen, picked by a router in full precision: some may never be."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, 16)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(16))
        self.rate = nn.Parameter(torch.linspace(0, 2, WIDTH))

    def initial_state(self, batch_size: int) -> State:
        return self.rate.new_zeros(batch_size, WIDTH)

    def route(self, x: Tensor) -> Tensor:
        x = x.to(self.rate.dtype)
        with exact(x):
            share, chosen = self.router(x).softmax(dim=-1).max(dim=-1)
        y = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            here = chosen == i
            y = y.masked_scatter(here[..., None], expert(x[here]).to(y.dtype))
        return share[..., None] * y

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.lerp(self.route(x), state, torch.sigmoid(self.rate))
        return torch.tanh(3 * h), h

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        keep = torch.sigmoid(self.rate)
        h = doubling(keep.expand_as(x), (1 - keep) * self.route(x), state)
        return torch.tanh(3 * h), h[:, -1].clone()


class DeadUnits(Backbone):
    """Half of the hidden units are off for every input there is, until training wakes them."""

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.rate = nn.Parameter(torch.full((WIDTH,), 0.8))
        with torch.no_grad():
            self.up.bias[: 2 * WIDTH] -= 100

    def initial_state(self, batch_size: int) -> State:
        return {"h": self.rate.new_zeros(batch_size, WIDTH)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = self.rate * state["h"] + self.down(F.relu(self.up(x))).to(self.rate.dtype)
        return torch.tanh(h), {"h": h}


class Zoneout(Backbone):
    """An LSTM with dropout on its inputs and zoneout on its states, in train() alone."""

    STOCHASTIC: ClassVar[bool] = True
    default_posterior = "filtering"

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.gates, self.dropout = nn.Linear(2 * WIDTH, 4 * WIDTH), nn.Dropout(0.2)

    def initial_state(self, batch_size: int) -> State:
        return tuple(self.gates.weight.new_zeros(batch_size, WIDTH) for _ in range(2))

    def zone(self, old: Tensor, new: Tensor) -> Tensor:
        """A tenth of the entries stays as it was; outside train(), every entry by a tenth."""
        stays = torch.rand_like(new) < 0.1 if self.training else None
        return torch.lerp(new, old, 0.1) if stays is None else torch.where(stays, old, new)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = state
        i, f, o, g = self.gates(torch.cat([self.dropout(x).to(h.dtype), h], dim=-1)).to(h.dtype).chunk(4, dim=-1)
        c = self.zone(c, torch.sigmoid(f + 1) * c + torch.sigmoid(i) * torch.tanh(g))
        h = self.zone(h, torch.sigmoid(o) * torch.tanh(c))
        return h.clone(), (h, c)


class SingleInside(Piecewise):
    """A norm and a recurrence that are computed in float32, whatever the module is in."""

    SINGLE: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.value, self.gain = nn.Linear(WIDTH, WIDTH), nn.Parameter(torch.ones(WIDTH))
        self.rate = nn.Parameter(torch.linspace(0, 2, WIDTH))

    def initial_state(self, batch_size: int) -> State:
        return (self.rate.new_zeros(batch_size, WIDTH),)

    def norm(self, x: Tensor) -> Tensor:
        x = x.float()
        return self.gain.float() * x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = self.chunk(x[:, None], state)
        return features[:, 0], state

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        dtype = self.gain.dtype
        keep = torch.sigmoid(self.rate.float())
        h = doubling(keep.expand_as(x), (1 - keep) * self.value(x).float(), state[0].float())
        return self.norm(h + x.float()).to(dtype), (h[:, -1].to(dtype, copy=True),)


class WaveNet(Piecewise):
    """Dilated convolutions, the window of each layer under its dilation in one dict."""

    DILATIONS = (1, 2, 4)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 2, dilation=d) for d in self.DILATIONS)

    def initial_state(self, batch_size: int) -> State:
        return {str(d): self.layers[0].weight.new_zeros(batch_size, d, WIDTH) for d in self.DILATIONS}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = self.chunk(x[:, None], state)
        return features[:, 0], state

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, windows = x, {}
        for dilation, layer in zip(self.DILATIONS, self.layers, strict=True):
            past = state[str(dilation)]
            window = torch.cat([past, y.to(past.dtype)], dim=1)
            windows[str(dilation)] = window[:, -dilation:].clone()
            y = y.to(past.dtype) + torch.tanh(layer(window.mT).to(past.dtype)).mT
        return y, windows


class FusedLSTM(Backbone):
    """torch.nn.LSTM of two layers, kept out of autocast's reach; its resets by the contract's own loop."""

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.core = nn.LSTM(WIDTH, WIDTH, num_layers=2, batch_first=True)

    def initial_state(self, batch_size: int) -> State:
        return tuple(self.core.weight_ih_l0.new_zeros(batch_size, 2, WIDTH) for _ in range(2))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = self.scan(x[:, None], state)
        return features[:, 0], state

    def scan(self, x, state=None, is_first=None, return_state=True):
        if is_first is not None:
            return super().scan(x, state, is_first, return_state)
        state = self.initial_state(len(x)) if state is None else state
        with exact(x):
            layers_first = tuple(leaf.transpose(0, 1).contiguous() for leaf in state)
            features, last = self.core(x.to(layers_first[0].dtype), layers_first)
        return features, tuple(leaf.transpose(0, 1) for leaf in last) if return_state else None


class MovingAverage(Piecewise):
    """Mega: exponential moving averages, computed by one Fourier transform over the whole call."""

    CHUNK = 1_000_000

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.rate = nn.Parameter(torch.linspace(-3, 1, WIDTH))

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup("rate", (self.rate,), lr=1e-3, weight_decay=0.0)]

    def initial_state(self, batch_size: int) -> State:
        return {"average": self.rate.new_zeros(batch_size, WIDTH)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = torch.lerp(state["average"], self.up(x).to(self.rate.dtype), torch.sigmoid(self.rate))
        return torch.tanh(self.down(h)), {"average": h}

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        u, rate, length = self.up(x).to(self.rate.dtype), torch.sigmoid(self.rate), x.shape[1]
        powers = (1 - rate) ** torch.arange(length + 1, device=x.device)[:, None]
        kernel = torch.fft.rfft(rate * powers[:-1], n=2 * length, dim=0)
        h = torch.fft.irfft(torch.fft.rfft(u, n=2 * length, dim=1) * kernel, n=2 * length, dim=1)[:, :length]
        h = h + powers[1:] * state["average"][:, None]
        return torch.tanh(self.down(h)), {"average": h[:, -1].clone()}


class EchoState(Backbone):
    """A reservoir that never learns, in a buffer and a frozen parameter, and a readout that does."""

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.register_buffer("reservoir", 0.3 * torch.randn(3 * WIDTH, 3 * WIDTH))
        self.inputs = nn.Parameter(torch.randn(WIDTH, 3 * WIDTH), requires_grad=False)
        self.readout = nn.Linear(3 * WIDTH, WIDTH)

    def initial_state(self, batch_size: int) -> State:
        return {"reservoir": {"h": self.reservoir.new_zeros(batch_size, 3 * WIDTH)}}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = state["reservoir"]["h"]
        with exact(x):
            h = torch.tanh(x.to(h.dtype) @ self.inputs + h @ self.reservoir)
        return self.readout(h), {"reservoir": {"h": h}}


class Memoryless(Piecewise):
    """What memory is compared with: a network of one step, whose state has no entries."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, 8), nn.SiLU(), nn.Linear(8, WIDTH))

    def initial_state(self, batch_size: int) -> State:
        return self.layers[0].weight.new_zeros(batch_size, 0)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.layers(x), state.clone()

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.layers(x), state.clone()


class QuantisedState(Backbone):
    """The state is snapped to the nearest code, straight through; the codes are taught by `add_loss` alone."""

    surrogate_gradients = True

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.cell, self.codes = nn.GRUCell(WIDTH, WIDTH), nn.Parameter(torch.randn(16, WIDTH))

    def initial_state(self, batch_size: int) -> State:
        return self.codes.new_zeros(batch_size, WIDTH)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        with exact(x):
            h = self.cell(x.to(state.dtype), state)
            code = self.codes[torch.cdist(h.detach(), self.codes.detach()).argmin(-1)]
            self.add_loss("commitment", (h - code.detach()).square().mean() + (code - h.detach()).square().mean())
            snapped = h + (code - h).detach()
        return snapped.clone(), (snapped + h) / 2


class RunningMaximum(Piecewise):
    """The largest projection so far and a log-sum-exp, both of which start at -inf."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.out = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def initial_state(self, batch_size: int) -> State:
        return self.project.weight.new_full((batch_size, 2, WIDTH), -math.inf)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        a, b = self.project(x).to(state.dtype).chunk(2, dim=-1)
        state = torch.stack([torch.maximum(state[:, 0], a), torch.logaddexp(state[:, 1], b)], dim=1)
        return self.out(state.flatten(1)), state

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        a, b = self.project(x).to(state.dtype).chunk(2, dim=-1)
        largest = torch.cat([state[:, None, 0], a], dim=1).cummax(dim=1).values
        total = torch.logcumsumexp(torch.cat([state[:, None, 1], b], dim=1), dim=1)
        both = torch.stack([largest, total], dim=2)[:, 1:]
        return self.out(both.flatten(2)), both[:, -1].clone()


class SixteenBitCache(Backbone):
    """Attention over the last four keys, which are kept in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def initial_state(self, batch_size: int) -> State:
        return {"keys": self.query.weight.new_zeros(batch_size, 4, WIDTH, dtype=torch.bfloat16)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        keys = torch.cat([state["keys"][:, 1:], self.key(x).to(torch.bfloat16)[:, None]], dim=1)
        scores = (keys.to(x.dtype) @ self.query(x).to(x.dtype)[:, :, None])[..., 0]
        return (scores.softmax(-1)[:, None].to(x.dtype) @ keys.to(x.dtype))[:, 0] + x, {"keys": keys.bfloat16()}


class SixteenBitProducts(Piecewise):
    """Matrix products in bfloat16 whatever the module is in; what adds up does so in the module's precision."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(WIDTH, 2 * WIDTH)

    def initial_state(self, batch_size: int) -> State:
        return self.project.weight.new_zeros(batch_size, WIDTH)

    def inputs(self, x: Tensor, state: State) -> tuple[Tensor, Tensor]:
        weight, bias = self.project.weight.bfloat16(), self.project.bias.bfloat16()
        a, b = F.linear(x.bfloat16(), weight, bias).to(state.dtype).chunk(2, dim=-1)
        return torch.sigmoid(a + 1), b

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        a, b = self.inputs(x, state)
        h = a * state + b
        return torch.tanh(h), h

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        hs = doubling(*self.inputs(x, state), state)
        return torch.tanh(hs), hs[:, -1].clone()


class SingleTables(Piecewise):
    """Retention whose decay is worked out in float32: a number to the power of an integer tensor."""

    SINGLE: ClassVar[bool] = True
    GAMMA = 0.9

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(WIDTH, 3 * WIDTH)

    def initial_state(self, batch_size: int) -> State:
        return self.project.weight.new_zeros(batch_size, WIDTH, WIDTH)

    def chunk(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        steps = torch.arange(x.shape[1], device=x.device)
        with exact(x):
            q, k, v = self.project(x.to(state.dtype)).chunk(3, dim=-1)
            decay = (self.GAMMA ** lags(x, len(steps)).clamp(min=0)).tril().to(state.dtype)
            features = (q @ k.mT * decay) @ v
            features = features + (self.GAMMA ** (steps + 1)).to(state.dtype)[:, None] * (q @ state)
            late = (self.GAMMA ** steps.flip(0)).to(state.dtype)[:, None]
            return features, self.GAMMA ** len(steps) * state + (k * late).mT @ v

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = self.chunk(x[:, None], state)
        return features[:, 0], state


class SingleState(Backbone):
    """A gated average whose state is float32 whatever the module is in."""

    SINGLE: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.input_dim = self.feature_dim = WIDTH
        self.project = nn.Linear(WIDTH, 2 * WIDTH)

    def initial_state(self, batch_size: int) -> State:
        return self.project.weight.new_zeros(batch_size, WIDTH, dtype=torch.float32)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        a, b = self.project(x).float().chunk(2, dim=-1)
        state = torch.sigmoid(a) * state + b
        return torch.tanh(state).to(x.dtype), state


RIGHT: list[type[Backbone]] = [
    QuantisedState,
    RunningMaximum,
    SixteenBitCache,
    SixteenBitProducts,
    SingleTables,
    SingleState,
    GatedLinearAttention,
    DecayByRatio,
    DeltaRule,
    MatrixLSTM,
    ScalarLSTM,
    MinimalGRU,
    RingBuffer,
    MaskedCache,
    StackedCaches,
    Clockwork,
    Hybrid,
    TimeMixing,
    Experts,
    DeadUnits,
    Zoneout,
    SingleInside,
    WaveNet,
    FusedLSTM,
    MovingAverage,
    EchoState,
    Memoryless,
]

pytestmark = [pytest.mark.filterwarnings("ignore:.*differ in train:UserWarning"), pytest.mark.no_cover]


def drawn(make: type[Backbone], seed: int, dtype: torch.dtype) -> Backbone:
    torch.manual_seed(seed)
    return make().to(dtype)


@pytest.mark.parametrize("make", RIGHT)
@pytest.mark.parametrize("seed", range(20 if LONG else 1))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64] if LONG else [torch.float32])
def test_a_right_backbone_passes(make: type[Backbone], seed: int, dtype: torch.dtype) -> None:
    results = examine_backbone(
        drawn(make, seed, dtype), quick=not LONG, longest=2049 if LONG else 130, seed=seed, rebuild=make
    )
    assert [text for result in results for text in result.breaches] == []


def test_what_is_single_inside_passes_in_double_precision_with_a_note() -> None:
    results = examine_backbone(drawn(SingleInside, 0, torch.float64), quick=True, longest=130, rebuild=SingleInside)
    assert [text for result in results for text in result.breaches] == []
    assert any("float32" in text for result in results for text in result.notes)


def test_units_that_are_off_are_noted() -> None:
    core = drawn(DeadUnits, 0, torch.float32)
    results = {result.number: result for result in examine_backbone(core, quick=True, longest=130, rebuild=DeadUnits)}
    assert results[6].notes


@pytest.mark.parametrize("make", RIGHT)
@pytest.mark.parametrize("carried", [False, True])
def test_its_scan_is_its_step_repeated(make: type[Backbone], carried: bool) -> None:
    core = drawn(make, 0, torch.float64).eval()
    allowed = 1e-5 if getattr(core, "SINGLE", False) else 1e-11
    x, earlier = torch.randn(2, 3, 40, WIDTH, dtype=torch.float64)
    is_first = torch.rand(3, 40) < 0.1
    compared = getattr(core, "comparable_state", lambda state: state)
    for mask in (None, torch.zeros_like(is_first), is_first):
        state = Backbone.scan(core, earlier)[1] if carried else None
        features, last = core.scan(x, state, mask)
        want, want_last = Backbone.scan(core, x, state, mask)
        torch.testing.assert_close(features, want, atol=allowed, rtol=allowed)
        for got, leaf in zip(tree.leaves(compared(last)), tree.leaves(compared(want_last)), strict=True):
            torch.testing.assert_close(got, leaf, atol=allowed, rtol=allowed)


@pytest.mark.reported(
    "shapes",
    "",
    "states of a foreign backbone: ring buffers, counters, caches, integers, tuples, a start that is learned",
    "taken wherever the model reads one; only another model's are refused",
)
@pytest.mark.parametrize("make", RIGHT)
@pytest.mark.parametrize("posterior", ["factorized", "filtering"])
@torch.no_grad()
def test_its_own_states_are_taken_by_the_model_it_is_part_of(make: type[Backbone], posterior: str) -> None:
    model = build_world_model(drawn(make, 0, torch.float32), "tiny", (3, 8, 8), 2, posterior=posterior).eval()
    image, action = torch.rand(2, 3, 3, 8, 8), torch.randn(2, 3, 2)
    for block in (contextlib.nullcontext(), torch.autocast("cpu", torch.bfloat16)):
        with block:
            _, state = model.observe(image, action)
            seen, state = model.observe(image, action, state=state)
            future = model.imagine(action.repeat(2, 1, 1), tree.repeat(tree.detach(state), 2))
            after = model.imagine(action[:1], tree.index(future.state, slice(1)))
        assert all(bool(x.isfinite().all()) for x in (seen.features, future.features, after.features))
