"""Probes are fitted to every row of training episodes and asked about held-out ones; what is done is not done again.

Every (probe, head, row, seed) is one fit, whose scores are written to a file of their own: killed and run again, the
same call goes on with the next. The same call gives the same numbers, to the last bit on a CPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor

from wmkit.checks import check_choice, check_integer
from wmkit.data import Episode, EpisodeSource
from wmkit.evaluation.held_out import read_episodes
from wmkit.evaluation.predictors import CONSTANT, CONTROL, OBSERVED, ORACLE, UNTRAINED
from wmkit.evaluation.record import Metric
from wmkit.files import to_json
from wmkit.probing.base import NEVER, Probe, all_probes, entries_of, find_probes, width_of
from wmkit.probing.features import CONTEXTS, IMAGINED, ROWS, TOLD, Gathered, Reading, features_of, gather
from wmkit.probing.networks import Fit, answers, best_constant, fit_head
from wmkit.probing.oracle import SHARE, can_be_trained, train_oracle
from wmkit.probing.readers import Reader, WorldModelReader, fingerprint, weights_digest
from wmkit.probing.results import (
    AXES,
    CLAIMS,
    IN_VIEW,
    SEEN,
    SELECTIVITY,
    ProbeMeasurements,
    ProbeResults,
    claims_in_view,
)
from wmkit.probing.state import AHEAD, REACH, RESET, SWAP, gradient_reach, replace_parts
from wmkit.probing.state import EPISODES as LOOKED_AT
from wmkit.training.short import EPISODES, STEPS, is_short

HEADS = ("mlp", "linear")
"""The probe's own network, and a linear map."""
STEPS_READ = 200
"""Of long episodes about so many steps are kept, unless told otherwise."""
FINE_DELAYS, COARSE_DELAYS = 16, 24
"""Delays that are told apart one by one, and the number of wider and wider bins for the rest."""
APART = 10
"""Of the training episodes one in so many, two or more given, is not fitted to: a fit stops by them."""
CONTROL_UNITS, CONTROL_GAIN = 64, 3.0
"""Of the random network that is the control task: hidden units, and how far from linear it is."""
LISTS = ("probes", "rows", "heads")
NUMBERS = ("seeds", "episodes", "held_out", "length", "every", "context", "oracle_steps", "seed", "steps")
"""What can be typed of a plan."""
_COLUMNS = {**ProbeMeasurements.schema, "axis": pl.String}
Progress = Callable[[str, int, int], None]
"""Of something, how much is done and how much there is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be probed, and how. Raises `ValueError` for rows and heads that do not exist, and for numbers."""

    probes: Sequence[str | Probe] | None = None
    """Names or objects; None: all that apply to the episodes."""
    rows: Sequence[str] | None = None
    """See `features.ROWS`; None: all that the model allows. `inputs` and `constant` are always among them."""
    heads: Sequence[str] = HEADS
    seeds: int = 3
    """Fits of each probe."""
    episodes: int = 200
    """Training episodes that probes are fitted to; fewer where there are no more."""
    held_out: int = 64
    """Episodes that they are asked about."""
    length: int | None = None
    """Steps of each episode, from its first on; None: those of the shortest."""
    every: int | None = None
    """Of them every so many-th is asked about; None: so that about `STEPS_READ` are."""
    context: int | None = None
    """Steps before imagination; None: the episode's `context_length`, if it is shorter than it, else half of it."""
    seed: int = 0
    """Of latents, and the first of the fits."""
    fit: Fit = dataclasses.field(default_factory=Fit)
    oracle_steps: int | None = None
    """Optimiser steps of the row `oracle`, which trains the model too; None: one for every five of `fit`."""

    def __post_init__(self) -> None:
        for row in self.rows or ():
            check_choice("rows", row, ROWS)
        for head in self.heads:
            check_choice("heads", head, HEADS)
        for name, least in (("seeds", 1), ("episodes", 1), ("held_out", 2), ("seed", 0)):
            check_integer(name, getattr(self, name), least)
        for name, least in (("length", 2), ("every", 1), ("context", 1), ("oracle_steps", 1)):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), least)
        for name, least in (("steps", 1), ("rows", 1)):
            check_integer(f"fit.{name}", getattr(self.fit, name), least)
        if not self.heads:
            raise ValueError(f"heads: expected some of {', '.join(HEADS)}, got none")

    @classmethod
    def of(cls, words: Mapping[str, str]) -> Plan:
        """From what was typed: `probes`, `rows` and `heads` with commas between, numbers by the names of the fields,
        and `steps` of a fit. A short run (`WMKIT_SHORT`) makes one of a second or two of it.

        Raises `ValueError` for unknown keys, probes, rows and heads, for empty lists and for what is no number.
        """
        options: dict[str, Any] = {}
        for key, text in words.items():
            check_choice("probe", key, (*LISTS, *NUMBERS))
            if key in LISTS:
                options[key] = [word for part in text.split(",") if (word := part.strip())]
                if not options[key]:
                    raise ValueError(f"{key}: expected names separated by commas, got none")
            else:
                try:
                    options[key] = int(text)
                except ValueError as error:
                    raise ValueError(f"{key}: expected a whole number, got {text!r}") from error
        find_probes(options.get("probes", []))
        steps = options.pop("steps", Fit.steps)
        if is_short():
            options |= {"seeds": 1, "episodes": EPISODES, "held_out": EPISODES, "heads": ["linear"], "every": STEPS}
            options["length"] = min(options.get("length") or 4 * STEPS, 4 * STEPS)
            steps = 2
        return cls(**options, fit=Fit(steps=steps))


