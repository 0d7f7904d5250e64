"""`wmkit data make | info | view | export`: episodes of worlds written to archives, and what is in archives."""

from __future__ import annotations

import argparse
import functools
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wmkit.data import CachedEpisodes, EpisodeSource, EpisodeStore, World

HELP = "Makes archives of a world's episodes; says and shows what is in them; exports them."
FORMATS = ("memory-maze", "minari")
FEW = 12
"""Numbers of an array that are printed one by one; of larger ones the least and the largest."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A word for each thing to do, and its arguments."""
    kinds = parser.add_subparsers(dest="action", required=True, metavar="make|info|view|export")
    for name, (about, _) in ACTIONS.items():
        own = kinds.add_parser(name, help=about, description=about)
        if name == "make":
            own.add_argument("world", help="a world's name; `wmkit list` prints all, with their settings")
            own.add_argument(
                "settings", nargs="*", metavar="KEY=VALUE", help="settings, right after the world, as in size=11"
            )
            own.add_argument("--episodes", type=int, required=True, help="how many, in all splits together")
            own.add_argument("--out", required=True, help="the folder for the archives train, valid and test")
            own.add_argument(
                "--split", default="0.8,0.1,0.1", help="shares of train, valid and test (default: %(default)s)"
            )
            own.add_argument("--seed", type=int, default=0, help="of all episodes (default: %(default)s)")
            own.add_argument("--workers", type=int, default=1, help="processes that make them (default: %(default)s)")
        if name in ("info", "export"):
            own.add_argument("folder", help="an archive, a cache, or a folder with train, valid and test")
        if name == "view":
            own.add_argument("what", help="an archive, a cache, a folder with train, valid and test, or a world")
            own.add_argument(
                "settings", nargs="*", metavar="KEY=VALUE", help="settings, right after the world, as in size=11"
            )
            own.add_argument("--episode", type=int, default=0, help="its number (default: %(default)s)")
            own.add_argument("--split", default="train", help="train, valid or test (default: %(default)s)")
            own.add_argument("--seed", type=int, default=0, help="of a world's episodes (default: %(default)s)")
            own.add_argument("--out", help="folder for the pictures (default: views/NAME)")
        if name == "export":
            own.add_argument("--format", required=True, choices=FORMATS, help="memory-maze: .npz files; minari")
            own.add_argument("--out", required=True, help="the folder to write; of minari PARENT/NAME-v0")


def run(arguments: argparse.Namespace) -> int:
    """Do it; raises `ValueError` for what cannot be."""
    for name in ("out", "folder", "what"):
        given = getattr(arguments, name, None)
        if given is not None and not given.strip():
            raise ValueError(f"{name}: expected a folder, got {given!r}")
    ACTIONS[arguments.action][1](arguments)
    return 0


