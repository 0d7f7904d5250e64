"""Laws 6 to 10: what the module owes to training, saving and its callers. Each law yields one sentence per breach."""

from __future__ import annotations

import collections
import copy
import functools
import io
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from wmkit import tree
from wmkit.backbones.base import Backbone, collected_losses
from wmkit.testing.sequence_laws import LONG, SHORT, attempt, in_pieces
from wmkit.testing.situations import Situation, Start
from wmkit.testing.tolerance import (
    HUGE,
    Tolerance,
    disagreement,
    largest,
    named_leaves,
    scale_of,
    state_error,
    states_disagree,
)
from wmkit.testing.trial import Outcome, Trial, cast, clone, functional, jittered, loop, noise, process_settings, scan
from wmkit.tree import State

Breaches = Iterator[str]

SHORT_ENTRIES = 0.4
"""Share of the entries that add up which may fit in sixteen bits: some do by chance, as just after a reset."""

PROBED = 24
"""Entries of a state leaf that are looked at one by one: does an accumulator keep them in sixteen bits?"""

ROUNDED = 0.15
"""Relative L2 difference that bf16 autocast may make in the outputs."""

FAR_OFF = 0.8
"""The same of the gradient of one parameter, which is measured by no less than a tenth of the largest: where rounding
turns a ReLU off that was barely on, more than half of a small one goes."""


def gradients(trial: Trial, notes: list[str], quick: bool) -> Breaches:
    """6. Gradients reach every parameter and flow through the incoming state, and they are the derivatives."""
    reached: dict[str, Tensor] = {}
    yield from attempt("parameter_groups()", _groups, trial)
    for name, run, training in (("scan", scan, False), ("step", loop, False), ("scan in train()", scan, True)):
        if not (training and trial.random_in_train):
            yield from attempt(name, _reaching, trial, name, run, training, reached)
    for source, entries in reached.items():
        if not bool(entries.all()):
            share = 1 - float(entries.double().mean())
            notes.append(f"{share:.0%} of the entries of {source} {tuple(entries.shape)} never got a gradient")
    yield from attempt("with frozen parameters", _frozen, trial)
    if trial.backbone.surrogate_gradients:
        notes.append("surrogate_gradients: that gradients are the derivatives was not tried")
        return
    # quick: laws 1 and 4 compare the gradients of `scan` with those of the steps, of more of them
    many = [Situation(16, 3, "carried", "adjacent"), Situation(16, 3, "carried")]
    for situation in [Situation(8, 3, "carried", "adjacent")] if quick else many:
        for stepwise in (True,) if quick else (False, True):
            what = f"{'step after step' if stepwise else 'scan'}, resets: {situation.resets}"
            yield from attempt(what, _derivative, trial, notes, what, situation, stepwise, quick)


def saving(trial: Trial, rebuild: Callable[[], Backbone] | None) -> Breaches:
    """7. Saving and loading gives the same output; a saved state goes on in another copy of the module."""
    yield from attempt("saving", _reloaded, trial, rebuild)
    yield from attempt("a saved state", _state_elsewhere, trial)


def states(trial: Trial, notes: list[str]) -> Breaches:
    """8. State: stable shapes, indexable, repeatable, detachable; nothing that went in is written or kept."""
    yield from attempt("rows of a state", _rows_can_be_moved, trial)
    for gradient in (False, True):
        for training in (False, True):
            what = f"{'with' if gradient else 'without'} gradients{', in train()' * training}"
            yield from attempt(what, _untouched, trial, what, gradient, training)
    yield from attempt("memory of a state", _compact, trial, notes)
    _without_device(trial, notes)


def lengths(trial: Trial, longest: int) -> Breaches:
    """9. Works at lengths beyond any seen before; no call leaves a trace that another one sees."""
    for training in (False, True):
        yield from attempt(f"traces{' in train()' * training}", _no_trace, trial, longest, training)
    yield from attempt("changed parameters", _sees_new_parameters, trial)
    yield from attempt("a copy after a call", _copied_after, trial)
    yield from attempt("training after a call under torch.inference_mode()", _after_inference, trial)
    yield from attempt("train() and eval()", _switched, trial)


