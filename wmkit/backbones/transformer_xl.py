"""`transformer_xl`: relative attention over a sliding memory of exactly M positions."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from collections.abc import Iterator, MutableMapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from wmkit.backbones.base import Backbone, BackboneConfig, WithTables, kept_tables
from wmkit.registry import register_backbone
from wmkit.tree import State


@dataclasses.dataclass(kw_only=True)
class TransformerXLConfig(BackboneConfig):
    """Numbers of a `TransformerXL`; `input_dim` is the width of its residual stream."""

    layers: int = 4
    """Layers of attention and feed-forward part."""
    heads: int = 4
    """Attention heads of a layer."""
    head_dim: int = 64
    """Width of a head's queries, keys and values."""
    ff: int = 512
    """Hidden units of each feed-forward part."""
    memory: int = 128
    """M: how many positions before its own each query sees, in every layer; the papers' cache length m."""

    def __post_init__(self) -> None:
        if min(self.layers, self.heads, self.head_dim, self.ff, self.memory) < 1 or self.input_dim % 2:
            raise ValueError(
                "TransformerXLConfig: expected layers, heads, head_dim, ff and memory of at least 1 and an even "
                f"input_dim (sines and cosines in equal number), got {self}"
            )

    @classmethod
    def for_size(cls, size: str) -> Self:
        """`3d` and `2d` are the TSSM-XL of the S4WM paper, m = 128."""
        sizes = {
            "tiny": cls(input_dim=16, layers=2, heads=2, head_dim=8, ff=16, memory=6),
            "small": cls(input_dim=256, layers=4, heads=4, head_dim=64, ff=512, memory=64),
            "2d": cls(input_dim=512, layers=10, heads=8, head_dim=64, ff=512, memory=128),
            "3d": cls(input_dim=512, layers=12, heads=8, head_dim=64, ff=512, memory=128),
        }
        return sizes[size]


