"""`wmkit imagine RUN --out file.gif`: truth beside imagination for some held-out episodes of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from wmkit.evaluation.film import Film, write_gif
from wmkit.evaluation.held_out import query_of, whole_episodes
from wmkit.evaluation.protocol import make_film
from wmkit.evaluation.run import SHOWN, device_for
from wmkit.loading import load, run_config
from wmkit.training.checkpoints import BEST
from wmkit.training.machine_data import check_local_data

HELP = "Truth beside imagination, for some held-out episodes of a run, as a GIF."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("--out", type=Path, required=True, help="the GIF to write")
    parser.add_argument("--episodes", type=int, default=SHOWN, help="how many episodes to show (default: %(default)s)")
    parser.add_argument("--context", type=int, help="observed steps (default: as the run or its world says)")
    parser.add_argument("--horizon", type=int, help="imagined steps (default: as the run says)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the latents (default: 0)")
    parser.add_argument("--checkpoint", default=BEST, help="best, last, or a checkpoint's folder (default: best)")
    parser.add_argument("--held-out", help="a world or an archive of split test (default: the run's world)")


def run(arguments: argparse.Namespace) -> int:
    """Write the GIF and say where; raises `ValueError` for what cannot be."""
    config = run_config(arguments.run)
    _check(arguments)
    if arguments.held_out is None:
        check_local_data(Path(arguments.run), config.world)
    model = load(arguments.run, arguments.checkpoint, device=device_for(config))
    context, horizon = query_of(config, arguments.context, arguments.horizon)
    batch = whole_episodes(config, model, "test", arguments.episodes, context + horizon, arguments.held_out)
    film = make_film(model, batch, context=context, horizon=horizon, seed=arguments.seed)
    _write(film, arguments.out)
    print(f"{arguments.out}: {film.episodes} held-out episodes, {context} steps observed, {horizon} imagined")
    return 0


def _write(film: Film, out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_gif(film, out)
    except OSError as error:
        raise ValueError(f"--out: cannot write {out}: {error.strerror}") from error


def _check(arguments: argparse.Namespace) -> None:
    for name in ("episodes", "context", "horizon"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name}: expected at least 1, got {value}")
    if arguments.out.suffix != ".gif":
        raise ValueError(f"--out: expected a path that ends in .gif, got {arguments.out}")
