"""`check_backbone`: the ten laws of the backbone contract, tried one after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Collection, Iterator

import torch

from wmkit.backbones.base import Backbone
from wmkit.checks import check_positive
from wmkit.registry import entry_of
from wmkit.testing import module_laws, sequence_laws
from wmkit.testing.diagnosis import diagnose
from wmkit.testing.situations import FIXED, LENGTHS, Situation, covering
from wmkit.testing.trial import NoFunctionalDropout, Trial, placement, process_settings

SHOWN = 4
"""Breaches of one law that are spelled out; the rest are counted."""

QUICK_LENGTHS = (1, 16)
"""Of the covering set of a quick check; what is longer is tried in a few fixed situations."""


class ContractViolation(AssertionError):
    """A backbone, or dynamics, broke laws of the contract; `results` has all of them."""

    def __init__(self, name: str, results: list[LawResult], contract: str = "backbone") -> None:
        self.results = results
        lines = [f"{name} breaks {len(self.laws)} of {len(results)} laws of the {contract} contract:"]
        if self.laws == [0]:
            lines = [f"{name} is not what the laws of the {contract} contract speak of:"]
        for result in results:
            if not result.kept:
                lines += [f"  law {result.number} ({result.title}):", *(f"    {text}" for text in result.shown)]
        super().__init__("\n".join(lines))

    @property
    def laws(self) -> list[int]:
        """The numbers of the broken laws."""
        return [result.number for result in self.results if not result.kept]


@dataclasses.dataclass(frozen=True)
class LawResult:
    """One law and how it went; number 0 is the look at what the backbone hands out, before any law."""

    number: int
    title: str
    breaches: tuple[str, ...]
    """What broke, where, by how much; empty when the law is kept."""
    notes: tuple[str, ...] = ()
    """What breaks nothing and is worth knowing: entries without a gradient, float32 inside, randomness in train()."""

    @property
    def kept(self) -> bool:
        """Did nothing break?"""
        return not self.breaches

    @property
    def shown(self) -> list[str]:
        """The first breaches, and how many more there are."""
        more = len(self.breaches) - SHOWN
        return [*self.breaches[:SHOWN], *([f"... and {more} more"] if more > 0 else [])]


def check_backbone(
    backbone: Backbone,
    *,
    laws: Collection[int] | None = None,
    quick: bool = False,
    seed: int = 0,
    length: int | None = None,
    longest: int = 2049,
    tolerance: float | None = None,
    rebuild: Callable[[], Backbone] | None = None,
) -> None:
    """Raise `ContractViolation` unless `backbone` keeps the ten laws written in `wmkit.Backbone`.

    First what it hands out is looked at: the first thing that is wrong is said in one sentence, and no law is tried.
    Laws 1 and 4 compare `scan` with the loop over `step` in a set of situations in which every two of these meet:
    state None, initial, carried, carried beside fresh rows; resets nowhere, of all rows at the first step and halfway,
    of most at a middle and the last step, at adjacent ones, at every one, at multiples of 8, 16, 32 and 64; 1 to 100
    steps; 1, 3, 16, 33 rows; with and without the last state, gradients, train(); strided inputs; parameters as they
    are and jittered. A few fixed ones are what truncated backpropagation passes, over up to 384 steps.

    The backbone is tried in the precision it has (float32 or float64), on copies: it is not changed, and the verdict
    is the same every time. A law that crashes counts as broken. Differences are measured as a share of the compared
    tensor's largest entry. Allowed are 5e-5 (float32) or 1e-10 (float64), for last states 1e-4 or 1e-8; in float32
    plus twice what rounding costs in the very situation, measured against float64, at most 2e-3 (gradients 2e-2). What
    breaks a law and computes in coarser numbers than the module's inside is tried again by what those allow, and a
    note says so.

    Args:
        backbone: what to check.
        laws: numbers of those to try; None: all ten.
        quick: fewer situations, about a third of the time.
        seed: of the inputs.
        length: one more length to try: for a `scan` in chunks of more than 128 steps a little more than two chunks.
        longest: steps of the one long sequence (law 9), more than 100; a cap above it goes unnoticed.
        tolerance: replaces the allowed difference.
        rebuild: makes the same backbone anew, with other random weights; law 7 then loads into that, and also sees
            what is neither parameter nor buffer.

    Raises:
        ContractViolation: names every law that broke, where, by how much.
        ValueError: for something that is not a backbone, sizes too small to tell, a tolerance that is not positive.

    Warns with every note: see `LawResult`.

    """
    results = examine_backbone(
        backbone,
        laws=laws,
        quick=quick,
        seed=seed,
        length=length,
        longest=longest,
        tolerance=tolerance,
        rebuild=rebuild,
    )
    name = type(backbone).__name__
    for result in results:
        for note in result.notes:
            warnings.warn(f"{name}: {note}", stacklevel=2)
    if not all(result.kept for result in results):
        raise ContractViolation(name, results)


def examine_backbone(
    backbone: Backbone,
    *,
    laws: Collection[int] | None = None,
    quick: bool = False,
    seed: int = 0,
    length: int | None = None,
    longest: int = 2049,
    tolerance: float | None = None,
    rebuild: Callable[[], Backbone] | None = None,
) -> list[LawResult]:
    """The laws with what broke in each and what is worth a note: `check_backbone` without exception and warnings."""
    refuse_other_kinds(backbone)
    if not isinstance(backbone, Backbone):
        raise ValueError(f"expected an instance of a subclass of wmkit.Backbone, got {backbone!r}")
    wanted = numbers_of_laws(laws)
    if length is not None and length < 1:
        raise ValueError(f"expected length >= 1, got {length}")
    if longest <= max(LENGTHS):
        raise ValueError(f"expected longest > {max(LENGTHS)}, got {longest}")
    if tolerance is not None:
        check_positive("tolerance", tolerance)
    if placement(backbone)[0] not in (torch.float32, torch.float64):
        raise ValueError(f"expected a backbone in float32 or float64, got {placement(backbone)[0]}")
    more = [] if length is None else [length]
    lengths = tuple(sorted({*(QUICK_LENGTHS if quick else LENGTHS), *more}))
    plain, broken_up = (covering(lengths, resets=resets) + FIXED[resets] for resets in (False, True))
    with torch.random.fork_rng(), torch.enable_grad(), contextlib.ExitStack() as blocks:
        torch.manual_seed(seed)
        settings = process_settings()
        if wrong := diagnose(backbone):
            return [LawResult(0, "what it hands out", (wrong,))]
        longest_loop = max(QUICK_LENGTHS if quick else LENGTHS)
        trial = Trial(backbone, seed=seed, tolerance=tolerance, longest_loop=longest_loop, settings=settings)
        if trial.random_in_train and not trial.random(training=False):
            blocks.enter_context(NoFunctionalDropout())
            del trial.random_in_train  # asked again inside the block
        results = _tried(trial, wanted, plain, broken_up, quick, longest, rebuild)
        general = []
        broken = tolerance is None and any(result.breaches for result in results)
        if broken and (inside := trial.coarsest(trial.dtype)) != trial.dtype:
            trial.coarse = True
            results = _tried(trial, wanted, plain, broken_up, quick, longest, rebuild)
            coarse, allowed = str(inside).removeprefix("torch."), f"{trial.floor.features:.0e} of the largest entry"
            general.append(f"computes in {coarse} inside: differences of {allowed} are allowed")
        if trial.random_in_train:
            general.append("two equal calls differ in train(): what it computes there is not compared")
        if results:
            results[0] = dataclasses.replace(results[0], notes=(*general, *results[0].notes))
        return results


def _tried(
    trial: Trial,
    wanted: set[int],
    plain: list[Situation],
    broken_up: list[Situation],
    quick: bool,
    longest: int,
    rebuild: Callable[[], Backbone] | None,
) -> list[LawResult]:
    """The wanted laws, one after the other."""
    notes: list[str] = []
    checks: list[tuple[str, Iterator[str]]] = [
        ("scan equals repeated step", sequence_laws.scan_equals_step(trial, plain)),
        ("pieces equal the whole", sequence_laws.pieces_equal_whole(trial, quick)),
        ("causality", sequence_laws.causality(trial, quick)),
        ("a reset is a fresh start", sequence_laws.resets(trial, broken_up, quick)),
        ("rows do not see their neighbours", sequence_laws.rows_apart(trial, quick)),
        ("gradients reach parameters and incoming state", module_laws.gradients(trial, notes, quick)),
        ("saving and loading", module_laws.saving(trial, rebuild)),
        ("state is stable, compact, never written to", module_laws.states(trial, notes)),
        ("any length, and no trace of an earlier call", module_laws.lengths(trial, longest)),
        ("accumulators stay fp32 under bf16 autocast", module_laws.precision(trial, quick)),
    ]
    results = []
    for number, (title, breaches) in enumerate(checks, start=1):
        if number in wanted:
            broken = tuple(breaches)
            results.append(LawResult(number, title, broken, tuple(dict.fromkeys(notes))))
            notes.clear()
    return results


def numbers_of_laws(laws: Collection[int] | None, last: int = 10) -> set[int]:
    """Those that are to be tried, all up to the last one for None; raises `ValueError` for others."""
    wanted = set(range(1, last + 1) if laws is None else laws)
    if not wanted <= set(range(1, last + 1)):
        raise ValueError(f"expected laws from 1 to {last}, got {sorted(wanted)}")
    return wanted


def refuse_other_kinds(part: object) -> None:
    """Raise `ValueError` for what is registered as something else than a backbone, or is an instance of it."""
    entry = entry_of(part)
    if entry is not None and entry.kind != "backbone":
        checker = {"dynamics": "check_dynamics", "video_model": "check_video_model"}[entry.kind]
        raise ValueError(f"{entry.name!r} is a {entry.kind}, which has laws of its own: use wmkit.testing.{checker}")
