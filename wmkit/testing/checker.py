"""`check_backbone`: the ten laws of the backbone contract, tried one after the other."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator

import torch

from wmkit.backbones.base import Backbone
from wmkit.registry import entry_of
from wmkit.testing import module_laws, sequence_laws
from wmkit.testing.trial import Trial, clone, placement, scan

Law = Callable[[Trial], Iterator[str]]

SHOWN = 4
"""Breaches of one law that are spelled out; the rest are counted."""


class ContractViolation(AssertionError):
    """A backbone, or dynamics, broke laws of the contract; `results` has all ten."""

    def __init__(self, name: str, results: list[LawResult], contract: str = "backbone") -> None:
        self.results = results
        lines = [f"{name} breaks {len(self.laws)} of {len(results)} laws of the {contract} contract:"]
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
    """One law and how it went."""

    number: int
    title: str
    breaches: tuple[str, ...]
    """What broke, where, by how much; empty when the law is kept."""

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
    length: int = 12,
    batch_size: int = 3,
    longest: int = 2049,
    tolerance: float | None = None,
    rebuild: Callable[[], Backbone] | None = None,
) -> None:
    """Raise `ContractViolation` unless `backbone` keeps the ten laws written in `wmkit.Backbone`.

    The backbone is tried in the precision it has (float32 or float64), on copies in eval(): it is not changed. A law
    that crashes counts as broken. Differences are measured as a share of the compared tensor's largest entry; allowed
    are twice the error that float32 costs `step` itself against float64, plus 5e-5 (float32) or 1e-10 (float64), and
    1e-4 or 1e-8 for last states. Randomness in train() is allowed and answered with a warning.

    Args:
        backbone: what to check.
        length: steps of the short sequences, at least 8.
        batch_size: rows, at least 2.
        longest: steps of the one long sequence (law 9); a cap above it goes unnoticed.
        tolerance: replaces the allowed difference.
        rebuild: makes the same backbone anew, with other random weights; law 7 then loads into that, and also sees
            what is neither parameter nor buffer.

    Raises:
        ContractViolation: names every law that broke, where, by how much.
        ValueError: for something that is not a backbone, or sizes too small to tell.

    """
    results = examine_backbone(
        backbone, length=length, batch_size=batch_size, longest=longest, tolerance=tolerance, rebuild=rebuild
    )
    if not all(result.kept for result in results):
        raise ContractViolation(type(backbone).__name__, results)


def examine_backbone(
    backbone: Backbone,
    *,
    length: int = 12,
    batch_size: int = 3,
    longest: int = 2049,
    tolerance: float | None = None,
    rebuild: Callable[[], Backbone] | None = None,
) -> list[LawResult]:
    """The ten laws with what broke in each: `check_backbone` without the exception."""
    _check_arguments(backbone, length, batch_size, longest)
    _warn_of_randomness(backbone, length, batch_size)

    def trials(jitters: tuple[bool, ...]) -> list[Trial]:
        return [Trial(backbone, length, batch_size, jitter=jitter, tolerance=tolerance) for jitter in jitters]

    with torch.random.fork_rng(), torch.enable_grad():
        return [
            LawResult(number, title, tuple(_breaches(law, trials(jitters))))
            for number, (title, law, jitters) in enumerate(_laws(longest, rebuild), start=1)
        ]


def _laws(longest: int, rebuild: Callable[[], Backbone] | None) -> list[tuple[str, Law, tuple[bool, ...]]]:
    """Title, law and whether it is tried with the parameters as they are (False), jittered (True) or both."""
    return [
        ("scan equals repeated step", sequence_laws.scan_equals_step, (False, True)),
        ("pieces equal the whole", sequence_laws.pieces_equal_whole, (False, True)),
        ("causality", sequence_laws.causality, (False, True)),
        ("a reset is a fresh start", sequence_laws.resets, (False, True)),
        ("rows do not see their neighbours", sequence_laws.rows_apart, (False, True)),
        ("gradients reach parameters and incoming state", module_laws.gradients, (True,)),
        ("saving and loading", lambda trial: module_laws.saving(trial, rebuild), (False,)),
        ("state is batch first, stable, never written to", module_laws.states, (False, True)),
        ("any length, and no trace of a long call", lambda trial: module_laws.lengths(trial, longest), (False,)),
        ("accumulators stay fp32 under bf16 autocast", module_laws.precision, (False,)),
    ]


def _breaches(law: Law, trials: list[Trial]) -> Iterator[str]:
    """Everything the law finds; a crash is a finding."""
    for trial in trials:
        try:
            for text in law(trial):
                yield text + trial.note
        except Exception as error:  # a user's code may raise anything
            yield f"crashed: {repr(error) if str(error) == '' else f'{type(error).__name__}: {error}'}{trial.note}"


def refuse_other_kinds(part: object) -> None:
    """Raise `ValueError` for what is registered as something else than a backbone, or is an instance of it."""
    entry = entry_of(part)
    if entry is not None and entry.kind != "backbone":
        laws = {"dynamics": "which has laws of its own: use wmkit.testing.check_dynamics"}
        raise ValueError(f"{entry.name!r} is a {entry.kind}, {laws.get(entry.kind, 'a kind without laws to check')}")


def _check_arguments(backbone: Backbone, length: int, batch_size: int, longest: int) -> None:
    refuse_other_kinds(backbone)
    if not isinstance(backbone, Backbone):
        raise ValueError(f"expected an instance of a subclass of wmkit.Backbone, got {backbone!r}")
    if length < 8 or batch_size < 2 or longest <= length:
        raise ValueError(
            "expected length >= 8, batch_size >= 2 and longest > length, "
            f"got length={length}, batch_size={batch_size}, longest={longest}"
        )
    if placement(backbone)[0] not in (torch.float32, torch.float64):
        raise ValueError(f"expected a backbone in float32 or float64, got {placement(backbone)[0]}")


def _warn_of_randomness(backbone: Backbone, length: int, batch_size: int) -> None:
    """Warn when two equal calls in train() differ."""
    trainee = clone(backbone).train()
    x = Trial(backbone, length, batch_size, jitter=False, tolerance=None).x
    try:
        with torch.no_grad(), torch.random.fork_rng():
            same = torch.equal(scan(trainee, x, None)[0], scan(trainee, x, None)[0])
    except Exception:  # the laws meet it again and quote it
        return
    if not same:
        warnings.warn(f"{type(backbone).__name__}: two equal calls differ in train()", UserWarning, stacklevel=3)
