"""`check_dynamics`: the ten laws of the dynamics contract, tried one after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar

import torch

from wmkit.dynamics.base import Dynamics
from wmkit.registry import entry_of
from wmkit.testing import dynamics_laws
from wmkit.testing.checker import ContractViolation, LawResult, numbers_of_laws
from wmkit.testing.dynamics_trial import DynamicsTrial
from wmkit.testing.trial import placement

Trial = TypeVar("Trial", bound=DynamicsTrial)
Titled = tuple[str, Callable[[Trial], Iterator[str]]]

TITLED: tuple[Titled[DynamicsTrial], ...] = (
    ("pieces equal the whole", dynamics_laws.pieces_equal_whole),
    ("nothing of a later frame", dynamics_laws.causality),
    ("a reset is a fresh start, or refused", dynamics_laws.resets),
    ("rows do not see their neighbours", dynamics_laws.rows_apart),
    ("gradients reach parameters, inputs and incoming state", dynamics_laws.gradients),
    ("saving and loading", dynamics_laws.saving),
    ("state is stable, compact, never written to", dynamics_laws.states),
    ("imagination in pieces, from its arguments alone", dynamics_laws.imagination),
    ("(B, T) terms at any length, no trace of an earlier call", dynamics_laws.lengths),
    ("accumulators stay fp32 under bf16 autocast", dynamics_laws.precision),
)
"""The laws of dynamics, from number 1 on."""


def check_dynamics(
    dynamics: Dynamics,
    *,
    laws: Collection[int] | None = None,
    batch_size: int = 3,
    seed: int = 0,
    tolerance: float | None = None,
) -> None:
    """Raise `ContractViolation` unless `dynamics` keep the ten laws written in `wmkit.dynamics.Dynamics`.

    Tried in the precision they have, on copies with jittered parameters in eval() and, where nothing but dropout
    modules draws random numbers there, in train(). Sequences hold a few of their periods, one of them 64 steps or more.
    A law that crashes counts as broken. `laws`: numbers of those to try; None: all ten. `tolerance` replaces the
    allowed difference, as a share of the compared tensor's largest entry. Samples of categorical latents can flip by
    rounding: check those in float64. Warns with every note: see `LawResult`.

    Raises `ValueError` for something that is no dynamics, or fewer than two rows.
    """
    results = examine_dynamics(dynamics, laws=laws, batch_size=batch_size, seed=seed, tolerance=tolerance)
    raise_for(dynamics, results, contract="dynamics")


def examine_dynamics(
    dynamics: Dynamics,
    *,
    laws: Collection[int] | None = None,
    batch_size: int = 3,
    seed: int = 0,
    tolerance: float | None = None,
) -> list[LawResult]:
    """The ten laws with what broke in each: `check_dynamics` without the exception and the warnings."""
    check_arguments(dynamics, batch_size, Dynamics)
    wanted = numbers_of_laws(laws)
    trials = [
        DynamicsTrial(dynamics, batch_size, tolerance, seed=seed, training=training) for training in (False, True)
    ]
    return try_laws(TITLED, wanted, trials, seed)


def try_laws(titled: Sequence[Titled[Any]], wanted: set[int], trials: list[Trial], seed: int) -> list[LawResult]:
    """Those of the laws that are wanted, in every trial; the one in train() is left out where calls differ there."""
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        found: list[str] = []
        if trials[-1].training and trials[-1].random_in_train:
            found.append("two equal calls differ in train(): what it computes there is not compared")
            trials = trials[:-1]
        results = []
        for number, (title, law) in enumerate(titled, start=1):
            if number not in wanted:
                continue
            breaches = tuple(
                text + " in train()" * trial.training for trial in trials for text in _breaches(law, trial)
            )
            notes = [*found, *(note for trial in trials for note in trial.notes)]
            results.append(LawResult(number, title, breaches, tuple(dict.fromkeys(notes))))
            found = []
            for trial in trials:
                trial.notes.clear()
        return results


def raise_for(part: Dynamics, results: list[LawResult], *, contract: str) -> None:
    """Warn with every note, and raise `ContractViolation` where a law is broken."""
    for result in results:
        for note in result.notes:
            warnings.warn(f"{type(part).__name__}: {note}", stacklevel=3)
    if not all(result.kept for result in results):
        raise ContractViolation(type(part).__name__, results, contract=contract)


def _breaches(law: Callable[[Trial], Iterator[str]], trial: Trial) -> Iterator[str]:
    """Everything the law finds; a crash is a finding."""
    try:
        yield from law(trial)
    except Exception as error:  # a user's code may raise anything
        yield f"crashed: {type(error).__name__}: {error}"


def check_arguments(part: object, batch_size: int, kind: type[Any]) -> None:
    """Raise `ValueError` for what is not of the kind, has fewer than two rows, or another precision."""
    if not isinstance(part, kind):
        entry = entry_of(part)
        hint = "; use wmkit.testing.check_backbone" if entry is not None and entry.kind == "backbone" else ""
        name = f"{kind.__module__.removesuffix('.base')}.{kind.__name__}"
        raise ValueError(f"expected an instance of a subclass of {name}, got {part!r}{hint}")
    if batch_size < 2:
        raise ValueError(f"expected batch_size >= 2, got {batch_size}")
    if placement(part)[0] not in (torch.float32, torch.float64):
        raise ValueError(f"expected weights in float32 or float64, got {placement(part)[0]}")
