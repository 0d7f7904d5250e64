"""`wmkit diagnose BACKBONE...`: sequence tasks on bare backbones, one memory card each, JSON and a figure."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "What a bare backbone remembers, for how long, at what cost: sequence tasks, no images."
FOLDER, QUICK = Path("runs/diagnose"), Path("runs/diagnose-quick")
"""Where records go: those of another number of steps are not gone on from."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Backbones, options of one, and how much is done."""
    parser.add_argument("words", nargs="+", metavar="BACKBONE", help="registered names, or package.module:Class")
    parser.usage = "wmkit diagnose BACKBONE... [key=value ...] [options]"
    parser.add_argument("--plugins", default="", metavar="A,B", help="modules imported first, which register parts")
    parser.add_argument("--tasks", default="", metavar="A,B", help="names of tasks (all)")
    parser.add_argument("--quick", action="store_true", help="two fifths of the steps, one seed: a look in two minutes")
    parser.add_argument("--seeds", type=int, help="trainings of each task (3; with --quick 1)")
    parser.add_argument("--width", type=int, default=64, help="of what enters a backbone (64)")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help=f"records and figure ({FOLDER}; with --quick {QUICK})"
    )


def run(arguments: argparse.Namespace) -> int:
    """Diagnose the backbones one after another and print a card for each; the same command goes on where it stopped.

    Raises `ValueError` for what is no backbone, for options of more than one, for unknown tasks, and for a folder with
    records of other settings.
    """
    from rich.console import Console

    from wmkit.cli.check import find_class
    from wmkit.config import import_plugins
    from wmkit.diagnostics.card import cards_to_json, shipped_cards, side_by_side
    from wmkit.diagnostics.plots import draw_cards
    from wmkit.diagnostics.runner import diagnose
    from wmkit.files import file_name, write_json

    import_plugins([name for name in arguments.plugins.split(",") if name])
    names = [word for word in arguments.words if "=" not in word]
    options = [word for word in arguments.words if "=" in word]
    if not names or (options and len(names) > 1):
        raise ValueError(f"expected {'a backbone' if not names else 'options of one backbone alone'}, got {options}")
    out = arguments.out or (QUICK if arguments.quick else FOLDER)
    console, known, cards = Console(), shipped_cards(), []
    for name in names:
        label = " ".join([name, *options])
        card = diagnose(
            find_class(name) if ":" in name else name,
            options=options,
            tasks=[task for task in arguments.tasks.split(",") if task] or None,
            seeds=arguments.seeds,
            quick=arguments.quick,
            width=arguments.width,
            folder=out / file_name(label.replace(":", ".")),
            console=console,
        )
        cards.append(card)
        console.print(card.table().rich())
        console.print(card.standing(known), highlight=False, markup=False, soft_wrap=True)
        write_json(out / "cards.json", cards_to_json(cards))
    if len(cards) > 1:
        console.print(side_by_side(cards).rich())
    measured = {result.task for card in cards for result in card.results}
    beside = [
        card
        for name, card in known.items()
        if name not in {card.backbone for card in cards} and measured & {result.task for result in card.results}
    ]
    draw_cards([*cards, *beside], out / "cards.png")
    console.print(f"{out}/cards.json and .png", highlight=False, markup=False, soft_wrap=True)
    return 0
