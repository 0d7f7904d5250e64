"""`wmkit import FOLDER --out ARCHIVE`: recordings of one's own, as archives to train, validate and test on."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = (
    "Makes archives to train, validate and test on of .npz files, videos, GIFs, pictures, LeRobot's or Minari's data."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument(
        "folder",
        help="the folder, with a file, or a folder of pictures, for each recording, or of a data set of LeRobot 3 or "
        "Minari",
    )
    parser.add_argument("--out", required=True, help="the folder for the archives train, valid and test")
    parser.add_argument(
        "--size",
        type=int,
        help="side of the images in pixels (default: theirs, where models take it, else the nearest one, at most 64)",
    )
    parser.add_argument("--length", type=int, help="cut recordings into episodes of so many steps (default: no)")
    parser.add_argument(
        "--stride", type=int, default=1, help="keep every N-th frame, of videos without actions (default: %(default)s)"
    )
    parser.add_argument("--split", help="shares for training, validation and test (default: 0.8,0.1,0.1)")
    parser.add_argument(
        "--layout", help="a published data set, with its split: kth, gqn_mazes or minerl_navigate (default: none)"
    )
    parser.add_argument("--rename", default="", help="arrays with other names, as in frames=image,actions=action")
    parser.add_argument(
        "--actions",
        choices=("before", "after"),
        help="whether action[t] led to image[t] (before), or was chosen at it (after) (default: before, of LeRobot and "
        "Minari after)",
    )
    parser.add_argument("--action-dim", type=int, help="classes of integer actions (default: the largest one's)")


def run(arguments: argparse.Namespace) -> int:
    """Write the archives and say what to do with them; raises `ValueError` for what cannot be."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from wmkit.data.folders import import_folder

    for name in ("folder", "out"):
        if not getattr(arguments, name).strip():
            raise ValueError(f"{name}: expected a folder, got nothing")
    pairs = [pair.partition("=") for pair in arguments.rename.split(",") if pair.strip()]
    if any(not (old and new) for old, _, new in pairs):
        raise ValueError(f"--rename: expected old=new, with commas between, got {arguments.rename!r}")
    try:
        shares = None if arguments.split is None else [float(share) for share in arguments.split.split(",")]
    except ValueError as error:
        raise ValueError(f"--split: expected shares such as 0.8,0.1,0.1, got {arguments.split!r}") from error
    console = Console(soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("")
        stores = import_folder(
            arguments.folder,
            arguments.out,
            split=shares,
            rename={old.strip(): new.strip() for old, _, new in pairs},
            size=arguments.size,
            action_dim=arguments.action_dim,
            actions=arguments.actions,
            stride=arguments.stride,
            length=arguments.length,
            layout=arguments.layout,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
            say=lambda note: bar.console.print(note, highlight=False, markup=False),
        )
    for split, store in stores.items():
        lengths = sorted({store.episode_length(index) for index in range(len(store))})
        steps = " to ".join(str(length) for length in {lengths[0]: 0, lengths[-1]: 0})
        channels, height, width = store.image_shape
        print(
            f"{Path(arguments.out) / split}: {len(store)} episodes of {steps} steps, images {height} x {width} with "
            f"{channels} channels, {store.action_dim} actions"
        )
    return 0
