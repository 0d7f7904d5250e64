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
    parser.add_argument("--steps", type=int, help="optimiser steps of a fit (default: 1000)")
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
    from wmkit.probing import Fit, Plan, find_probes, probe_run
    from wmkit.training.overrides import chosen_source
    from wmkit.training.short import EPISODES, SENTENCE, STEPS, is_short

    options = {
        key: value for name in NUMBERS if (value := getattr(arguments, key := name.replace("-", "_"))) is not None
    }
    steps = arguments.steps
    for name in ("probes", "rows", "heads"):
        if (given := getattr(arguments, name)) is not None:
            options[name] = _words(given)
            if not options[name]:
                raise ValueError(f"--{name}: expected names separated by commas, got none")
    if is_short():
        print(SENTENCE, flush=True)
        options |= {"seeds": 1, "episodes": EPISODES, "held_out": EPISODES, "heads": ["linear"], "every": STEPS}
        options["length"] = min(options.get("length") or 4 * STEPS, 4 * STEPS)
        steps = 2
    import_plugins(_words(arguments.plugins))
    config = run_config(arguments.run)
    find_probes(options.get("probes", []))  # before anything is loaded
    source = chosen_source(arguments.episodes_from, config.world)
    plan = Plan(**options, fit=Fit() if steps is None else Fit(steps=steps))
    probe_run(arguments.run, plan, checkpoint=arguments.checkpoint, episodes_from=source, part=arguments.part,
              out=arguments.out)  # fmt: skip
    return 0


def _words(text: str) -> list[str]:
    return [word for part in text.split(",") if (word := part.strip())]
