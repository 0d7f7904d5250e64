"""`wmkit imagine RUN`: truth beside imagination for some held-out episodes of a run, as a GIF or MP4."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "Truth beside imagination, for some held-out episodes of a run, as a GIF or MP4."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument(
        "--out", type=Path, help="the .gif or .mp4 to write (default: pictures/imagined.gif where `evaluate` writes it)"
    )
    parser.add_argument("--episodes", type=int, help="how many episodes to show (default: 4, or all there are)")
    parser.add_argument("--context", type=int, help="observed steps (default: as the run or its episodes say)")
    parser.add_argument("--horizon", type=int, help="imagined steps (default: as the run says)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the latents (default: 0)")
    parser.add_argument(
        "--checkpoint",
        help="best, last, or a checkpoint's folder (default: best, and last before the first validation)",
    )
    parser.add_argument(
        "--episodes-from",
        metavar="SOURCE",
        help="an archive of split test, a world, or in quotes a world with settings, as in 'ray_maze world.size=11' "
        "(default: the run's own test episodes)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the video and say where; raises `ValueError` for what cannot be."""
    from wmkit.evaluation import context_and_horizon, device_for, make_video, whole_episodes, write_video
    from wmkit.evaluation.held_out import other_episodes
    from wmkit.evaluation.plots.video import check_path
    from wmkit.evaluation.run import SHOWN
    from wmkit.loading import LAST, find_checkpoint, load, run_config
    from wmkit.training.checkpoints import BEST, CheckpointFolder
    from wmkit.training.overrides import chosen_source
    from wmkit.training.run_folder import check_local_data
    from wmkit.training.short import EPISODES, SENTENCE, STEPS, is_short

    for name in ("episodes", "context", "horizon"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name}: expected at least 1, got {value}")
    number, fewer = arguments.episodes or SHOWN, arguments.episodes is None
    if is_short():
        print(SENTENCE, flush=True)
        number = min(number, EPISODES)
        arguments.horizon = min(arguments.horizon or STEPS, STEPS)
    config = run_config(arguments.run)
    if arguments.out is not None and not arguments.out.name:
        raise ValueError("--out: expected a path that ends in .gif or .mp4, got nothing")
    source = chosen_source(arguments.episodes_from, config.world)
    _, place = other_episodes(arguments.run, config, source)
    out: Path = arguments.out or place / "pictures" / "imagined.gif"
    check_path(out)
    if source is None:
        check_local_data(arguments.run, config.world)
    validated = CheckpointFolder(arguments.run / "checkpoints").best() is not None
    checkpoint = find_checkpoint(arguments.run, arguments.checkpoint or (BEST if validated else LAST))
    model = load(arguments.run, checkpoint, device=device_for(config))
    context, horizon = context_and_horizon(config, arguments.context, arguments.horizon, episodes_from=source)
    batch = whole_episodes(config, model, "test", number, context + horizon, source, or_fewer=fewer)
    out.parent.mkdir(parents=True, exist_ok=True)
    video = make_video(model, batch, context=context, horizon=horizon, seed=arguments.seed)
    write_video(video, out)
    shown = f"{video.episodes} held-out episodes, {context} steps observed, {horizon} imagined"
    print(f"{out}: {shown}, by checkpoint {checkpoint.name}")
    return 0
