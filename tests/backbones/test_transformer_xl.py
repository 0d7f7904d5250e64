"""Relative attention against its definition, the exact window, resets, and memory linear in T."""

import contextlib
import copy
import io
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wmkit import tree
from wmkit.backbones import TransformerXL, TransformerXLConfig
from wmkit.backbones.transformer_xl import _sinusoids, _skew
from wmkit.tree import State

WIDTH, HEADS, HEAD_DIM = 8, 2, 4


def build(layers: int = 1, memory: int = 5) -> TransformerXL:
    torch.manual_seed(0)
    config = TransformerXLConfig(input_dim=WIDTH, layers=layers, heads=HEADS, head_dim=HEAD_DIM, ff=16, memory=memory)
    backbone = TransformerXL(WIDTH, config).double()
    for parameter in backbone.parameters():
        parameter.data.add_(torch.randn_like(parameter) / 3)
    return backbone


def attention_from_the_definition(backbone: TransformerXL, x: Tensor) -> Tensor:
    """((q_t + u) k_s + (q_t + v) W_r R_{t-s}) / sqrt(d) for t-M <= s <= t, one query, head and key at a time."""
    layer, memory = backbone.layers[0], backbone.config.memory
    rows, length, _ = x.shape
    packed = layer.queries_keys_values(layer.attention_norm(x)).view(rows, length, 3, HEADS, HEAD_DIM)
    query, key, value = packed.unbind(2)
    frequency = 10000 ** (-torch.arange(0, WIDTH, 2).double() / WIDTH)
    out = torch.zeros(rows, length, HEADS, HEAD_DIM, dtype=x.dtype)
    for t in range(length):
        seen = list(range(max(0, t - memory), t + 1))
        for h in range(HEADS):
            scores = []
            for s in seen:
                angle = (t - s) * frequency
                relative = layer.positions(torch.cat([angle.sin(), angle.cos()])).view(HEADS, HEAD_DIM)[h]
                content = ((query[:, t, h] + backbone.content_bias[h]) * key[:, s, h]).sum(-1)
                scores.append(content + (query[:, t, h] + backbone.position_bias[h]) @ relative)
            weight = (torch.stack(scores, -1) / math.sqrt(HEAD_DIM)).softmax(-1)
            out[:, t, h] = (weight[..., None] * value[:, seen, h]).sum(1)
    x = x + layer.out(out.flatten(2))
    return backbone.norm(x + layer.ff(x))


@pytest.mark.parametrize("length", [1, 3, 5, 6, 17])
def test_scan_is_the_attention_of_the_paper(length: int) -> None:
    backbone = build()
    x = torch.randn(2, length, WIDTH).double()
    torch.testing.assert_close(backbone.scan(x)[0], attention_from_the_definition(backbone, x))


@pytest.mark.parametrize("memory", [1, 4, 7])
def test_a_query_sees_exactly_the_last_m_positions_and_itself(memory: int) -> None:
    backbone, length = build(memory=memory), 20
    x = torch.randn(1, length, WIDTH).double()
    plain = backbone.scan(x)[0]
    for s in range(length):
        changed = x.clone()
        changed[:, s] = torch.randn(WIDTH)
        moved = (backbone.scan(changed)[0] - plain).abs().amax(dim=(0, 2)) > 1e-9
        assert moved.nonzero().flatten().tolist() == list(range(s, min(length, s + memory + 1)))


def test_the_window_does_not_depend_on_where_a_sequence_is_cut() -> None:
    backbone = build(layers=3)
    x = torch.randn(2, 40, WIDTH).double()
    whole, end = backbone.scan(x)
    for cut in (1, 4, 5, 6, 23, 39):
        head, state = backbone.scan(x[:, :cut])
        tail, last = backbone.scan(x[:, cut:], state)
        torch.testing.assert_close(torch.cat([head, tail], dim=1), whole)
        torch.testing.assert_close(last, end)


@given(
    st.lists(st.lists(st.booleans(), min_size=15, max_size=15), min_size=2, max_size=2), st.sampled_from([1, 2, 5, 9])
)
def test_any_pattern_of_resets_equals_single_steps(pattern: list[list[bool]], memory: int) -> None:
    backbone = build(layers=2, memory=memory)
    x, is_first = torch.randn(2, 15, WIDTH).double(), torch.tensor(pattern)
    carried = backbone.scan(torch.randn(2, 3, WIDTH).double())[1]
    got, end = backbone.scan(x, carried, is_first)
    want, last = super(TransformerXL, backbone).scan(x, carried, is_first)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(end, last)


def test_age_counts_the_filled_slots_of_the_current_episode() -> None:
    backbone = build(memory=5)
    is_first = torch.tensor([[0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1]]).bool()
    state = backbone.scan(torch.randn(3, 7, WIDTH).double(), None, is_first)[1]
    assert state["age"].tolist() == [5, 3, 1]
    assert not state["keys"][0][1, :, :2].any()
    assert state["keys"][0][1, :, 2:].all()


def test_a_short_past_is_not_padded_with_made_up_positions() -> None:
    """An empty slot is masked: a big memory changes nothing while the episode is shorter."""
    small, big = build(memory=6), build(memory=50)
    big.load_state_dict(small.state_dict())
    x = torch.randn(2, 6, WIDTH).double()
    torch.testing.assert_close(big.scan(x)[0], small.scan(x)[0])


def test_skew_puts_each_distance_under_its_key() -> None:
    bias = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    inf = math.inf
    assert _skew(bias).tolist() == [[1.0, 2.0, 3.0, -inf], [-inf, 4.0, 5.0, 6.0]]