@register_backbone("transformer_xl", TransformerXLConfig)
class TransformerXL(Backbone):
    """Pre-norm Transformer-XL layers; the features are the normalised output of the last one.

    A query at t sees the M positions t-M .. t-1 and itself, as far back as its episode goes: no more and no less,
    wherever a sequence is cut. So `scan` and `step` agree, and memory and time are linear in T. (Training by segments,
    as in the paper, lets a query see between M and 2 M - 1 positions, depending on where the segments fall.)

    State: {"keys": [...], "values": [...], "age": (B,) int64}, one (B, heads, M, head_dim) per layer, newest last,
    zeros in slots that hold nothing; `age` counts the filled ones.

    Source: Dai et al., Transformer-XL, 2019. Its output has no norm; here a final LayerNorm closes the residual stream.
    """

    position: Tensor

    def __init__(self, input_dim: int, config: TransformerXLConfig | None = None) -> None:
        super().__init__()
        config = config or TransformerXLConfig(input_dim=input_dim)
        self.input_dim, self.feature_dim, self.config = input_dim, input_dim, config
        self.layers = nn.ModuleList(_Layer(input_dim, config) for _ in range(config.layers))
        self.content_bias = nn.Parameter(torch.empty(config.heads, config.head_dim))
        self.position_bias = nn.Parameter(torch.empty(config.heads, config.head_dim))
        self.norm = nn.LayerNorm(input_dim)
        self.register_buffer("position", _sinusoids(config.memory, input_dim), persistent=False)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def initial_state(self, batch_size: int) -> State:
        """An empty memory: zeros, age 0."""
        config = self.config
        empty = self.norm.weight.new_zeros(batch_size, config.heads, config.memory, config.head_dim)
        age = torch.zeros(batch_size, dtype=torch.int64, device=empty.device)
        return {"keys": [empty] * config.layers, "values": [empty] * config.layers, "age": age}

    def comparable_state(self, state: State) -> State:
        """Zeros in slots that hold nothing, whatever gradient they could pass on."""
        filled = _filled(state["age"], self.config.memory)[:, None, :, None]  # (B, 1, M, 1)
        shown = {name: [torch.where(filled, x, 0) for x in state[name]] for name in ("keys", "values")}
        return {**shown, "age": state["age"]}

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Layers keep W_r R^T, by which a step asks for distances."""
        with kept_tables(self):
            yield

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: x (B, input_dim) -> (features (B, input_dim), state)."""
        features, state = self.scan(x[:, None], state)
        return features[:, 0], state

    def scan(
        self, x: Tensor, state: State | None = None, is_first: Tensor | None = None, return_state: bool = True
    ) -> tuple[Tensor, State | None]:
        """All steps at once; resets are episode numbers compared inside the attention mask."""
        state = self.initial_state(x.shape[0]) if state is None else state
        mask, age = self._visibility(state["age"], x, is_first)  # (B, 1, blocks, C, M + C), (B,)
        keys, values = [], []
        of_all = (mask, is_first is not None, self.position, self.content_bias, self.position_bias)
        for layer, old_keys, old_values in zip(self.layers, state["keys"], state["values"], strict=True):
            x, k, v = layer(x, old_keys, old_values, *of_all)
            keys.append(k)
            values.append(v)
        if not return_state:
            return self.norm(x), None
        if is_first is not None:
            filled = _filled(age, self.config.memory)[:, None, :, None]  # (B, 1, M, 1)
            keys, values = ([torch.where(filled, x, 0) for x in slots] for slots in (keys, values))
        return self.norm(x), {"keys": keys, "values": values, "age": age}

    def _visibility(self, age: Tensor, x: Tensor, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
        """Which keys are of the query's episode (B, 1, blocks, C, M + C), and the age after the last step (B,).

        An episode's number within this call is how many resets came before; memory has 0, an empty slot -1.
        """
        batch_size, length, _ = x.shape
        memory = self.config.memory
        resets = torch.zeros(batch_size, length, device=x.device) if is_first is None else is_first
        episode = resets.long().cumsum(dim=1)  # (B, T)
        remembered = _filled(age, memory).long() - 1  # (B, M)
        queries = _query_blocks(episode[..., None], memory)  # (B, blocks, C, 1)
        keys = _key_blocks(torch.cat([remembered, episode], dim=1)[..., None], length, memory)  # (B, blocks, M + C, 1)
        last = episode[:, -1:]  # (B, 1)
        age = (age * (last[:, 0] == 0) + (episode == last).sum(dim=1)).clamp(max=memory)
        return (queries == keys.mT).unsqueeze(1), age


class _Layer(WithTables):
    """x + attention(LN(x)), then x + FF(LN(x)) with ReLU."""

    def __init__(self, width: int, config: TransformerXLConfig) -> None:
        super().__init__()
        inner = config.heads * config.head_dim
        self.heads, self.memory = config.heads, config.memory
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * inner, bias=False)
        self.positions = nn.Linear(width, inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.ff = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, config.ff), nn.ReLU(), nn.Linear(config.ff, width)
        )

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor, resets: bool, position: Tensor, u: Tensor,
        v: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """One layer: x (B, T, D), the memory's keys and values -> new x, keys, values.

        `resets`: the mask hides an episode that ended, which may have ended in NaN.
        """
        packed = self.queries_keys_values(self.attention_norm(x)).reshape(*x.shape[:2], 3, self.heads, -1)
        query, key, value = packed.permute(2, 0, 3, 1, 4)  # (B, heads, T, d) each
        # (B, heads, M + T, d)
        copied = resets or self.tables is None
        keys, values = _appended(keys, key, copied), _appended(values, value, copied)
        recent = [self._recent(slots, copied=resets) for slots in (keys, values)]
        if resets:
            _move_nan_to_keys(keys, values)
        attended = self._attend(query, keys, values, mask, position, u, v)  # (B, heads, T, d)
        x = x + self.out(attended.transpose(1, 2).flatten(2))  # (B, T, D)
        return x + self.ff(x), *recent

    def _attend(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, position: Tensor, u: Tensor, v: Tensor
    ) -> Tensor:
        """softmax((q + u) k^T + (q + v) W_r R^T) values, over the band of the last M + 1 positions.

        query (B, heads, T, d); keys, values (B, heads, M + T, d) -> (B, heads, T, d). Queries go in blocks of C <= M,
        each against its M + C possible keys, so that nothing is (T, T).
        """
        length, scale = query.shape[2], 1 / math.sqrt(query.shape[-1])
        weight = self.positions.weight.view(self.heads, -1, position.shape[-1])  # (heads, d, D)
        queries = (query + v[:, None]) * scale
        (distances, width), (count, inner) = position.shape, (query.shape[0] * length, query.shape[-1])
        # The cheaper order: W_r R^T first for sequences and where it is kept, else (q + v) W_r first for steps.
        if self._steps_on() or distances * inner * (width + count) < count * width * (inner + distances):
            name = "distances", torch.is_autocast_enabled(position.device.type)
            by_distance = self.table(name, lambda: torch.einsum("hde,me->hdm", weight, position))
            distance = torch.einsum("bhtd,hdm->bhtm", queries, by_distance)
        else:
            distance = torch.einsum("bhte,me->bhtm", torch.einsum("bhtd,hde->bhte", queries, weight), position)
        bias = _skew(_query_blocks(distance, self.memory))  # (B, heads, blocks, C, M + C)
        query = _query_blocks((query + u[:, None]) * scale, self.memory)  # (B, heads, blocks, C, d)
        keys, values = (_key_blocks(x, length, self.memory) for x in (keys, values))  # (B, heads, blocks, M + C, d)
        scores = query @ keys.mT  # (B, heads, blocks, C, M + C): the largest tensor here, the rest is done in place
        scores = scores.add_(bias).masked_fill_(~mask, -math.inf)
        return (scores.softmax(dim=-1) @ values.to(scores.dtype)).flatten(2, 3)[:, :, :length]

    def _steps_on(self) -> bool:
        """Whether this is not the first call inside of `prepared()`: others will follow, for which tables pay."""
        if self.tables is None or torch.compiler.is_compiling():
            return False
        known = "called" in self.tables
        self.tables["called"] = True
        return known

    def _recent(self, slots: Tensor, copied: bool) -> Tensor:
        """The last M positions; copied where asked, and after a long sequence, which a view would keep in memory."""
        recent = slots[:, :, -self.memory :]
        if copied or slots.shape[2] > self.memory + 1:
            return recent.clone()
        if not torch.compiler.is_compiling() and (room := _rooms.get(slots)) is not None:
            _rooms[recent] = room
        return recent