def _make(arguments: argparse.Namespace) -> None:
    from wmkit.data import make_archives

    try:
        shares = [float(share) for share in arguments.split.split(",")]
    except ValueError as error:
        raise ValueError(f"--split: expected shares such as 0.8,0.1,0.1, got {arguments.split!r}") from error
    world = _world(arguments.world, arguments.settings)
    with _bar() as bar:
        task = bar.add_task("")
        stores = make_archives(
            world,
            arguments.episodes,
            arguments.out,
            split=shares,
            seed=arguments.seed,
            workers=arguments.workers,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    for part, store in stores.items():
        print(f"{Path(arguments.out) / part}: {_counts(store)}")


def _info(arguments: argparse.Namespace) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from wmkit.files import user_folder

    archives = _archives(user_folder(arguments.folder))
    told: list[Any] = []
    for path, store in archives.items():
        files = [file for file in path.rglob("*") if file.is_file()]
        size, steps = sum(file.stat().st_size for file in files), sum(map(store.episode_length, range(len(store))))
        print(f"{path}: {_counts(store)}")
        print(
            f"  {steps:,} steps, {size / 1e6:,.1f} MB in {len(files):,} files, {size / max(steps, 1):,.0f} bytes a step"
        )
        origin = dict(store.origin)
        if isinstance(world := origin.pop("world", None), dict):
            settings = " ".join(f"{key}={value}" for key, value in world.items() if key != "name")
            print(f"  world {world['name']}: {settings or 'no settings'}")
        print(
            "  " + (", ".join(f"{key} {value}" for key, value in origin.items()) or "says nothing of where it is from")
        )
        if not len(store):
            continue
        episode = store.episode(0)
        keys = [
            (key, "step" if key in episode.steps else "episode", _shape(value.shape, key in episode.steps), value.dtype)
            for key, value in episode.items()
        ]
        if keys != told:
            told = keys
            table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
            for heading in ("key", "for each", "shape", "type"):
                table.add_column(heading, no_wrap=True)
            for row in keys:
                table.add_row(*map(str, row))
            Console().print(table)


def _view(arguments: argparse.Namespace) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from wmkit.data import GeneratedEpisodes
    from wmkit.evaluation.plots.episode import context_of, draw_frames, draw_map, write_gif
    from wmkit.files import file_name, user_folder

    number, folder = arguments.episode, user_folder(arguments.what)
    source: EpisodeSource
    if folder.is_dir():
        archives = _archives(folder)
        path = folder if folder in archives else folder / arguments.split
        if path not in archives:
            raise ValueError(
                f"--split: {folder} has {', '.join(one.name for one in archives)}, got {arguments.split!r}"
            )
        if arguments.settings:
            raise ValueError(f"{arguments.settings[0]}: settings are a world's, and {folder} is a folder of episodes")
        source, name = archives[path], f"{folder.resolve().name}" + (f"-{path.name}" if path != folder else "")
    else:
        world = _world(arguments.what, arguments.settings)
        source = GeneratedEpisodes(world, seed=arguments.seed, split=arguments.split)
        name = f"{world.name}-{arguments.split}"
    if number < 0:
        raise ValueError(f"--episode: expected 0 or more, got {number}")
    try:
        episode = source.episode(number)
    except IndexError as error:
        raise ValueError(f"--episode: {error}") from error
    title = f"{name}, episode {number}"
    out = user_folder(arguments.out) if arguments.out else Path("views") / file_name(f"{name}-{number}")
    out.mkdir(parents=True, exist_ok=True)
    about = f"{title}: {episode.length} steps, context {context_of(episode)}, reward {episode['reward'].sum():g}"
    draw_frames(episode, out / "strip.png", f"{title} (blue: context, orange: query)")
    write_gif(episode, out / "episode.gif")
    written = [out / "strip.png", out / "episode.gif"]
    if draw_map(episode, out / "map.png", title):
        written.append(out / "map.png")
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    for heading in ("ground truth", "shape", "value"):
        table.add_column(heading, no_wrap=heading != "value", overflow="fold")
    for key, value in episode.items():
        per_step = key in episode.steps
        if key not in ("image", "is_first"):
            text = f"{_value(value[0])} ... {_value(value[-1])}" if per_step else _value(value)
            table.add_row(key, _shape(value.shape, per_step), text)
    print(about)
    Console().print(table)
    print(f"{', '.join(map(str, written))}" + ("" if len(written) == 3 else "; no map: it has no map and agent_pos"))


def _export(arguments: argparse.Namespace) -> None:
    from wmkit.data import export_memory_maze, export_minari
    from wmkit.files import user_folder

    export = {"memory-maze": export_memory_maze, "minari": export_minari}[arguments.format]
    folder, whole = user_folder(arguments.folder), user_folder(arguments.out)
    archives = _archives(folder)
    with _bar() as bar:
        for path, store in archives.items():
            out = whole if path == folder else _within(whole, path.name, arguments.format)
            progress = functools.partial(_show, bar, bar.add_task(str(out)))
            done = export(store, out, progress=progress)
            bar.console.print(f"{out}: {done} episodes", highlight=False, markup=False)


def _show(bar: Any, task: Any, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)


def _within(out: Path, part: str, format: str) -> Path:
    """Where one of several archives goes: a folder in `out`, of Minari NAME-test-v0 beside it."""
    if format != "minari":
        return out / part
    versioned = re.fullmatch(r"(.+)-v(\d+)", out.name)
    name, version = versioned.groups() if versioned else (out.name, "0")
    return out.with_name(f"{name}-{part}-v{version}")


ACTIONS = {
    "make": ("Write a world's episodes to archives; stopped and started again it goes on.", _make),
    "info": ("What archives hold, from which world, and how large they are.", _info),
    "view": ("An episode as a strip, a GIF and a map with its way, and its ground truth.", _view),
    "export": ("Write archives in another program's format.", _export),
}


def _world(name: str, settings: list[str]) -> World:
    """The world of that name with `key=value` words, by the grammar of recipes."""
    from wmkit.data import find_world
    from wmkit.training.overrides import chosen_source

    world = find_world(name)
    if not settings:
        return world
    if odd := [word for word in settings if "=" not in word]:
        raise ValueError(f"{odd[0]}: expected a setting, as in size=11")
    words = [word if word.startswith("world.") else f"world.{word}" for word in settings]
    return find_world(chosen_source(shlex.join([name, *words]), world) or world)


def _archives(folder: Path) -> dict[Path, EpisodeStore | CachedEpisodes]:
    """The archive or cache that `folder` is, or those of its splits, by path; raises `ValueError` for none."""
    from wmkit.data import CachedEpisodes, EpisodeStore
    from wmkit.data.store.cache import is_cache
    from wmkit.data.worlds import SPLITS

    inside = [folder / part for part in SPLITS]
    here = [path for path in (folder, *inside) if is_cache(path) or (path / "zarr.json").is_file()]
    if not here:
        raise ValueError(
            f"{folder}: expected an archive, a cache, or a folder with the archives {', '.join(SPLITS)}. "
            "`wmkit data make` writes them of a world, `wmkit import` of recordings"
        )
    paths = here[:1] if here[0] == folder else here
    return {path: CachedEpisodes(path) if is_cache(path) else EpisodeStore(path) for path in paths}


def _counts(store: EpisodeStore | CachedEpisodes) -> str:
    if not len(store):
        return "no episodes yet"
    lengths = sorted({store.episode_length(index) for index in range(len(store))})
    steps = " to ".join(str(length) for length in dict.fromkeys((lengths[0], lengths[-1])))
    channels, height, width = store.image_shape
    images = f"images {height} x {width} with {channels} channels"
    return f"{len(store)} episodes of {steps} steps, {images}, {store.action_dim} actions"


def _shape(shape: tuple[int, ...], per_step: bool) -> str:
    sizes = ["T" if per_step and not axis else str(size) for axis, size in enumerate(shape)]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _value(value: NDArray[np.generic]) -> str:
    """An array in a few words."""
    import numpy as np

    array = np.asarray(value)
    if array.size > FEW:
        return f"{array.min():g} to {array.max():g}"
    return np.array2string(array, precision=2, separator=", ", max_line_width=1000).replace("\n", "")


def _bar() -> Any:
    """A bar of progress with the time left, on a terminal alone."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
