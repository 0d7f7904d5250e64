"""`wmkit check`: the ten laws of a contract tried on a part, in both precisions, as a table."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wmkit.backbones.base import build_backbone
from wmkit.build import build_world_model
from wmkit.dynamics import Dynamics
from wmkit.registry import Entry, entry_of, get_entry
from wmkit.testing.checker import LawResult, examine_backbone, refuse_other_kinds
from wmkit.testing.dynamics_checker import examine_dynamics

HELP = "Try the ten laws of the contract, of a backbone or of dynamics."
Examine = Callable[[torch.dtype], list[LawResult]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to check, and options of a registered part."""
    parser.add_argument("part", help="package.module:Class, or a registered name")
    parser.add_argument("options", nargs="*", metavar="key=value", help="fields of its config: layers=2, core=s4")


def run(arguments: argparse.Namespace) -> int:
    """Try the laws and print how each went; 1 when one is broken."""
    examine = _examiner(arguments.part, arguments.options)
    single, double = examine(torch.float32), examine(torch.float64)
    table = Table("law", "", "float32", "float64", title=escape(" ".join([arguments.part, *arguments.options])))
    for one, other in zip(single, double, strict=True):
        verdicts = ("[green]kept[/]" if law.kept else "[red]broken[/]" for law in (one, other))
        table.add_row(str(one.number), one.title, *verdicts)
    console = Console()
    console.print(table)
    for precision, results in (("float32", single), ("float64", double)):
        for law in results:
            for text in law.shown:
                console.print(f"law {law.number}, {precision}: {text}", markup=False, soft_wrap=True)
    return 0 if all(law.kept for law in single + double) else 1


def _examiner(name: str, options: Sequence[str]) -> Examine:
    """What tries the laws in a precision: on a registered part at its tiny size, else on `Class(16)`.

    Raises `ValueError` when there is no such part, it cannot be built, or it is of a kind that has no laws here.
    """
    part: Any = _find(name) if ":" in name else get_entry(name).cls
    entry = entry_of(part)
    if entry is None:
        if options:
            raise ValueError(f"{name} is not registered, so that it has no options: drop {' '.join(options)}")
        if issubclass(part, Dynamics):
            raise ValueError(f'{name} is not registered: @register_backbone(..., kind="dynamics") says how to build it')
        return _examiner_of_backbone(f"{name} cannot be built by cls(16)", lambda: part(16))
    config = _configured(entry, options)
    complaint = f"{entry.name} cannot be built by {config}"
    if entry.kind == "dynamics":
        # Gaussian latents: the samples of categorical ones flip by rounding.
        dynamics: Dynamics = _built(
            complaint,
            lambda: build_world_model(config, "tiny", (1, 16, 16), 2, latent="gaussian", latent_size=4).dynamics,
        )
        return lambda dtype: examine_dynamics(dynamics.to(dtype))
    refuse_other_kinds(part)
    return _examiner_of_backbone(complaint, lambda: build_backbone(entry, config))


def _examiner_of_backbone(complaint: str, build: Callable[[], Any]) -> Examine:
    """The laws on what `build` makes, anew in each precision."""
    _built(complaint, build)
    return lambda dtype: examine_backbone(build().to(dtype), rebuild=build)


def _built(complaint: str, build: Callable[[], Any]) -> Any:
    """`build()`; raises `ValueError` where its code fails."""
    try:
        return build()
    except Exception as error:  # a user's code may raise anything
        raise ValueError(f"{complaint}: {type(error).__name__}: {error}") from error


def _configured(entry: Entry, options: Sequence[str]) -> Any:
    """The config of the tiny size with `key=value` put in; raises `ValueError` for what it does not take."""
    if wrong := [option for option in options if "=" not in option]:
        raise ValueError(f"options are key=value, got {wrong[0]!r}")
    try:
        schema = OmegaConf.structured(entry.config.for_size("tiny"))
        return OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.from_dotlist(list(options))))
    except OmegaConfBaseException as error:
        raise ValueError(f"{entry.config.__name__}: {str(error).splitlines()[0]}") from error


def _find(name: str) -> Any:
    """The class at `package.module:Class`; modules in the current folder count."""
    module_name, _, class_name = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        part = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # importing runs a user's code
        raise ValueError(f"cannot import {name}: {type(error).__name__}: {error}") from error
    if not isinstance(part, type):
        raise ValueError(f"expected a class at {name}, found {part!r}")
    return part