class _Room:
    """A memory with room behind it, where steps write what else they would copy all of it to add."""

    def __init__(self, slots: Tensor) -> None:
        """A copy of slots (B, heads, M, d), and behind it room for one position and half as many again."""
        batch, heads, self.used, width = slots.shape
        self.tensor = slots.new_empty(batch, heads, self.used + 1 + self.used // 2, width)
        self.tensor[:, :, : self.used] = slots
        self.lock = threading.Lock()

    def take(self, end: int) -> bool:
        """Take the position `end`, if there is room, no other step has taken it, and it may be written to."""
        with self.lock:
            free = self.used == end < self.tensor.shape[2]
            taken = free and self.tensor.is_inference() == torch.is_inference_mode_enabled()
            self.used += taken
            return taken


_rooms: MutableMapping[Tensor, tuple[_Room, int]] = WeakTensorKeyDictionary()
"""Where a memory, a view of its room, may grow, and from which position on. Kept here, for what is an attribute of a
tensor is saved with it."""


def _appended(slots: Tensor, new: Tensor, copied: bool) -> Tensor:
    """slots (B, heads, M, d) and behind them new (B, heads, T, d): (B, heads, M + T, d).

    Inside of `prepared()` a step without gradients writes into the room behind the memory. Of two steps from the same
    state the second finds it taken, and copies; so does, where `copied`, whoever changes the old positions too.
    """
    new = new.to(slots.dtype)
    steps = new.shape[2] == 1 and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
    if copied or not steps or torch._C._functorch.peek_interpreter_stack() is not None:
        return torch.cat([slots, new], dim=2)
    room, end = _rooms.get(slots, (None, 0))
    if room is None or not room.take(end):
        room, end = _Room(slots), slots.shape[2]
        room.take(end)
    room.tensor.data[:, :, end] = new[:, :, 0]  # `data`: no backward pass needs what was there, which was nothing
    grown = room.tensor[:, :, end - slots.shape[2] : end + 1]
    _rooms[grown] = room, end + 1
    return grown


def _move_nan_to_keys(keys: Tensor, values: Tensor) -> None:
    """In place: values (B, heads, M + T, d) that are finite throughout, with keys that make them attend as before.

    A hidden position has weight 0, but 0 times NaN is NaN. So the values of a position that are not finite become 0,
    and its key NaN: whoever may see it has NaN for a score and feels it as before, whoever may not has -inf and does
    not.
    """
    dtype = torch.promote_types(values.dtype, torch.float32)
    taint = 0 * values.detach().sum(-1, keepdim=True, dtype=dtype)  # (B, heads, M + T, 1): 0 or NaN, in one pass
    keys.add_(taint.to(keys.dtype))
    values.masked_fill_(taint != 0, 0)


def _sinusoids(memory: int, width: int) -> Tensor:
    """R (M + 1, width): sines, then cosines, of the distances M, M - 1, ..., 0 at frequencies 10000^(-2i / width)."""
    distance = torch.arange(memory, -1, -1, dtype=torch.float64)
    frequency = 10000 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = distance[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1).to(torch.get_default_dtype())


def _filled(age: Tensor, memory: int) -> Tensor:
    """(B, M) bool: which slots of the memory hold a position; the newest slot is the last."""
    return torch.arange(memory, device=age.device) >= memory - age[:, None]


def _blocks(length: int, memory: int) -> tuple[int, int]:
    """(number of blocks, C): the fewest blocks of equal length C <= M that cover `length` queries."""
    number = math.ceil(length / memory)
    return number, math.ceil(length / number)


def _query_blocks(x: Tensor, memory: int) -> Tensor:
    """(..., T, F) -> (..., blocks, C, F), zeros behind the last query."""
    number, size = _blocks(x.shape[-2], memory)
    padded = _extend(x, number * size - x.shape[-2])
    return padded.reshape(*x.shape[:-2], number, size, x.shape[-1])


def _key_blocks(x: Tensor, length: int, memory: int) -> Tensor:
    """(..., M + T, F) -> (..., blocks, M + C, F): block i holds what the queries of block i may see."""
    number, size = _blocks(length, memory)
    return _extend(x, number * size - length).unfold(-2, memory + size, size).mT


def _extend(x: Tensor, rows: int) -> Tensor:
    """(..., T, F) -> (..., T + rows, F) with zeros; `F.pad` would copy even where there is nothing to add."""
    return F.pad(x, (0, 0, 0, rows)) if rows else x


def _skew(bias: Tensor) -> Tensor:
    """Shift row i right by i: (..., C, M + 1) by distance -> (..., C, M + C) by key, -inf outside the band."""
    rows, band = bias.shape[-2:]
    flat = F.pad(bias, (0, rows), value=-math.inf).flatten(-2)
    return flat[..., : rows * (band + rows - 1)].reshape(*bias.shape[:-1], band + rows - 1)
