"""`check_dynamics`: the ten laws of the dynamics contract, tried one after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator

import torch

from wmkit.dynamics.base import Dynamics
from wmkit.registry import entry_of
from wmkit.testing import dynamics_laws
from wmkit.testing.checker import ContractViolation, LawResult, numbers_of_laws
from wmkit.testing.dynamics_trial import DynamicsTrial
from wmkit.testing.trial import placement

Law = Callable[[DynamicsTrial], Iterator[str]]


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
    for result in results:
        for note in result.notes:
            warnings.warn(f"{type(dynamics).__name__}: {note}", stacklevel=2)
    if not all(result.kept for result in results):
        raise ContractViolation(type(dynamics).__name__, results, contract="dynamics")


def examine_dynamics(
    dynamics: Dynamics,
    *,
    laws: Collection[int] | None = None,
    batch_size: int = 3,
    seed: int = 0,
    tolerance: float | None = None,
) -> list[LawResult]:
    """The ten laws with what broke in each: `check_dynamics` without the exception and the warnings."""
    _check_arguments(dynamics, batch_size)
    wanted = numbers_of_laws(laws)
    notes: list[str] = []
    titled: tuple[tuple[str, Law], ...] = (
        ("pieces equal the whole", dynamics_laws.pieces_equal_whole),
        ("nothing of a later frame", dynamics_laws.causality),
        ("a reset is a fresh start, or refused", dynamics_laws.resets),
        ("rows do not see their neighbours", dynamics_laws.rows_apart),
        ("gradients reach parameters, inputs and incoming state", lambda trial: dynamics_laws.gradients(trial, notes)),
        ("saving and loading", dynamics_laws.saving),
        ("state is stable, compact, never written to", dynamics_laws.states),
        ("imagination in pieces, from its arguments alone", dynamics_laws.imagination),
        ("(B, T) terms at any length, no trace of an earlier call", dynamics_laws.lengths),
        ("accumulators stay fp32 under bf16 autocast", dynamics_laws.precision),
    )
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        trials = [
            DynamicsTrial(dynamics, batch_size, tolerance, seed=seed, training=training) for training in (False, True)
        ]
        if trials[1].random_in_train:
            notes.append("two equal calls differ in train(): what it computes there is not compared")
            trials.pop()
        results = []
        for number, (title, law) in enumerate(titled, start=1):
            if number not in wanted:
                continue
            breaches = tuple(
                text + " in train()" * trial.training for trial in trials for text in _breaches(law, trial)
            )
            results.append(LawResult(number, title, breaches, tuple(dict.fromkeys(notes))))
            notes.clear()
        return results


def _breaches(law: Law, trial: DynamicsTrial) -> Iterator[str]:
    """Everything the law finds; a crash is a finding."""
    try:
        yield from law(trial)
    except Exception as error:  # a user's code may raise anything
        yield f"crashed: {type(error).__name__}: {error}"


def _check_arguments(dynamics: Dynamics, batch_size: int) -> None:
    if not isinstance(dynamics, Dynamics):
        entry = entry_of(dynamics)
        hint = "; use wmkit.testing.check_backbone" if entry is not None and entry.kind == "backbone" else ""
        raise ValueError(f"expected an instance of a subclass of wmkit.dynamics.Dynamics, got {dynamics!r}{hint}")
    if batch_size < 2:
        raise ValueError(f"expected batch_size >= 2, got {batch_size}")
    if placement(dynamics)[0] not in (torch.float32, torch.float64):
        raise ValueError(f"expected dynamics in float32 or float64, got {placement(dynamics)[0]}")