def measure_probes(
    reader: Reader,
    training: EpisodeSource,
    test: EpisodeSource,
    plan: Plan,
    *,
    folder: Path | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Progress = lambda what, done, total: None,
) -> ProbeResults:
    """Fit probes to the first training episodes, ask them about the first held-out ones.

    folder: where finished fits are kept, so that the call can be made again; None: nowhere. about: entries of the
    records' summary; what is in it tells the fits of one checkpoint from those of another.

    Raises `ValueError` for unknown probes, probes that were named and do not apply, sources of different shapes,
    episodes that are too few or too short, and the rows `untrained` and `oracle` of a model that nobody can build anew.
    """
    before = fingerprint(reader)
    settled = _settled(plan, training, test)
    notes: list[str] = []
    first, last = training.episode(0), test.episode(0)
    probes = chosen_probes(settled.probes, last)
    unhidden = shows_all(test) or shows_all(training)
    if unhidden and any(one.of_view for one in probes):
        if settled.probes is not None:
            named = ", ".join(one.name for one in probes if one.of_view)
            raise ValueError(f"probes: expected others than {named}, which ask what was seen: here walls hide nothing")
        probes = [one for one in probes if not one.of_view]
    if unhidden:
        notes.append("There are no delays, and nothing is asked about what was seen: in this world walls hide nothing.")
    _check_alike(reader, training, test, first, last, probes)
    names = [probe.name for probe in probes]
    wanted = set(ROWS if settled.rows is None else settled.rows) | {TOLD, CONSTANT}
    cannot: dict[str, str] = {}
    if reader.make is None:
        cannot[UNTRAINED] = "nobody said how to build the model at its initial weights (make=)"
    if not can_be_trained(reader):
        cannot[ORACLE] = "nobody said how to build the model anew (make=), or what of it has weights (modules=)"
    for row, why in cannot.items():
        if row in wanted:
            if settled.rows is not None:
                raise ValueError(f"rows: there is no `{row}`: {why}; leave it out")
            wanted.remove(row)
            notes.append(f"There is no row `{row}`: {why}.")
    rows = tuple(row for row in ROWS if row in wanted)
    seeds = range(settled.seed, settled.seed + settled.seeds)
    numbers = {name: getattr(settled, name) for name in ("episodes", "held_out", "length", "every", "context", "seed")}
    numbers |= {"fit": dataclasses.asdict(settled.fit)}
    also = {"seeds": settled.seeds, "rows": rows, "oracle_steps": settled.oracle_steps}
    told = {**(about or {}), "plan": {**numbers, **also}}
    told |= {"probes": names, "heads": list(settled.heads)}
    asked_of = {"part": reader.part, "model": _answer_of(reader, test), "episodes": [_digest(first), _digest(last)]}
    mark = to_json({**(about or {}), **numbers, **asked_of})
    parts = _Parts(folder, hashlib.sha256(mark.encode()).hexdigest()[:12])
    code = {probe.name: _code_of(probe) for probe in probes}  # a probe that was changed is another one
    informed = {probe.name for probe in probes if probe.inputs}
    steps_of = {ORACLE: settled.oracle_steps}  # other numbers of them are other fits of this row alone
    fits = {
        key: "-".join(map(str, (key[0], code[key[0]], key[1], f"{key[2]}{steps_of.get(key[2], '')}", key[3])))
        for key in itertools.product(names, settled.heads, rows, seeds)
        if (key[2] != TOLD or key[0] in informed) and (key[2] != ORACLE or key[1] == settled.heads[0])
    }
    missing = [key for key, name in fits.items() if not parts.has(name)]
    if missing:
        asked = tuple(dict.fromkeys(row for _, _, row, _ in missing))
        left = [probe for probe in probes if probe.name in {name for name, *_ in missing}]
        read = {"training": 0, "held-out": 0}

        def gathered(what: str, source: EpisodeSource, count: int, context: int | None) -> Gathered:
            def advance(episodes: int) -> None:
                read[what] += episodes
                progress(f"reading {what} episodes", read[what], count)

            return gather(reader, source, range(count), settled.length, settled.every, left, asked, seed=settled.seed,
                          context=context, delays=not unhidden, progress=advance)  # fmt: skip

        fitted_to = gathered("training", training, settled.episodes, None)
        asked_about = gathered("held-out", test, settled.held_out, settled.context)
        constants: dict[tuple[str, bool], Tensor] = {}
        for done, (name, head, row, seed) in enumerate(missing):
            probe = next(one for one in left if one.name == name)
            progress(f"{name}: {head} on {row}, seed {seed}", done, len(missing))
            target = fitted_to.targets[name]
            same = bool((target == target[:1, :1]).all())  # there is nothing to tell
            # Of a target that is no set of classes or numbers no random function can be told.
            nothing = same or (row == CONTROL and probe.width is not None)
            frame, shown = (
                (pl.DataFrame(schema=_COLUMNS), {})
                if nothing
                else _fit_and_ask(
                    probe, head, row, seed, reader, (training, test), (fitted_to, asked_about), settled, constants
                )
            )
            parts.save(fits[name, head, row, seed], frame, shown)
        progress("fits", len(missing), len(missing))
    looks = [] if OBSERVED not in rows else [f"state-{_code('state.py')}-{settled.seed}"]
    for name in looks:
        if not parts.has(name):
            parts.save(name, _look_at_state(reader, test, settled), {})
    after = fingerprint(reader)
    assert after == before, "probing changed the model that it probes"
    frame = pl.concat([parts.load(name) for name in (*fits.values(), *looks)])
    there = set(frame["measure"].unique())
    notes += [
        f"{name} is left out: it is the same at every step of every training episode."
        for name in names
        if not there & {f"{name}_{head}" for head in settled.heads}
    ]
    return dataclasses.replace(_results(frame, probes, settled, told, tuple(notes)), answers=parts.folder)