def test_sinusoids_end_at_distance_zero() -> None:
    assert _sinusoids(4, 6).shape == (5, 6)
    assert _sinusoids(4, 6)[-1].tolist() == [0, 0, 0, 1, 1, 1]
    torch.testing.assert_close(_sinusoids(4, 6)[0, 0], torch.tensor(4.0).sin())


def largest_saved_tensor(length: int) -> int:
    sizes = [0]
    backbone = build(layers=1, memory=8)
    x = torch.randn(1, length, WIDTH).double()

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        backbone.scan(x)
    return max(sizes)


def test_memory_is_linear_in_the_length() -> None:
    assert largest_saved_tensor(800) <= 4 * largest_saved_tensor(200)


def test_a_state_after_a_long_scan_does_not_keep_the_scan_in_memory() -> None:
    state = build(memory=5).scan(torch.randn(1, 300, WIDTH).double())[1]
    assert state["keys"][0].untyped_storage().nbytes() == 5 * HEADS * HEAD_DIM * 8


@pytest.mark.parametrize("change", [{"memory": 0}, {"layers": 0}, {"input_dim": 7}])
def test_impossible_numbers_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="TransformerXLConfig: expected"):
        TransformerXLConfig(**change)


def test_the_3d_size_is_that_of_the_paper() -> None:
    """Twelve layers of q, k, v, out and positions (512 x 512), FF 512, two norms; shared u and v; the last norm."""
    config = TransformerXLConfig.for_size("3d")
    per_layer = 5 * 512**2 + 2 * (512**2 + 512) + 2 * 2 * 512
    parameters = sum(p.numel() for p in TransformerXL(config.input_dim, config).parameters())
    assert parameters == 12 * per_layer + 2 * 512 + 2 * 512


def steps(backbone: TransformerXL, x: Tensor, state: State) -> tuple[Tensor, list[State]]:
    """Features (B, T, D) of single steps without gradients, and the state after each."""
    found, states = [], []
    with torch.no_grad():
        for t in range(x.shape[1]):
            features, state = backbone.step(x[:, t], state)
            found.append(features)
            states.append(state)
    return torch.stack(found, 1), states


@pytest.mark.parametrize("prepared", [True, False])
def test_steps_that_write_behind_their_memory_equal_the_scan(prepared: bool) -> None:
    backbone = build(layers=2, memory=6)
    x = torch.randn(3, 40, 8, dtype=torch.float64)
    with backbone.prepared() if prepared else contextlib.nullcontext():
        found, states = steps(backbone, x, backbone.initial_state(3))
    expected, last = backbone.scan(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(states[-1], last)
    before, after = (state["keys"][0].untyped_storage() for state in states[-2:])
    assert not prepared or before.data_ptr() == after.data_ptr(), "the last step was a copy, or copied"
    assert after.nbytes() <= 2 * states[-1]["keys"][0].nbytes


def test_a_state_that_is_used_again_is_as_it_was() -> None:
    """Rewound, forked, copied, saved; from any of them steps go on as from a fresh one, and change no other."""
    backbone = build(layers=2, memory=6)
    with backbone.prepared():
        past, one, other = (torch.randn(2, n, 8, dtype=torch.float64) for n in (9, 7, 7))
        _, states = steps(backbone, past, backbone.initial_state(2))
        kept = copy.deepcopy(states)
        saved = io.BytesIO()
        torch.save(states[-1], saved)
        saved.seek(0)
        expected = {
            name: backbone.scan(torch.cat([past, x], 1))[0][:, past.shape[1] :]
            for name, x in (("one", one), ("other", other))
        }
        for name, x in (("one", one), ("other", other), ("one", one)):
            torch.testing.assert_close(steps(backbone, x, states[-1])[0], expected[name])
        torch.testing.assert_close(steps(backbone, other, torch.load(saved, weights_only=True))[0], expected["other"])
        torch.testing.assert_close(states, kept)
        torch.testing.assert_close(steps(backbone, one, kept[-1])[0], expected["one"])
        with torch.inference_mode():
            _, inside = backbone.step(one[:, 0], states[-1])
        torch.testing.assert_close(steps(backbone, one[:, 1:], inside)[0], expected["one"][:, 1:])
        both = [backbone.step(x[:, 0], states[-1])[0] for x in (one, other)]  # with gradients
        torch.testing.assert_close(both, [expected["one"][:, 0], expected["other"][:, 0]])
        loss = (states[-1]["keys"][0].requires_grad_() * 2).square().sum()
        steps(backbone, one, states[-1])
        loss.backward()  # needs the keys as they were
        assert states[-1]["keys"][0].grad is not None


def test_threads_that_step_from_one_state_do_not_mix() -> None:
    backbone, count = build(layers=2, memory=40), 8
    x = torch.randn(count, 3, 12, WIDTH, dtype=torch.float64)
    with backbone.prepared(), ThreadPoolExecutor(count) as pool:
        _, states = steps(backbone, torch.randn(3, 5, WIDTH, dtype=torch.float64), backbone.initial_state(3))
        for _ in range(20):
            _, states = steps(backbone, torch.zeros(3, 1, WIDTH, dtype=torch.float64), states[-1])
            alone = [steps(backbone, each, tree.map_tree(torch.clone, states[-1]))[0] for each in x]
            together = pool.map(steps, [backbone] * count, x, [states[-1]] * count)
            torch.testing.assert_close([found for found, _ in together], alone)