def precision(trial: Trial, quick: bool) -> Breaches:
    """10. Under bf16 autocast outputs and gradients stay near those in float32; recurrent accumulators stay fp32."""
    long = functools.partial(Situation, 65, 3, gradient=True, training=True)
    full, half = torch.float32, torch.bfloat16  # of the inputs: a model's own projection hands on bf16
    cases = [
        (long("none", return_state=False), scan, half),
        (long("carried", "middle"), scan, half),
        (Situation(16, 3, "carried", "adjacent", return_state=False), scan, half),
        (Situation(16, 3, "none"), scan, full),
        (Situation(16, 3, "carried", "adjacent"), loop, half),
        (Situation(65, 3, "carried"), scan, half),
        (Situation(65, 3, "carried", "together", return_state=False), scan, half),
        (Situation(16, 3, "none"), loop, full),
    ]
    for situation, run, dtype in cases[: 5 if quick else 8]:
        if not (situation.training and trial.random_in_train):
            what = f"{situation}, {run.__name__} of {'float32' if dtype == full else 'bfloat16'} inputs"
            yield from attempt(what, _under_autocast, trial, what, situation, run, dtype)
    yield from attempt("accumulators", _accumulators, trial)


def _groups(trial: Trial) -> Breaches:
    """Parameter groups hold parameters of the module, each once."""
    names = {id(parameter): name for name, parameter in trial.backbone.named_parameters()}
    seen: dict[int, str] = {}
    for group in trial.backbone.parameter_groups():
        for parameter in group.parameters:
            if id(parameter) not in names:
                yield f"parameter group {group.name!r} holds a tensor {tuple(parameter.shape)} of another module"
            elif id(parameter) in seen:
                yield f"{names[id(parameter)]} is in the parameter groups {seen[id(parameter)]!r} and {group.name!r}"
            seen[id(parameter)] = group.name


