"""Laws 6 to 10: what the module owes to training, saving and its callers. Each law yields one sentence per breach."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wmkit import tree
from wmkit.backbones.base import Backbone
from wmkit.testing.sequence_laws import in_pieces
from wmkit.testing.tolerance import Tolerance, disagreement, disagreements, largest
from wmkit.testing.trial import Run, Trial, clone, jittered, loop, noise, scan
from wmkit.tree import State

Breaches = Iterator[str]


def gradients(trial: Trial) -> Breaches:
    """6. Gradients reach every parameter and flow through the incoming state."""
    for name, run in (("scan", scan), ("step", loop)):
        fresh, carried = (_feature_gradients(trial, run, state) for state in (None, trial.carried))
        for source, gradient in carried.items():
            both = [gradient, *([fresh[source]] if source in fresh else [])]
            if not all(bool(torch.isfinite(g).all()) for g in both):
                yield f"{name}: the gradient of {source} is not finite"
            elif gradient.numel() and not any(bool(g.any()) for g in both):
                yield f"{name}: no gradient reaches {source}"


def saving(trial: Trial, rebuild: Callable[[], Backbone] | None) -> Breaches:
    """7. Saving and loading gives the same output; into a newly built module where `rebuild` makes one."""
    file = io.BytesIO()
    torch.save(trial.backbone.state_dict(), file)
    file.seek(0)
    loaded = jittered(trial.backbone) if rebuild is None else clone(rebuild()).to(trial.device, trial.dtype)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        got, want = (scan(backbone, trial.x, None)[0] for backbone in (loaded, trial.backbone))
    yield from disagreement("features after loading", got, want, Tolerance.floor(trial.dtype).features)


def states(trial: Trial) -> Breaches:
    """8. State: batch first, stable shapes and dtypes, indexable, repeatable, detachable, never changed in place."""
    with torch.no_grad():
        yield from _batch_first(trial)
        yield from _stable(trial)
        yield from _rows_can_be_moved(trial)
        yield from _untouched(trial)


def lengths(trial: Trial, longest: int) -> Breaches:
    """9. Works at lengths beyond any seen before; a long call changes nothing for a later one."""
    tensors = _tensors(trial.backbone)
    values = {name: (tensor.detach().clone(), tensor._version) for name, tensor in tensors.items()}
    with torch.no_grad():
        before = _every_call(trial)
        yield from _long_call(trial, longest)
        after = _every_call(trial)
    allowed = Tolerance.floor(trial.dtype).features
    yield from disagreements("the same short calls before and after a long one", after, before, allowed)
    now = _tensors(trial.backbone)
    for name in sorted(now.keys() ^ tensors.keys()):
        yield f"{name}: a parameter or buffer that came or went in forward"
    for name in sorted(now.keys() & tensors.keys()):
        old, version = values[name]
        if now[name] is not tensors[name] or now[name]._version != version or not torch.equal(now[name], old):
            yield f"{name}: a parameter or buffer written in forward"


def precision(trial: Trial) -> Breaches:
    """10. Under bf16 autocast recurrent accumulators stay fp32; a cache that only stores values may be rounded."""
    backbone, x = clone(trial.backbone).float(), trial.x.float()
    carried = tree.map_tree(lambda leaf: leaf.float() if leaf.is_floating_point() else leaf, trial.carried)
    runs: dict[str, Run] = {"step": lambda m, inputs, s: loop(m, inputs[:, :2], s), "scan": scan}
    for name, run in runs.items():
        state = tree.map_tree(lambda leaf: leaf.clone().requires_grad_(leaf.is_floating_point()), carried)
        with torch.autocast(trial.device.type, torch.bfloat16):
            features, end = run(backbone, x, state)
        if not bool(torch.isfinite(features).all()):
            yield f"{name}: features are not finite"
        for i, (old, new) in enumerate(zip(tree.leaves(state), tree.leaves(end), strict=True)):
            if new.is_floating_point() and _is_rounded(new) and not only_moves_values(old, new):
                yield f"{name}: state leaf {i} is computed in {_rounded_to(new)}, expected float32"


def _feature_gradients(trial: Trial, run: Run, state: State | None) -> dict[str, Tensor]:
    """Gradients of a random functional of the features alone: a state nobody reads teaches nothing."""

    def features_only(backbone: Backbone, x: Tensor, incoming: State | None) -> tuple[Tensor, State]:
        return run(backbone, x, incoming)[0], ()

    gradients = trial.outcome(features_only, state).gradients
    return {name: gradient for name, gradient in gradients.items() if name != "x"}


def _batch_first(trial: Trial) -> Breaches:
    """Leaves (B, ...) of the same width at any B, real, in the module's precision and on its device."""
    for rows in (1, trial.batch_size):
        for i, leaf in enumerate(tree.leaves(trial.backbone.initial_state(rows))):
            if leaf.ndim == 0 or leaf.shape[0] != rows:
                yield f"initial_state({rows}), leaf {i}: shape {tuple(leaf.shape)}, expected ({rows}, ...)"
            if leaf.is_complex():
                yield f"initial_state, leaf {i}: complex, expected real numbers with a last axis of 2"
            if (leaf.is_floating_point() and leaf.dtype != trial.dtype) or leaf.device != trial.device:
                module = f"the module is {trial.dtype} on {trial.device}"
                yield f"initial_state, leaf {i}: {leaf.dtype} on {leaf.device}, {module}"