def chosen_probes(wanted: Sequence[str | Probe] | None, episode: Episode) -> list[Probe]:
    """The probes of names or objects, or of None all that apply to an episode.

    Raises `ValueError` for unknown names, for those that do not apply, and where nothing does.
    """
    if wanted is None:
        probes = [one for cls in all_probes().values() if (one := cls()).applies(episode)]
        if not probes:
            raise ValueError(f"No probe applies to episodes with {', '.join(episode)}; write one: docs/probes.md")
        return probes
    probes = [one if isinstance(one, Probe) else find_probes([one])[0] for one in wanted]
    for probe in probes:
        if not probe.applies(episode):
            raise ValueError(
                f"The probe {probe.name!r} reads {', '.join(probe.keys)}, the episodes have {', '.join(episode)}"
            )
    return probes


def shows_all(source: Any) -> bool:
    """Whether the episodes are of a world in which walls hide nothing: of a maze from above, or with low walls."""
    while hasattr(source, "source"):  # some episodes of another source
        source = source.source
    if hasattr(source, "world"):  # generated
        return not getattr(source.world, "walls_hide", True)
    made_by = getattr(source, "origin", {}).get("world")
    return isinstance(made_by, Mapping) and bool(made_by.get("from_above") or made_by.get("visible"))


def _check_alike(
    reader: Reader, training: EpisodeSource, test: EpisodeSource, first: Episode, last: Episode, probes: Sequence[Probe]
) -> None:
    """Raise `ValueError` where training episodes, held-out ones and the model are of different shapes."""
    kinds = {"training": training, "held-out": test}
    if isinstance(reader, WorldModelReader):
        kinds["model's"] = reader.model  # type: ignore[assignment]
    shapes = {name: (tuple(one.image_shape), one.action_dim) for name, one in kinds.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError("Expected images (C, H, W) and numbers of actions of one shape, got "
                         + ", ".join(f"{name} {shape} and {actions}" for name, (shape, actions) in shapes.items())
                         )  # fmt: skip
    for probe in probes:
        if not probe.applies(first):
            raise ValueError(
                f"The probe {probe.name!r} reads {', '.join(probe.keys)}, the training episodes have {', '.join(first)}"
            )
        targets = [np.asarray(probe.target(episode)) for episode in (first, last)]
        if targets[0].shape[1:] != targets[1].shape[1:]:
            raise ValueError(
                f"The probe {probe.name!r}: expected training and held-out episodes with targets of one shape, got "
                f"{targets[0].shape[1:]} and {targets[1].shape[1:]}"
            )


def _digest(episode: Episode) -> str:
    """Of all that is in an episode."""
    digest = hashlib.sha256()
    for key in sorted(episode):
        array = np.ascontiguousarray(episode[key])
        digest.update(f"{key} {array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Settled(Plan):
    """A plan with every number that it left to the episodes."""

    length: int
    every: int
    context: int
    oracle_steps: int


def _settled(plan: Plan, training: EpisodeSource, test: EpisodeSource) -> _Settled:
    held_out = min(plan.held_out, test.num_episodes or plan.held_out)
    episodes = min(plan.episodes, training.num_episodes or plan.episodes)
    if held_out < 2:
        raise ValueError(f"held_out: expected 2 episodes at least, there is {held_out}")
    lengths = {source.episode_length(index) for source, count in ((training, episodes), (test, held_out))
               for index in range(count)}  # fmt: skip
    length = min(lengths) if plan.length is None else plan.length
    if length > min(lengths) or length < 2:
        raise ValueError(f"length: expected 2 to {min(lengths)} steps, as the shortest episode has, got {length}")
    scripted = int(test.episode(0).constants.get("context_length", 0))
    usual = scripted if 1 <= scripted < length else length // 2
    context = usual if plan.context is None else plan.context
    if not 1 <= context <= length:
        raise ValueError(f"context: expected 1 to {length} steps, got {context}")
    every = plan.every or max(1, length // STEPS_READ)
    settled = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}
    return _Settled(**settled | {"held_out": held_out, "episodes": episodes, "length": length, "context": context,
                                 "every": every, "oracle_steps": plan.oracle_steps or -(-plan.fit.steps // SHARE)}
                    )  # fmt: skip


class _Parts:
    """Finished fits by name, each with what it was asked: in files of a folder, or in memory."""

    def __init__(self, folder: Path | None, mark: str) -> None:
        self.folder = None if folder is None else folder / "parts" / mark
        self.kept: dict[str, pl.DataFrame] = {}

    def has(self, name: str) -> bool:
        return name in self.kept or (self.folder is not None and (self.folder / f"{name}.parquet").exists())

    def save(self, name: str, frame: pl.DataFrame, shown: Mapping[str, Any]) -> None:
        """Whole or not at all; the answers about one episode, for pictures, stand beside."""
        if self.folder is None:
            self.kept[name] = frame
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if shown:
            np.savez_compressed(self.folder / f"{name}.npz", allow_pickle=False, **shown)
        beside = self.folder / f".{name}.new"
        with beside.open("wb") as file:  # by their names polars takes folders for patterns
            frame.write_parquet(file)
        beside.replace(self.folder / f"{name}.parquet")

    def load(self, name: str) -> pl.DataFrame:
        if name in self.kept:
            return self.kept[name]
        assert self.folder is not None, "it is in memory, or in the folder"
        with (self.folder / f"{name}.parquet").open("rb") as file:
            return pl.read_parquet(file)


def _answer_of(reader: Reader, test: EpisodeSource) -> str:
    """What tells one model from another: its weights, or where they are not known what it makes of one frame."""
    if reader.modules:
        return weights_digest(reader)
    batch = read_episodes(test, [0], 1).to(reader.device)
    with reader.reading():
        features, _ = reader.observe(batch.image, batch.action, [0])
    return hashlib.sha256(features.cpu().numpy().tobytes()).hexdigest()


def _code_of(probe: Probe) -> str:
    """A digest of the source of the class, of those that it is made from, and of what reads and fits.

    Of a class without a file, typed into an interpreter, its name.
    """
    digest = hashlib.sha256()
    for cls in type(probe).__mro__[:-1]:
        try:
            digest.update(inspect.getsource(cls).encode())
        except (OSError, TypeError):
            digest.update(cls.__qualname__.encode())
    digest.update(_code("view.py", "features.py", "networks.py", "oracle.py").encode())
    return digest.hexdigest()[:6]


def _code(*files: str) -> str:
    """A digest of files of this package."""
    return hashlib.sha256(b"".join(Path(__file__).with_name(file).read_bytes() for file in files)).hexdigest()[:6]


def _fit_and_ask(
    probe: Probe,
    head: str,
    row: str,
    seed: int,
    reader: Reader,
    sources: tuple[EpisodeSource, EpisodeSource],
    gathered: tuple[Gathered, Gathered],
    plan: _Settled,
    constants: dict[tuple[str, bool], Tensor],
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """One fit, its scores on every axis, and its answers about the first held-out episode for pictures.

    sources, gathered: of training, and of held-out episodes.
    """
    (training, test), (fitted_to, asked_about) = sources, gathered
    source = features_of(row)
    hidden = None if row == CONSTANT else tuple(probe.hidden) if head == "mlp" else ()
    reading = None if source is None else fitted_to.readings[source]
    target, delay = fitted_to.targets[probe.name], fitted_to.delays[probe.name]
    known = fitted_to.codes[..., :0] if reading is None else reading.features
    asked = asked_about.targets[probe.name]
    counts = probe.counts(_flat(delay), _flat(target))
    if row == CONTROL:
        task = _control_task(probe, fitted_to.codes, target, counts, plan.seed)
        target, asked = task(fitted_to.codes), task(asked_about.codes)
    question = probe.name, row == CONTROL
    if question not in constants:
        constants[question] = best_constant(probe, _flat(target), counts)
    inputs = _flat(fitted_to.inputs[probe.name])
    episodes, steps = known.shape[:2]
    apart = steps * max(1, episodes // APART) if episodes > 1 else 0
    fitted = fit_head(
        probe, hidden, _flat(known), inputs, _flat(target), counts, constants[question], seed, plan.fit, apart
    )
    of_row = asked_about.blank if source is None else asked_about.readings
    if row == ORACLE:

        def observed_by(model: Reader, source: EpisodeSource, indices: Sequence[int]) -> Reading:
            found = gather(model, source, indices, plan.length, plan.every, (), (OBSERVED,), seed=plan.seed)
            return found.readings[OBSERVED]

        def looked_at(model: Reader, indices: Sequence[int]) -> Tensor:
            return observed_by(model, training, indices).features

        model, fitted = train_oracle(
            reader, fitted, probe, training, fitted_to, counts, looked_at, apart // steps, plan.oracle_steps, seed,
            plan.fit,
        )  # fmt: skip
        of_row = {OBSERVED: observed_by(model, test, range(plan.held_out))}
    measure, frames = f"{probe.name}_{head}", []
    axes = {"steps": source or OBSERVED}
    if row in (OBSERVED, CONSTANT):
        axes |= {"imagined": IMAGINED, "contexts": CONTEXTS}
    shown: dict[str, Any] = {}
    for axis, name in axes.items():
        if name not in of_row:
            continue
        ask = of_row[name]
        output = answers(fitted, ask.features, asked_about.inputs[probe.name][:, ask.at])  # (E, S, *entries, width)
        scores, delays, counted = _scored(probe, output, asked[:, ask.at], asked_about, ask)
        where = partial_frame(measure, row, seed, axis)
        frames.append(where(*_mean_of_entries(scores, counted), ask.position))
        if axis == "steps" and delays is not None and row != CONTROL:
            ends = {SEEN: delays != NEVER} | ({IN_VIEW: delays == 0} if probe.shown else {})
            for end, which in ends.items():
                frames.append(
                    partial_frame(measure + end, row, seed, axis)(
                        *_mean_of_entries(scores, counted & which), ask.position
                    )
                )
            edges = delay_bins(plan.length)
            frames.append(partial_frame(measure, row, seed, "delay")(*_by_delay(scores, counted, delays, edges), edges))
        if axis == "steps" and row == OBSERVED:
            shown = {"output": output[0].cpu().numpy(), "target": asked[0].cpu().numpy(), "steps": asked_about.kept}
            shown["inputs"] = asked_about.inputs[probe.name][0].cpu().numpy()
            if (since := asked_about.delays[probe.name]) is not None:
                shown["delay"] = since[0].cpu().numpy()
    return pl.concat(frames), shown


def _flat(x: Any) -> Any:
    """(E, S, ...) -> (E S, ...)."""
    return None if x is None else x.flatten(0, 1)


def _scored(
    probe: Probe, output: Tensor, target: Tensor, gathered: Gathered, ask: Reading
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, npt.NDArray[Any]]:
    """Scores (E, S, n) of the n entries, their delays (E, S, n) and which count (E, S, n).

    Raises `ValueError` where the probe gives one that is not of the entries' shape.
    """
    true, delay = gathered.targets[probe.name][:, ask.at], gathered.delays[probe.name]
    delay = None if delay is None else delay[:, ask.at]
    lead, entries = tuple(target.shape[:2]), entries_of(_flat(target))
    scores = probe.score(_flat(output), _flat(target))  # (E S, *entries)
    counts = probe.counts(_flat(delay), _flat(true))
    for name, values in (("score", scores), ("delay", _flat(delay)), ("counts", counts)):
        if values is not None and tuple(values.shape[1:]) != entries:
            raise ValueError(
                f"Probe {probe.name!r}: expected {name} with the axes of its entries, {entries}, got "
                f"{tuple(values.shape[1:])}"
            )
    counts = torch.ones_like(scores, dtype=torch.bool) if counts is None else counts

    def by_entry(x: Tensor) -> npt.NDArray[Any]:
        return x.reshape(*lead, -1).cpu().numpy()

    return by_entry(scores), None if delay is None else by_entry(delay), by_entry(counts)


def _mean_of_entries(
    scores: npt.NDArray[Any], counts: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """(E, S, n) -> means over the entries that count (E, S), and where there are any."""
    number = counts.sum(-1)
    return (scores * counts).sum(-1, dtype=np.float64) / np.maximum(number, 1), number > 0


def delay_bins(length: int) -> npt.NDArray[np.int64]:
    """Shortest delay of each bin: one by one at first, then wider and wider; 0 is in view."""
    coarse = np.geomspace(FINE_DELAYS, max(length, FINE_DELAYS + 1), COARSE_DELAYS).round()
    fine = np.arange(FINE_DELAYS)
    return np.unique(np.concatenate([fine, coarse[coarse < length]]).astype(np.int64))


def _by_delay(
    scores: npt.NDArray[Any], counts: npt.NDArray[Any], delays: npt.NDArray[Any], edges: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Means of each episode by bin of the delay, (E, D), and where there are any."""
    rows = len(scores)
    place = np.searchsorted(edges, delays, side="right") - 1 + len(edges) * np.arange(rows)[:, None, None]
    which = counts & (delays != NEVER)
    summed = np.bincount(place[which], scores[which].astype(np.float64), minlength=rows * len(edges))
    number = np.bincount(place[which], minlength=rows * len(edges))
    return (summed / np.maximum(number, 1)).reshape(rows, -1), (number > 0).reshape(rows, -1)


def _look_at_state(reader: Reader, test: EpisodeSource, plan: _Settled) -> pl.DataFrame:
    """The reach of gradients, and what imagination follows after a swap or a reset, on the first held-out episodes."""
    indices = range(min(LOOKED_AT, plan.held_out))
    batch = read_episodes(test, indices, plan.length)
    seeds = [plan.seed * 1_000_003 + index for index in indices]
    reach = gradient_reach(reader, batch, seeds)
    frames = [partial_frame(REACH.name, OBSERVED, plan.seed, "reach")(reach, reach >= 0, np.arange(reach.shape[1]))]
    if plan.context < plan.length:
        for metric, parts in replace_parts(reader, batch, plan.context, seeds).items():
            axis = {SWAP: "swap", RESET: "reset"}[metric]
            for part, follows in parts.items():
                steps = np.arange(1, follows.shape[1] + 1)
                frames.append(partial_frame(metric.name, part, plan.seed, axis)(follows, follows >= 0, steps))
    return pl.concat(frames)


def partial_frame(
    measure: str, row: str, seed: int, axis: str
) -> Callable[[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.int64]], pl.DataFrame]:
    """Makes records of values (E, S), where they count, and their places on the axis (S,)."""

    def frame(
        values: npt.NDArray[np.float64], counts: npt.NDArray[np.bool_], position: npt.NDArray[np.int64]
    ) -> pl.DataFrame:
        episode, column = np.nonzero(counts)
        made = pl.DataFrame({"episode": episode, "step": position[column], "value": values[episode, column]})
        made = made.with_columns(
            measure=pl.lit(measure), predictor=pl.lit(row), probe_seed=pl.lit(seed), axis=pl.lit(axis)
        )
        return made.select(pl.col(name).cast(kind) for name, kind in ProbeMeasurements.schema.items()).with_columns(
            axis=pl.lit(axis)
        )

    return frame


def _control_task(
    probe: Probe, codes: Tensor, target: Tensor, counts: Tensor | None, seed: int
) -> Callable[[Tensor], Tensor]:
    """A fixed random function of the frame in view, of the target's kind: small pictures (E, S, P) -> targets.

        w2 tanh(gain w1 (code - mean) / std)

    Each entry gets the base rates of its true labels in training (Hewitt and Liang 2019, whose control tasks are random
    functions of the word): of classes one output, cut where their shares have been used up, class after class; numbers
    get the mean and the deviation of the true ones. counts: (N, *entries) those whose labels are asked for.
    """
    flat = _flat(target)
    entries = entries_of(flat)
    width = target.shape[-1] if target.is_floating_point() else 1
    generator = torch.Generator().manual_seed(seed + 7919)
    pixels, outputs = codes.shape[-1], int(torch.Size((*entries, width)).numel())
    first = torch.randn(pixels, CONTROL_UNITS, generator=generator).to(codes) * CONTROL_GAIN / pixels**0.5
    second = torch.randn(CONTROL_UNITS, outputs, generator=generator).to(codes) / CONTROL_UNITS**0.5
    mean, std = codes.mean((0, 1)), codes.std((0, 1)).clamp(min=1e-3)

    def raw(code: Tensor) -> Tensor:
        out = torch.tanh((code - mean) / std @ first) @ second
        return out.reshape(*code.shape[:-1], *entries, width)

    if not target.is_floating_point():
        which = torch.ones_like(flat, dtype=torch.bool) if counts is None else counts
        number = which.sum(0).clamp(min=1)
        made, _ = _flat(raw(codes))[..., 0].sort(dim=0)  # (N, *entries)
        cuts = []
        for label in range(width_of(probe, flat) - 1):
            share = ((flat <= label) & which).sum(0) / number  # (*entries)
            last = (share * len(made)).round().long().clamp(max=len(made)) - 1
            cut = made.gather(0, last.clamp(min=0)[None])[0]
            cuts.append(torch.where(last < 0, -torch.inf, cut))
        return lambda code: torch.stack([raw(code)[..., 0] > cut for cut in cuts]).sum(0)
    made = raw(codes)
    shift, scale = made.mean((0, 1)), made.std((0, 1)).clamp(min=1e-6)
    return lambda code: (raw(code) - shift) / scale * target.std((0, 1)) + target.mean((0, 1))


def _results(
    frame: pl.DataFrame, probes: Sequence[Probe], plan: _Settled, about: Mapping[str, Any], notes: tuple[str, ...]
) -> ProbeResults:
    """The records of all fits, by axis, with what they mean."""
    metrics: dict[str, Metric] = {metric.name: metric for metric in (REACH, SWAP, RESET)}
    for probe, head in itertools.product(probes, plan.heads):
        name, title = f"{probe.name}_{head}", f"{probe.name}: {probe.label or probe.name.replace('_', ' ')}, {head}"
        whole = Metric(
            name,
            probe.unit,
            probe.better,
            title,
            ranges=2,
            claims=CLAIMS,
        )
        metrics[name] = whole
        metrics[name + SEEN] = dataclasses.replace(whole, name=name + SEEN, label=f"{title}, seen before", claims=())
        metrics[name + IN_VIEW] = dataclasses.replace(
            whole,
            name=name + IN_VIEW,
            label=f"{title}, in view now",
            claims=claims_in_view(TOLD if probe.inputs else CONSTANT),
        )
        metrics[name + SELECTIVITY] = dataclasses.replace(
            whole,
            name=name + SELECTIVITY,
            better="higher",
            label=f"{title}, better than the control task by",
            claims=(),
        )
    steps = frame.filter(pl.col("axis") == "steps")
    main = [f"{probe.name}_{head}" for probe in probes for head in plan.heads]
    on = ["measure", "episode", "step", "probe_seed"]
    ours, control = (
        steps.filter((pl.col("predictor") == row) & pl.col("measure").is_in(main)) for row in (OBSERVED, CONTROL)
    )
    signs = {name: 1.0 if metrics[name].better == "higher" else -1.0 for name in main}
    both = ours.join(control, on=on, suffix="_control").with_columns(
        value=(pl.col("value") - pl.col("value_control"))
        * pl.col("measure").replace_strict(signs, return_dtype=pl.Float64),
        measure=pl.col("measure") + SELECTIVITY,
    )
    frame = pl.concat([frame, both.select(frame.columns)])
    ahead = plan.length - plan.context
    lengths = (
        dict.fromkeys(AXES, plan.length) | {"imagined": ahead} | dict.fromkeys(("swap", "reset"), min(AHEAD, ahead))
    )
    by_axis = {}
    for axis in AXES:
        part = frame.filter(pl.col("axis") == axis).drop("axis")
        if axis in ("imagined", "contexts") and OBSERVED not in part["predictor"]:
            continue  # the constant answer alone
        if len(part) or axis == "steps":
            found = ProbeMeasurements(part, metrics, 0, lengths[axis], {**about, "axis": axis})
            by_axis[axis] = found.judged() if axis == "steps" else found
    return ProbeResults(by_axis, notes)


@contextlib.contextmanager
def progress_bar(console: Console) -> Iterator[Progress]:
    """A bar with the time left, for what `measure_probes` tells of its progress."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Bar(*columns, console=console) as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            kind = what if what.startswith("reading") else "fits"
            if kind not in tasks:
                tasks[kind] = bar.add_task(what, total=total)
            bar.update(tasks[kind], completed=done, total=total, description=what)

        yield show
