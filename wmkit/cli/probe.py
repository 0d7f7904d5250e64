"""`wmkit probe RUN`: what the state of a trained run holds, and for how long."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "Probes the state of a run: what it holds, for how long, beside rows that say what a number means."
NUMBERS = {
    "seeds": "fits of each probe (default: 3)",
    "episodes": "training episodes that probes are fitted to (default: 200)",
    "held-out": "test episodes that they are asked about (default: 64)",
    "length": "steps of each episode, from its first on (default: all)",
    "every": "ask at every so many-th step (default: so that about 200 of an episode are)",
    "context": "steps before imagination (default: as the episodes say)",
    "oracle-steps": "optimiser steps of the row oracle (default: a fifth of those of a fit)",
    "seed": "of the latents, and of the first fit (default: 0)",
    "steps": "optimiser steps of a fit (default: 1000)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("--probes", help="what to ask for, separated by commas (default: all that apply)")
    parser.add_argument(
        "--rows",
        help="what the model sees, of observed, oracle, actions, no_memory, untrained, control, inputs, constant "
        "(default: all)",
    )
    parser.add_argument("--heads", help="of mlp and linear one, or both with a comma (default: mlp,linear)")
    parser.add_argument("--part", default="both", choices=("both", "h", "z"), help="of the features (default: both)")
    for name, text in NUMBERS.items():
        parser.add_argument(f"--{name}", type=int, help=text)
    parser.add_argument("--checkpoint", default="best", help="best, last, or a checkpoint's folder (default: best)")
    parser.add_argument(
        "--episodes-from",
        metavar="SOURCE",
        help="ask about these: an archive of split test, a world, or in quotes a world with settings "
        "(default: the run's own test episodes)",
    )
    parser.add_argument(
        "--plugins", default="", help="modules to import first, separated by commas, for probes of your own"
    )
    parser.add_argument("--out", help="folder for records, tables and pictures (default: probes in the run folder)")


def run(arguments: argparse.Namespace) -> int:
    """Print the tables and fill the folder; raises `ValueError` for what cannot be."""
    from wmkit.config import import_plugins
    from wmkit.loading import run_config
    from wmkit.probing import Plan, probe_run
    from wmkit.training.overrides import chosen_source
    from wmkit.training.short import SENTENCE, is_short

    if is_short():
        print(SENTENCE, flush=True)
    import_plugins([word for part in arguments.plugins.split(",") if (word := part.strip())])
    config = run_config(arguments.run)
    keys = "probes", "rows", "heads", *(name.replace("-", "_") for name in NUMBERS)
    plan = Plan.of({key: str(value) for key in keys if (value := getattr(arguments, key)) is not None})
    source = chosen_source(arguments.episodes_from, config.world)
    probe_run(arguments.run, plan, checkpoint=arguments.checkpoint, episodes_from=source, part=arguments.part,
              out=arguments.out)  # fmt: skip
    return 0
