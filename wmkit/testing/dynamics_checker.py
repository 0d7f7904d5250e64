"""`check_dynamics`: the ten laws of the dynamics contract, tried one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from wmkit.dynamics.base import Dynamics
from wmkit.registry import entry_of
from wmkit.testing import dynamics_laws
from wmkit.testing.checker import ContractViolation, LawResult
from wmkit.testing.dynamics_trial import DynamicsTrial
from wmkit.testing.trial import placement

Law = Callable[[DynamicsTrial], Iterator[str]]

LAWS: tuple[tuple[str, Law], ...] = (
    ("pieces equal the whole", dynamics_laws.pieces_equal_whole),
    ("nothing of a later frame", dynamics_laws.causality),
    ("a reset is a fresh start, or refused", dynamics_laws.resets),
    ("rows do not see their neighbours", dynamics_laws.rows_apart),
    ("gradients reach parameters and incoming state", dynamics_laws.gradients),
    ("saving and loading", dynamics_laws.saving),
    ("state is batch first, stable, never written to", dynamics_laws.states),
    ("imagination in pieces, from its arguments alone", dynamics_laws.imagination),
    ("(B, T) terms at any length, no trace of a long call", dynamics_laws.lengths),
    ("accumulators stay fp32 under bf16 autocast", dynamics_laws.precision),
)


def check_dynamics(dynamics: Dynamics, *, batch_size: int = 3, tolerance: float | None = None) -> None:
    """Raise `ContractViolation` unless `dynamics` keep the ten laws written in `wmkit.dynamics.Dynamics`.

    Tried in the precision they have, on copies with jittered parameters in eval(). Sequences hold a few of their
    periods. A law that crashes counts as broken. `tolerance` replaces the allowed difference, as a share of the
    compared tensor's largest entry. Samples of categorical latents can flip by rounding: check those in float64.

    Raises `ValueError` for something that is no dynamics, or fewer than two rows.
    """
    results = examine_dynamics(dynamics, batch_size=batch_size, tolerance=tolerance)
    if not all(result.kept for result in results):
        raise ContractViolation(type(dynamics).__name__, results, contract="dynamics")


def examine_dynamics(dynamics: Dynamics, *, batch_size: int = 3, tolerance: float | None = None) -> list[LawResult]:
    """The ten laws with what broke in each: `check_dynamics` without the exception."""
    _check_arguments(dynamics, batch_size)
    trial = DynamicsTrial(dynamics, batch_size, tolerance)
    with torch.random.fork_rng(), torch.enable_grad():
        return [
            LawResult(number, title, tuple(_breaches(law, trial))) for number, (title, law) in enumerate(LAWS, start=1)
        ]


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