def _stable(trial: Trial) -> Breaches:
    """The state has one structure, whatever made it."""
    fresh = trial.backbone.initial_state(trial.batch_size)
    calls: dict[str, Callable[[], State]] = {
        "step": lambda: trial.backbone.step(trial.x[:, 0], fresh)[1],
        "scan of one step": lambda: scan(trial.backbone, trial.x[:, :1], None)[1],
        f"scan of {trial.length} steps": lambda: scan(trial.backbone, trial.x, None)[1],
        "scan with resets": lambda: scan(trial.backbone, trial.x, None, trial.resets)[1],
    }
    for name, call in calls.items():
        state = call()
        if pytree.tree_structure(state) != pytree.tree_structure(fresh):
            yield f"after {name}: the state's structure differs from initial_state's"
            continue
        for i, (leaf, first) in enumerate(zip(tree.leaves(state), tree.leaves(fresh), strict=True)):
            got, want = (leaf.dtype, tuple(leaf.shape)), (first.dtype, tuple(first.shape))
            if got != want:
                yield f"after {name}, leaf {i}: {got[0]} {got[1]}, initially {want[0]} {want[1]}"


def _rows_can_be_moved(trial: Trial) -> Breaches:
    """Choosing or repeating rows of a state (and of the inputs) chooses or repeats rows of the results."""
    rows = torch.arange(trial.batch_size - 1, -1, -1, device=trial.device)[: max(1, trial.batch_size - 1)]
    x, allowed = trial.x, trial.tolerance
    whole, last = scan(trial.backbone, x, trial.carried)
    moved = {
        "indexing": (x[rows], tree.index(trial.carried, rows), whole[rows], tree.index(last, rows)),
        "repeating": (
            x.repeat_interleave(2, dim=0),
            tree.repeat(trial.carried, 2),
            whole.repeat_interleave(2, dim=0),
            tree.repeat(last, 2),
        ),
        "detaching": (x, tree.detach(trial.carried), whole, last),
    }
    for name, (inputs, state, want, want_last) in moved.items():
        got, end = scan(trial.backbone, inputs, state)
        yield from disagreement(f"features after {name} the state's rows", got, want, allowed.features)
        what = f"last state after {name} the state's rows"
        yield from disagreements(what, tree.leaves(end), tree.leaves(want_last), allowed.state)