def _reaching(
    trial: Trial, name: str, run: Callable[..., tuple[Tensor, State]], training: bool, reached: dict[str, Tensor]
) -> Breaches:
    """Every parameter and every leaf of the incoming state is in the graph of the features; their entries are marked.

    Of the features and of what `add_loss` is given: a state that nobody reads teaches nothing. Whatever else in that
    graph wants a gradient would be trained by nobody.
    """
    module = trial.module(training=training)
    parameters: dict[str, Tensor] = {n: p for n, p in module.named_parameters() if p.requires_grad and p.numel()}
    ignored = {f"state{path}" for path in module.not_differentiable}
    missing: set[str] = set()
    graphs: set[str] = set()
    calls: tuple[tuple[Start, int, int], ...] = (("none", SHORT, 17), ("carried", SHORT, 3), ("carried", 64, 3))
    for number, (start, length, rows) in enumerate(calls):
        if run is loop and length > SHORT:
            continue
        state, sources = trial.start(start, rows), dict(parameters)
        if state is not None:
            leaves = {p: s for p, s in named_leaves(state).items() if s.is_floating_point() and p not in ignored}
            sources |= {path: leaf.requires_grad_() for path, leaf in leaves.items() if leaf.numel()}
        if not sources:
            continue
        with torch.enable_grad(), collected_losses() as losses:
            features = run(module, trial.inputs(10 + number, rows, length), state)[0]
            total = functional([features, *losses().values()])
        if number == 0:
            for tensor in _trainable(total):
                if not any(tensor is source for source in module.parameters()):
                    yield (
                        f"{name}: a tensor {tuple(tensor.shape)} wants a gradient and is no parameter of the module: "
                        "nothing trains, saves or moves it; make it a torch.nn.Parameter"
                    )
        found = torch.autograd.grad(total, list(sources.values()), allow_unused=True)
        for (source, tensor), gradient in zip(sources.items(), found, strict=True):
            missing.add(source)
            if gradient is None:
                continue
            graphs.add(source)
            if not bool(torch.isfinite(gradient).all()):
                yield f"{name}: the gradient of {source} is not finite"
            entries = (gradient != 0).any(0) if source not in parameters else gradient != 0
            before = reached.setdefault(source, torch.zeros_like(entries))
            reached[source] = before | entries
            assert entries.shape == (tensor.shape if source in parameters else tensor.shape[1:]), "one mark an entry"
    untouched = trial.module(jittered=False, training=training)
    with torch.enable_grad():
        total = functional([run(untouched, trial.inputs(10, 3, SHORT), None)[0]])
    own = {n: p for n, p in untouched.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(total, list(own.values()), allow_unused=True) if own else ()
    for source, gradient in zip(own, found, strict=True):
        if gradient is not None and not bool(torch.isfinite(gradient).all()):
            yield f"{name}: the gradient of {source} is not finite, parameters as they are, from state=None"
    for source in sorted(missing - graphs):
        yield f"{name}: no gradient reaches {source}: the features do not depend on it"


def _trainable(total: Tensor) -> list[Tensor]:
    """The leaves of an autograd graph that want a gradient."""
    found, seen, waiting = [], set(), [total.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # of AccumulateGrad
            found.append(node.variable)
        waiting += [following for following, _ in node.next_functions]
    return found


def _frozen(trial: Trial) -> Breaches:
    """Inputs and state get their gradients where parameters want none, as when a policy learns in imagination."""
    trained, frozen = trial.module(), clone(trial.module()).requires_grad_(False)
    ignored = {f"state{path}" for path in trained.not_differentiable}
    for run in (scan, loop):
        found = []
        for module in (trained, frozen):
            x, state = trial.inputs(0, 3, SHORT).requires_grad_(), trial.start("carried", 3)
            sources = {"x": x} | {
                path: leaf.requires_grad_()
                for path, leaf in named_leaves(state).items()
                if leaf.is_floating_point() and leaf.numel() and path not in ignored
            }
            with torch.enable_grad():
                total = functional([run(module, x, state)[0]])
            if not total.requires_grad:
                yield f"{run.__name__} with frozen parameters: no gradient reaches x"
                return
            gradients = torch.autograd.grad(total, list(sources.values()), allow_unused=True, materialize_grads=True)
            found.append(dict(zip(sources, gradients, strict=True)))
        for source, want in found[0].items():
            what = f"{run.__name__} with frozen parameters, against trained ones: gradient of {source}"
            yield from disagreement(what, found[1][source], want, max(1e-2, trial.floor.gradients))


def _derivative(
    trial: Trial, notes: list[str], what: str, situation: Situation, stepwise: bool, quick: bool
) -> Breaches:
    """Gradients against central differences in float64; quick: all parameters in one direction."""
    try:
        module = trial.module(dtype=torch.float64)
        state = cast(trial.start("carried", situation.rows), torch.float64)
        x = trial.inputs(0, situation.rows, situation.length).double()
        run = loop if stepwise else scan
        is_first = situation.is_first(trial.device)
        sources = {"x": x.requires_grad_()}
        sources |= {p: s.requires_grad_() for p, s in named_leaves(state).items() if s.is_floating_point()}

        def total() -> Tensor:
            features, last = run(module, x, state, is_first)
            return functional([features, *tree.leaves(trial.comparable(last))])

        total()
    except (RuntimeError, TypeError):  # code that knows float32 alone
        return
    ignored = {f"state{path}" for path in module.not_differentiable}
    groups = {name: {name: source} for name, source in sources.items() if name not in ignored}
    parameters: dict[str, Tensor] = {name: p for name, p in module.named_parameters() if p.requires_grad}
    groups |= {"all parameters": parameters} if quick else {name: {name: p} for name, p in parameters.items()}
    given = trial.given or 0.0
    breaches = list(finite_differences(what, groups, total, 1e-6, max(1e-5, given)))
    inside = trial.coarsest(torch.float64) if breaches else torch.float64
    if inside == torch.float32:
        breaches = list(finite_differences(what, groups, total, 1e-3, max(5e-3, given)))
    elif inside != torch.float64:
        coarse = str(inside).removeprefix("torch.")
        notes.append(f"computes in {coarse} inside: that gradients are the derivatives could not be tried")
        return
    for text in breaches:
        yield f"{text}; where that is meant, as straight through a rounding, set surrogate_gradients = True"


def finite_differences(
    what: str, sources: dict[str, dict[str, Tensor]], total: Callable[[], Tensor], step: float, allowed: float
) -> Breaches:
    """Gradients of `total()` against central differences, one random direction for each group of sources.

    step: relative to each source's largest entry; allowed: relative to the slope.
    """
    every = {name: source for group in sources.values() for name, source in group.items()}
    with torch.enable_grad():
        grads = torch.autograd.grad(total(), list(every.values()), allow_unused=True, materialize_grads=True)
    found = dict(zip(every, grads, strict=True))
    directions = {
        name: noise(300 + number, tuple(source.shape)).to(source) * (scale_of(source) or 1.0)
        for number, (name, source) in enumerate(every.items())
    }
    slopes = {}
    for label, group in sources.items():
        values, ends = {name: source.detach().clone() for name, source in group.items()}, []
        with torch.no_grad():
            for sign in (1.0, -1.0, 0.0):  # 0 puts the values back
                for name, source in group.items():
                    source.copy_(values[name] + sign * step * directions[name])
                ends.append(float(total()) if sign else 0.0)
        claimed = sum(float((found[name] * directions[name]).sum()) for name in group)
        slopes[label] = ((ends[0] - ends[1]) / (2 * step), claimed)
    scale = max((abs(measured) for measured, _ in slopes.values()), default=0.0)
    for name, (measured, claimed) in slopes.items():
        if abs(measured - claimed) > allowed * max(abs(measured), scale / 100):
            yield (
                f"{what}: the derivative along one direction of {name} is {measured:.6g} by finite differences and "
                f"{claimed:.6g} by its gradient"
            )


def _reloaded(trial: Trial, rebuild: Callable[[], Backbone] | None) -> Breaches:
    """Through a file, into a newly built module where `rebuild` makes one."""
    module = trial.module(jittered=False)
    torch.manual_seed(trial.seed + 1)  # other random weights than those of the backbone itself
    loaded = jittered(module) if rebuild is None else clone(rebuild()).to(trial.device, trial.dtype)
    loaded.load_state_dict(_through_a_file(module.state_dict()))
    with torch.no_grad():
        got, want = (scan(one, trial.inputs(0, 3, SHORT), None)[0] for one in (loaded, module))
    yield from disagreement("features after loading", got, want, trial.floor.features)


@torch.no_grad()
def _state_elsewhere(trial: Trial) -> Breaches:
    """A state that was saved goes on in a copy of the module made before the calls."""
    module, before = trial.fresh(), trial.fresh()
    state = scan(module, trial.inputs(1, 3, SHORT), None)[1]
    saved = _through_a_file(state)
    x = trial.inputs(0, 3, SHORT)
    want, got = scan(module, x, state)[0], scan(before, x, saved)[0]
    yield from disagreement(
        "a saved state in a copy of the module made before the calls: features", got, want, trial.floor.features
    )


def _through_a_file(value: State) -> State:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@torch.no_grad()
def _rows_can_be_moved(trial: Trial) -> Breaches:
    """Choosing or repeating rows of a state (and of the inputs) chooses or repeats rows of the results."""
    module, x, carried = trial.module(), trial.inputs(0, 3, SHORT), trial.start("carried", 3)
    rows, allowed = torch.tensor([2, 0], device=trial.device), trial.floor
    whole, last = scan(module, x, carried)
    moved = {
        "choosing": (x[rows], tree.index(carried, rows), whole[rows], tree.index(last, rows)),
        "repeating": (
            x.repeat_interleave(2, dim=0),
            tree.repeat(carried, 2),
            whole.repeat_interleave(2, dim=0),
            tree.repeat(last, 2),
        ),
        "detaching": (x, tree.detach(carried), whole, last),
    }
    for name, (inputs, state, want, want_last) in moved.items():
        got, end = scan(module, inputs, state)
        yield from disagreement(f"features after {name} the state's rows", got, want, 4 * allowed.features)
        ours, theirs = trial.comparable(end), trial.comparable(want_last)
        yield from states_disagree(f"last state after {name} the state's rows", ours, theirs, 4 * allowed.state)


def _untouched(trial: Trial, what: str, gradient: bool, training: bool) -> Breaches:
    """Inputs, `is_first` and a state that went into a call are the same after it."""
    module, x = trial.module(training=training), trial.inputs(0, 3, SHORT)
    marks = Situation(SHORT, 3, resets="adjacent").is_first(trial.device)
    assert marks is not None, "these situations reset"
    marks[0, 0] = True
    calls: dict[str, Callable[[State], tuple[Tensor, State]]] = {
        "step": lambda state: module.step(x[:, 0], state),
        "scan": lambda state: module.scan(x, state),
        "scan without return_state": lambda state: module.scan(x, state, None, False),
        "scan with resets": lambda state: module.scan(x, state, marks),
    }
    with torch.set_grad_enabled(gradient):
        origins: dict[str, Callable[[], State]] = {
            "initial": lambda: trial.start("initial", 3, training=training),
            "carried": lambda: trial.start("carried", 3, training=training),
            "returned": lambda: scan(module, trial.inputs(1, 3, SHORT), None)[1],
        }
        for origin, make in origins.items():
            state: State = None
            for name, call in calls.items():
                if state is None:  # at first, and after a call that wrote to something
                    state = make()
                    given = {"x": x, "is_first": marks, **named_leaves(state)}
                    before = {key: value.detach().clone() for key, value in given.items()}
                call(state)
                for key, old in before.items():
                    if not torch.equal(given[key].nan_to_num(), old.nan_to_num()):
                        whose = key if key in ("x", "is_first") else f"the caller's {origin} state in place, {key}"
                        yield f"{name} {what} changed {whose}"
                        state = None


def _compact(trial: Trial, notes: list[str]) -> Breaches:
    """What `scan` and `step` hand out holds no more memory than it needs, and none of a parameter."""
    module = trial.module()
    own = {p.untyped_storage().data_ptr(): name for name, p in module.named_parameters()}
    for gradient in (False, True):
        x = trial.inputs(0, 3, LONG)
        with torch.set_grad_enabled(gradient):
            single = x[:, 0].clone()
            scanned, initial = scan(module, x, None)[1], module.initial_state(3)
            stepped = module.step(single, initial)[1]
        for path, leaf in named_leaves(stepped).items():
            if leaf.numel() and leaf.untyped_storage().data_ptr() == single.untyped_storage().data_ptr():
                notes.append(f"step: {path} is the input itself: it changes with it; a clone would not")
        for path, leaf in named_leaves(initial).items():
            if leaf.numel() and (name := own.get(leaf.untyped_storage().data_ptr())):
                notes.append(f"initial_state: {path} is the parameter {name} itself: one that is kept changes with it")
        yield from compactness(f"scan of {LONG} steps", scanned, own)
        yield from compactness("step", stepped, own)


def _without_device(trial: Trial, notes: list[str]) -> None:
    """A note where tensors are made on the CPU wherever the module is; the meta device shows it without a GPU."""
    if trial.device.type != "cpu" or not [*trial.backbone.parameters(), *trial.backbone.buffers()]:
        return
    try:
        with torch.no_grad():
            module = clone(trial.backbone).to("meta")
            state = module.initial_state(3)
            stay = [path for path, leaf in named_leaves(state).items() if leaf.device.type == "cpu"]
            notes += [
                f"initial_state: {path} stays on the CPU when the module is moved: name a device" for path in stay
            ]
            state = tree.map_tree(lambda leaf: leaf.to("meta"), state)
            module.step(trial.inputs(0, 3, 1)[:, 0].to("meta"), state)
    except Exception as error:  # code that reads numbers, or is no operation of PyTorch, has nothing to do on meta
        if "meta" in str(error) and "cpu" in str(error):
            notes.append(f"step makes a tensor on the CPU wherever the module is: name a device ({error})")


def compactness(what: str, state: State, own: dict[int, str]) -> Breaches:
    """A state holds no more memory than it needs, and none of parameters (`own`: name by address)."""
    leaves = {path: leaf for path, leaf in named_leaves(state).items() if leaf.numel()}
    needed = sum(leaf.numel() * leaf.element_size() for leaf in leaves.values())
    for path, leaf in leaves.items():
        storage = leaf.untyped_storage()
        if storage.data_ptr() in own:
            yield f"{what}: {path} shares memory with the parameter {own[storage.data_ptr()]}: clone it"
        elif storage.nbytes() > 2 * needed + 4096:
            yield (
                f"{what}: {path} keeps {storage.nbytes():,} bytes alive, the state needs {needed:,}: it is a view of "
                "the whole sequence; clone it"
            )


def _no_trace(trial: Trial, longest: int, training: bool) -> Breaches:
    """A long call, calls of other batch sizes and with gradients change nothing for later ones."""
    if training and trial.random_in_train:
        return
    module = trial.fresh(training=training)
    held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    values = {name: (tensor.detach().clone(), tensor._version) for name, tensor in held.items()}
    torch.manual_seed(trial.seed + 1000)
    generator = torch.get_rng_state()
    kept, before = _every_call(trial, module)
    if not training:
        yield from attempt(f"one call over {longest} steps", _long_call, trial, module, longest)
    for rows in (1, 17, 2):
        with torch.no_grad():
            scan(module, trial.inputs(4, rows, SHORT), None)
            scan(module, trial.inputs(4, rows, SHORT), module.initial_state(rows))
    x = trial.inputs(4, 2, SHORT).requires_grad_()
    torch.autograd.grad(scan(module, x, None)[0].sum(), x, allow_unused=True)
    where = " in train()" * training
    with torch.no_grad():
        got, want = (scan(one, trial.inputs(4, 17, SHORT), None)[0] for one in (module, trial.fresh(training=training)))
    size = _held(module)
    what = f"features of 17 rows after calls of other numbers of rows, against a module without a past{where}"
    yield from disagreement(what, got, want, trial.floor.features)
    _, after = _every_call(trial, module)
    if _held(module) > size:
        yield f"the same calls again{where} left more on the module than before: it keeps something of each call"
    for number, (one, other) in enumerate(zip(after, before, strict=True)):
        yield from disagreement(
            f"result {number} of the same short calls before and after others{where}", one, other, trial.floor.features
        )
    if not all(torch.equal(x, was) for x, was in zip(kept, before, strict=True)):
        yield f"features or a state that a call had returned{where} were overwritten by later calls"
    if not training and not torch.equal(torch.get_rng_state(), generator):
        yield "calls in eval() draw from, or seed, PyTorch's global random numbers"
    for name, value in process_settings().items():
        if value != trial.settings[name]:
            yield f"{name}() is {value} after calls, and was {trial.settings[name]}: a setting of the whole process"
    now = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name in sorted(now.keys() ^ held.keys()):
        yield f"{name}: a parameter or buffer that came or went in a call{where}"
    for name in sorted(now.keys() & held.keys()):
        old, version = values[name]
        if now[name] is not held[name] or now[name]._version != version or not torch.equal(now[name], old):
            yield f"{name}: a parameter or buffer written in a call{where}"


def _held(module: Backbone) -> int:
    """How many tensors and other things lie in the attributes of a module and in the containers among them."""
    waiting: list[Any] = [vars(part) for part in module.modules()]
    count, seen = 0, set()
    while waiting:
        held = waiting.pop()
        if id(held) not in seen:
            seen.add(id(held))
            inside = list(held.values() if isinstance(held, dict) else held)
            count += len(inside)
            waiting += [one for one in inside if isinstance(one, dict | list | tuple | set | collections.deque)]
    return count


@torch.no_grad()
def _every_call(trial: Trial, module: Backbone) -> tuple[list[Tensor], list[Tensor]]:
    """Features and states of each way to call the backbone, as they came and copied at once."""
    x, marks = trial.inputs(0, 3, SHORT), Situation(SHORT, 3, resets="adjacent").is_first(trial.device)
    kept: list[Tensor] = []
    copies: list[Tensor] = []
    for state in (None, trial.start("carried", 3)):
        for is_first in (None, marks):
            for return_state in (True, False):
                features, last = scan(module, x, state, is_first, return_state)
                kept += [features, *([] if last is None else tree.leaves(trial.comparable(last)))]
                copies += [tensor.clone() for tensor in kept[len(copies) :]]
    for number in (0, 1):
        features, last = module.step(x[:, number], trial.start("carried", 3))
        kept += [features, *tree.leaves(trial.comparable(last))]
        copies += [tensor.clone() for tensor in kept[len(copies) :]]
    return kept, copies


@torch.no_grad()
def _long_call(trial: Trial, module: Backbone, longest: int) -> Breaches:
    """One call over `longest` steps and single steps after it, against pieces of a length known to work."""
    x = trial.inputs(7, 1, longest + 2)
    pieces = list(range(64, x.shape[1], 64))
    with module.prepared():
        want, want_end = in_pieces(module, x, None, pieces)
    features, state = scan(module, x[:, :longest], None)
    stateless = scan(module, x[:, :longest], None, None, False)[0]
    tail, end = loop(module, x[:, longest:], state)
    label = f"one call over {longest} steps against pieces of 64"

    def compared(allowed: Tolerance) -> Breaches:
        yield from disagreement(f"{label}: features", features, want[:, :longest], allowed.features)
        without = f"{label}: features with return_state=False"
        yield from disagreement(without, stateless, want[:, :longest], allowed.features)
        after = f"{label}: features of the steps after it"
        yield from disagreement(after, tail, want[:, longest:], allowed.features)
        ours, theirs = trial.comparable(end), trial.comparable(want_end)
        yield from states_disagree(f"{label}: last state", ours, theirs, allowed.state)

    breaches = list(compared(trial.floor))
    if breaches and trial.dtype == torch.float32 and trial.given is None:
        double = trial.module(dtype=torch.float64)
        try:
            exact, exact_end = in_pieces(double, x.double(), None, pieces)
            path, path_end = scan(double, x[:, :longest].double(), None)
        except Exception:  # code that knows float32 alone
            yield from breaches
            return
        errors, state_errors = [largest(want, exact)], [state_error(want_end, exact_end)]
        if largest(path, exact[:, :longest]) < 1e-6:
            errors.append(largest(features, path))
            state_errors.append(state_error(state, path_end))
        breaches = list(compared(trial.floor.widened(max(errors), max(state_errors), 0.0)))
    yield from breaches


def _sees_new_parameters(trial: Trial) -> Breaches:
    """Parameters that changed in place between two calls count from the next call on."""
    module, x = trial.fresh(), trial.inputs(0, 3, SHORT)
    state = trial.start("carried", 3)
    runs: dict[str, Callable[[Backbone], Tensor]] = {
        "scan without a state": lambda m: scan(m, x, None, None, False)[0],
        "scan with a state": lambda m: scan(m, x, state)[0],
        "step": lambda m: m.step(x[:, 0], state)[0],
    }
    with torch.no_grad():
        for run in runs.values():
            run(module)
        for number, parameter in enumerate(module.parameters()):
            if parameter.is_floating_point():
                parameter.mul_(1 + 0.05 * (1 + number % 3))
        fresh = trial.fresh()
        fresh.load_state_dict(module.state_dict())
        for name, run in runs.items():
            got, want = run(module), run(fresh)
            what = f"{name} after the parameters changed in place, against a module that starts with them: features"
            yield from disagreement(what, got, want, trial.floor.features)


def _copied_after(trial: Trial) -> Breaches:
    """`copy.deepcopy` works after a call with gradients, and the copy gives the same."""
    module, x = copy.deepcopy(trial.module()).train(), trial.inputs(0, 3, SHORT)
    scan(module, x, None)
    module.eval()
    other = copy.deepcopy(module)
    with torch.no_grad():
        got, want = scan(other, x, None)[0], scan(module, x, None)[0]
    yield from disagreement("features of a copy made after a call", got, want, trial.floor.features)


def _after_inference(trial: Trial) -> Breaches:
    """A module that first acted under inference mode, as an agent's does, can be trained and gives the same.

    A tensor that it kept from there is an inference tensor for good, and autograd refuses it.
    """
    module, x = trial.fresh(), trial.inputs(0, 3, SHORT)
    with torch.inference_mode():
        state = scan(module, x, None)[1]
        with module.prepared():
            module.step(x[:, 0], state)
    other, x = trial.fresh(), x.requires_grad_()
    for run in (scan, loop):
        try:
            with torch.enable_grad():
                features, want = (run(one, x, None)[0] for one in (module, other))
                total = functional([features])
            if total.requires_grad:
                torch.autograd.grad(total, x, allow_unused=True)
        except RuntimeError as error:
            if "nference tensor" not in str(error):
                raise
            yield f"{run.__name__}: a tensor kept from a call under torch.inference_mode() cannot be trained through"
            continue
        what = f"{run.__name__} after a call under torch.inference_mode(): features"
        yield from disagreement(what, features, want, trial.floor.features)


def _switched(trial: Trial) -> Breaches:
    """Going to train() and back changes no parameter and no buffer."""
    module = trial.fresh()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.train().eval()
    module.train().eval()
    after = module.state_dict()
    for name, tensor in before.items():
        if name not in after or not torch.equal(after[name].nan_to_num(), tensor.nan_to_num()):
            yield f"{name}: changed by train() and eval(), which a validation calls again and again"


def _under_autocast(
    trial: Trial,
    what: str,
    situation: Situation,
    run: Callable[..., tuple[Tensor, State | None]],
    dtype: torch.dtype,
) -> Breaches:
    """Outputs, and gradients where the situation has them, under autocast near those without."""
    module = trial.module(dtype=torch.float32, training=situation.training)
    x, is_first = trial.inputs(0, situation.rows, situation.length).to(dtype), situation.is_first(trial.device)

    def called(inputs: Tensor, autocast: bool) -> Outcome:
        state = cast(trial.start(situation.start, situation.rows), torch.float32)
        sources = dict(module.named_parameters()) if situation.gradient else {}
        sources = {name: parameter for name, parameter in sources.items() if parameter.requires_grad}
        with torch.set_grad_enabled(situation.gradient):
            with torch.autocast(trial.device.type, torch.bfloat16, enabled=autocast):
                features, last = run(module, inputs, state, is_first, situation.return_state)
            total = functional([features]) if sources else features
        found: tuple[Tensor, ...] = tuple(torch.zeros_like(source) for source in sources.values())
        if sources and total.requires_grad:
            found = torch.autograd.grad(total, list(sources.values()), allow_unused=True, materialize_grads=True)
        return Outcome(features.detach(), last, dict(zip(sources, found, strict=True)))

    wanted, seen = called(x.float(), autocast=False), called(x, autocast=True)
    first = 0
    for ours, theirs in zip(*(torch.split(one.features, 8, dim=1) for one in (seen, wanted)), strict=True):
        steps = f"steps {first} to {first + ours.shape[1] - 1}"
        first += ours.shape[1]
        yield from far_apart(f"{what}: features of {steps} under bf16 autocast", ours, theirs)
    least = max((float(gradient.norm()) for gradient in wanted.gradients.values()), default=0.0) / 10
    for name, gradient in wanted.gradients.items():
        error = float((seen.gradients[name].float() - gradient).norm())
        if not error <= FAR_OFF * max(float(gradient.norm()), least):
            yield (
                f"{what}: the gradient of {name} under bf16 autocast differs from that in float32 by "
                f"{error / max(float(gradient.norm()), least, 1e-30):.0%} in L2, allowed {FAR_OFF:.0%}"
            )
    if wanted.state is not None and seen.state is not None:
        ours, theirs = (named_leaves(trial.comparable(tree.detach(one.state))) for one in (seen, wanted))
        for path, leaf in theirs.items():
            if leaf.is_floating_point():
                yield from far_apart(f"{what}: last {path} under bf16 autocast", ours[path], leaf)


def far_apart(what: str, got: Tensor, want: Tensor) -> Breaches:
    """A sentence where the two differ by more than `ROUNDED` in L2, or `got` is not finite where `want` is."""
    counts = torch.isfinite(want) & (want.abs() < HUGE)
    got, want = got.detach().double()[counts], want.detach().double()[counts]
    if not bool(torch.isfinite(got).all()):
        yield f"{what} are not finite"
        return
    error, size = float((got - want).norm()), float(want.norm())
    if error > ROUNDED * size:
        yield f"{what} differ from float32 by {error / max(size, 1e-30):.0%} in L2, allowed {ROUNDED:.0%}"


def _accumulators(trial: Trial) -> Breaches:
    """Entries that add up from step to step are kept in more than sixteen bits; a cache may be rounded."""
    module = trial.module(dtype=torch.float32)
    x = trial.inputs(0, 3, 2).float()
    probes = _accumulating(trial, module, x[:, 0])

    def stepped(dtype: torch.dtype) -> State:
        return module.step(x[:, 0].to(dtype), cast(trial.start("carried", 3), torch.float32))[1]

    def scanned(situation: Situation, dtype: torch.dtype) -> State:
        state = cast(trial.start(situation.start, 3), torch.float32)
        one = trial.module(dtype=torch.float32, training=situation.training)
        inputs = trial.inputs(5, 3, situation.length).to(dtype)
        return scan(one, inputs, state, situation.is_first(trial.device))[1]

    calls: dict[str, Callable[[torch.dtype], State]] = {"step from a carried state": stepped}
    for situation in (
        Situation(SHORT, 3),
        Situation(SHORT, 3, resets="adjacent"),
        Situation(SHORT, 3, "carried"),
        Situation(SHORT, 3, "carried", "adjacent"),
        *([] if trial.random_in_train else [Situation(65, 3, "carried", "middle", training=True)]),
    ):
        calls[str(situation)] = functools.partial(scanned, situation)
    for autocast in (True, False):
        for name, call in calls.items():
            with torch.no_grad(), torch.autocast(trial.device.type, torch.bfloat16, enabled=autocast):
                leaves = named_leaves(call(torch.bfloat16 if autocast else torch.float32))
            for path, places in probes.items():
                entries = leaves[path].flatten()[places]
                entries = entries[(entries != 0) & (entries != entries.round())]
                if not len(entries):
                    continue
                share = float(_in_sixteen_bits(entries).double().mean())
                if share > SHORT_ENTRIES:
                    how = "under bf16 autocast" if autocast else "without autocast"
                    yield (
                        f"{name}, {how}: {path} adds up from step to step, and {share:.0%} of its entries are rounded "
                        "to sixteen bits, expected float32"
                    )


def _accumulating(trial: Trial, module: Backbone, x: Tensor) -> dict[str, Tensor]:
    """By leaf, some entries whose next value depends on themselves but is not just moved: (K,) flat places."""
    state = cast(trial.start("carried", 3), torch.float32)
    old = {path: leaf.requires_grad_(leaf.is_floating_point()) for path, leaf in named_leaves(state).items()}
    with torch.enable_grad():
        new = named_leaves(module.step(x, state)[1])
    found = {}
    for path, leaf in new.items():
        if not leaf.requires_grad or path in {f"state{p}" for p in module.not_differentiable}:
            continue
        flat, places = leaf.flatten(), []
        for place in torch.linspace(0, flat.numel() - 1, min(PROBED, flat.numel())).long().tolist():
            (gradient,) = torch.autograd.grad(flat[place], old[path], retain_graph=True, allow_unused=True)
            if gradient is not None and float(gradient.flatten()[place]) not in (0.0, 1.0):
                places.append(place)
        if places:
            found[path] = torch.tensor(places)
    return found


def _in_sixteen_bits(entries: Tensor) -> Tensor:
    """Which entries fit in bfloat16 or float16?"""
    entries = entries.float()
    return (entries == entries.bfloat16().float()) | (entries == entries.half().float())


def only_moves_values(old: Tensor, new: Tensor) -> bool:
    """Is `new` made of entries of `old` (and of others) as they are, as in a cache? Then so is the gradient."""
    if not new.requires_grad:
        return True
    weights = noise(9, tuple(new.shape)).to(new.device).bfloat16()
    (gradient,) = torch.autograd.grad((weights * new).sum(), old, retain_graph=True, allow_unused=True)
    return gradient is None or bool(torch.isin(gradient[gradient != 0], weights.float()).all())
