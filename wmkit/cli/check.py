"""`wmkit check`: the laws of a contract tried on a part, in both precisions, as a table."""

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
from wmkit.build import build_world_model, not_registered
from wmkit.checks import check_positive, closest
from wmkit.config import SIZES, import_plugins
from wmkit.dynamics import Dynamics
from wmkit.registry import Entry, all_entries, entry_of
from wmkit.testing.checker import LawResult, examine_backbone
from wmkit.testing.dynamics_checker import examine_dynamics
from wmkit.testing.video_model_checker import examine_video_model
from wmkit.video_models import VideoModel

HELP = "Try the laws of the contract, of a backbone, of dynamics or of a video model."
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
LONGEST = 2049
Examine = Callable[[torch.dtype], list[LawResult]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to check and how, and options of a registered part."""
    parser.add_argument("part", help="package.module:Class, or a registered name")
    parser.add_argument(
        "options", nargs="*", default=[], metavar="key=value", help="fields of its config: layers=2, core=s4"
    )
    parser.add_argument("--plugins", default="", metavar="A,B", help="modules imported first, which register parts")
    parser.add_argument("--size", default="tiny", choices=SIZES, help="of a registered part (tiny)")
    parser.add_argument("--precision", default="both", choices=("both", *PRECISIONS), help="(both)")
    parser.add_argument("--laws", default="", metavar="1,4", help="numbers of those to try (all)")
    parser.add_argument("--quick", action="store_true", help="fewer situations of a backbone")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the inputs (0)")
    parser.add_argument("--tolerance", type=float, help="allowed difference, as a share of the largest entry")
    parser.add_argument(
        "--length", type=int, help="one more length for a backbone: a little over two chunks of a kernel in chunks"
    )
    parser.add_argument(
        "--longest", type=int, default=LONGEST, help=f"steps of a backbone's one long sequence ({LONGEST})"
    )


def run(arguments: argparse.Namespace) -> int:
    """Try the laws and print how each went; 1 when one is broken.

    Raises `ValueError` when there is no such part, or it cannot be built.
    """
    if arguments.tolerance is not None:
        check_positive("--tolerance", arguments.tolerance)
    import_plugins([name for name in arguments.plugins.split(",") if name])
    examine, console = _examiner(arguments), Console()
    chosen = PRECISIONS if arguments.precision == "both" else {arguments.precision: PRECISIONS[arguments.precision]}
    results: dict[str, list[LawResult]] = {}
    for name, dtype in chosen.items():
        with console.status(f"{arguments.part} in {name}"):
            results[name] = examine(dtype)
    title = escape(" ".join([arguments.part, *arguments.options]))
    table = Table("law", "", *results, title=title)
    laws = {law.number: law.title for found in results.values() for law in found}
    for number, law_title in laws.items():
        by_number = [{law.number: law for law in found}.get(number) for found in results.values()]
        words = ("" if law is None else "[green]kept[/]" if law.kept else "[red]broken[/]" for law in by_number)
        table.add_row(str(number), law_title, *words)
    console.print(table)
    for name, found in results.items():
        for law in found:
            for text in law.shown:
                console.print(f"law {law.number}, {name}: {text}", markup=False, soft_wrap=True)
            for text in law.notes:
                console.print(f"note, {name}: {text}", markup=False, soft_wrap=True)
    return 0 if all(law.kept for found in results.values() for law in found) else 1


def _examiner(arguments: argparse.Namespace) -> Examine:
    """What tries the laws in a precision: on a registered part at a size, else on `Class(16)`."""
    name, options = arguments.part, arguments.options
    entries = all_entries()
    if ":" not in name and name not in entries:
        raise ValueError(
            f"unknown part {name!r}.{closest(name, entries)} Registered: {', '.join(sorted(entries))}. One of your own "
            "is named by its class, my_module:MyBackbone, or registered by --plugins my_module"
        )
    part: Any = find_class(name) if ":" in name else entries[name].cls
    entry = entry_of(part)
    if entry is None:
        if options:
            raise ValueError(f"{name} is not registered, so that it has no options: drop {' '.join(options)}")
        if issubclass(part, Dynamics):
            raise ValueError(not_registered(name, part))
        return _examiner_of_backbone(arguments, f"{name} cannot be built by cls(16)", lambda: part(16))
    config = _configured(entry, options, arguments.size)
    complaint = f"{entry.name} cannot be built by {config}"
    if entry.kind == "backbone":
        return _examiner_of_backbone(arguments, complaint, lambda: build_backbone(entry, config))
    given = {"--quick": arguments.quick, "--length": arguments.length, "--longest": arguments.longest != LONGEST}
    if unused := [option for option, value in given.items() if value]:
        what = "dynamics" if entry.kind == "dynamics" else "a video model"
        raise ValueError(f"{' and '.join(unused)}: of backbones only, and {entry.name} is {what}; leave it out")
    # Gaussian latents: the samples of categorical ones flip by rounding.
    latents: dict[str, Any] = {"latent": "gaussian", "latent_size": 4} if entry.kind == "dynamics" else {}

    def build() -> Dynamics:
        torch.manual_seed(arguments.seed)
        return build_world_model(config, arguments.size, (1, 16, 16), 2, **latents).dynamics

    _built(complaint, build)
    shared = {"laws": _laws(arguments), "seed": arguments.seed, "tolerance": arguments.tolerance}

    def examine(dtype: torch.dtype) -> list[LawResult]:
        part = build().to(dtype)
        return examine_video_model(part, **shared) if isinstance(part, VideoModel) else examine_dynamics(part, **shared)

    return examine


def _examiner_of_backbone(arguments: argparse.Namespace, complaint: str, build: Callable[[], Any]) -> Examine:
    """The laws on what `build` makes, with the same weights in each precision."""
    _built(complaint, build)
    options = {name: getattr(arguments, name) for name in ("quick", "seed", "length", "longest", "tolerance")}
    options["laws"] = _laws(arguments)

    def examine(dtype: torch.dtype) -> list[LawResult]:
        torch.manual_seed(arguments.seed)
        return examine_backbone(build().to(dtype), rebuild=build, **options)

    return examine


def _laws(arguments: argparse.Namespace) -> list[int] | None:
    try:
        return [int(number) for number in arguments.laws.split(",")] if arguments.laws else None
    except ValueError:
        raise ValueError(f"--laws: expected numbers of laws such as 1,4, got {arguments.laws!r}") from None


def _built(complaint: str, build: Callable[[], Any]) -> Any:
    """`build()`; raises `ValueError` where its code fails."""
    try:
        return build()
    except Exception as error:  # a user's code may raise anything
        raise ValueError(f"{complaint}: {type(error).__name__}: {error}") from error


def _configured(entry: Entry, options: Sequence[str], size: str) -> Any:
    """The config of the size with `key=value` put in; raises `ValueError` for what it does not take."""
    if wrong := [option for option in options if "=" not in option]:
        raise ValueError(f"options are key=value, got {wrong[0]!r}")
    try:
        schema = OmegaConf.structured(entry.config.for_size(size))
        return OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.from_dotlist(list(options))))
    except OmegaConfBaseException as error:
        raise ValueError(f"{entry.config.__name__}: {str(error).splitlines()[0]}") from error


def find_class(name: str) -> Any:
    """The class at `package.module:Class`; modules in the current folder count."""
    module_name, _, class_name = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        part = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # importing runs a user's code
        hint = f"; write {module_name.removesuffix('.py').replace('/', '.')}:{class_name}" * module_name.endswith(".py")
        raise ValueError(f"cannot import {name}: {type(error).__name__}: {error}{hint}") from error
    if not isinstance(part, type):
        raise ValueError(f"expected a class at {name}, found {part!r}")
    return part