def _untouched(trial: Trial) -> Breaches:
    """A state that went into a call is the same after it."""
    calls: dict[str, Callable[[State], object]] = {
        "step": lambda state: trial.backbone.step(trial.x[:, 0], state),
        "scan": lambda state: trial.backbone.scan(trial.x, state),
        "scan with resets": lambda state: trial.backbone.scan(trial.x, state, trial.resets),
    }
    origins: dict[str, Callable[[], State]] = {
        "initial": lambda: trial.backbone.initial_state(trial.batch_size),
        "carried": lambda: trial.carried,
        "returned": lambda: scan(trial.backbone, trial.earlier, None)[1],
    }
    for origin, make in origins.items():
        for name, call in calls.items():
            state = make()
            before = [leaf.clone() for leaf in tree.leaves(state)]
            call(state)
            for i, (leaf, old) in enumerate(zip(tree.leaves(state), before, strict=True)):
                if not torch.equal(leaf, old):
                    yield f"{name} changed the caller's {origin} state in place, leaf {i}"


def _every_call(trial: Trial) -> list[Tensor]:
    """Features of each way to call the backbone."""
    backbone, x = trial.backbone, trial.x
    step = backbone.step(x[:, 0], trial.carried)[0]
    return [step, *(scan(backbone, x, state, f)[0] for _, state in trial.states for f in (None, trial.resets))]


def _long_call(trial: Trial, longest: int) -> Breaches:
    """One call over `longest` steps and single steps after it, against pieces of the length known to work."""
    x = trial.random(7, 1, longest + 2)
    pieces = list(range(trial.length, x.shape[1], trial.length))
    want, want_end = in_pieces(trial, x, None, pieces)
    features, state = scan(trial.backbone, x[:, :longest], None)
    tail, end = loop(trial.backbone, x[:, longest:], state)
    allowed = _long_tolerance(trial, x, pieces, want, want_end)
    label = f"one call over {longest} steps against pieces of {trial.length}"
    yield from disagreement(f"{label}: features", features, want[:, :longest], allowed.features)
    yield from disagreement(f"{label}: features of the steps after it", tail, want[:, longest:], allowed.features)
    yield from disagreements(f"{label}: last state", tree.leaves(end), tree.leaves(want_end), allowed.state)


def _long_tolerance(trial: Trial, x: Tensor, pieces: list[int], features: Tensor, state: State) -> Tolerance:
    """Twice what float32 costs over the long sequence, plus what is allowed over the short one."""
    if trial.dtype == torch.float64:
        return trial.tolerance

    def errors() -> tuple[float, float, float]:
        want, end = in_pieces(trial.double(), x.double(), None, pieces)
        last = [largest(a, b) for a, b in zip(tree.leaves(state), tree.leaves(end), strict=True)]
        return largest(features, want), max(last, default=0.0), 0.0

    return trial.tolerance.widened(errors)


def _tensors(backbone: Backbone) -> dict[str, Tensor]:
    """Every parameter and buffer by name."""
    return {**dict(backbone.named_parameters()), **dict(backbone.named_buffers())}


def _is_rounded(leaf: Tensor) -> bool:
    """Does every entry fit in sixteen bits?"""
    return bool((leaf == leaf.bfloat16()).all()) or leaf.dtype == torch.float16


def _rounded_to(leaf: Tensor) -> str:
    return "float16" if leaf.dtype == torch.float16 else "bfloat16"


def only_moves_values(old: Tensor, new: Tensor) -> bool:
    """Is `new` made of entries of `old` (and of others) as they are, as in a cache? Then so is the gradient."""
    if not new.requires_grad:
        return True
    weights = noise(9, tuple(new.shape)).to(new.device).bfloat16()
    (gradient,) = torch.autograd.grad((weights * new).sum(), old, retain_graph=True, allow_unused=True)
    return gradient is None or bool(torch.isin(gradient[gradient != 0], weights.float()).all())
