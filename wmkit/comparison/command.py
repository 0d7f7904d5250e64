"""The command line of a comparison: `systems=s4,gru worlds=... seeds=0,1,2 lrs=3e-4,1e-3 minutes=7 jobs=2 out=...`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from wmkit.checks import closest
from wmkit.comparison.cell import Cell, CellFiles, Status
from wmkit.comparison.plan import Plan, check_alike, check_kept, other_cells
from wmkit.comparison.progress import Display
from wmkit.comparison.report import write_report
from wmkit.comparison.runner import run_cells
from wmkit.comparison.summary import read_summary
from wmkit.comparison.system import find_system, learning_rate
from wmkit.comparison.table import caption, rich_tables
from wmkit.config import RunConfig, import_plugins
from wmkit.data.worlds import World
from wmkit.training.compose import compose, describe, parse_overrides
from wmkit.training.run_folder import RunFolder
from wmkit.training.sweep import expand_sweep, swept

OWN = ("systems", "worlds", "seeds", "lrs", "minutes", "steps", "jobs", "out", "retry")
INSTEAD = {
    "world": "worlds=",
    "seed": "seeds=",
    "backbone": "systems=",
    "train.lr": "lrs=",
    "train.minutes": "minutes=",
    "train.steps": "steps=",
    "run_dir": "out=",
    "resume": "the same command again, which goes on",
}
"""Keys of a run that the comparison sets itself, and what to say for them."""
HELP = """usage: python {script} [key=value ...]

  systems=a,b        what to compare: {systems}, or any registered backbone
  "system.NAME=..."  one of your own: "system.wide=backbone=s4 backbone.layers=4"; with train.lr=... at that rate alone
  worlds=a,b  seeds=0,1,2  lrs=3e-4,1e-3      the grid, the same for every system
  world.key=1,2      settings of each world; several make one world each: world.width=16,32
  minutes=7          the budget of a run in minutes of training, or steps=1000
  jobs=2             runs at a time, each in a process of its own
  out=FOLDER         where everything goes; the same command again goes on there
  retry=true         run failed cells again, from their last checkpoint
  key=value          any key of a run that all systems share, such as data.batch_size=8

defaults: {defaults}

"""


def run_comparison(
    defaults: RunConfig, systems: Mapping[str, str], words: Sequence[str], argv: Sequence[str] | None = None
) -> int:
    """Run the comparison that the command line asks for; returns the exit status.

    defaults: the config that every cell starts from. systems: words by label. words: the comparison's own defaults,
    before those of the command line. 0 all cells done, 1 some failed or unfinished, 2 not possible, 130 or 143 stopped
    by a signal.
    """
    typed = list(sys.argv[1:] if argv is None else argv)
    if {"-h", "--help"} & set(typed):
        print(HELP.format(script=sys.argv[0], systems=", ".join(systems), defaults=" ".join(words)), end="")
        print(describe(defaults, without=set(INSTEAD) - {"backbone"}))  # whose keys a system may say
        return 0
    try:
        return _run(defaults, systems, [*words, *typed])
    except ValueError as error:
        print(f"Cannot do that: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"Stopped, the machine refused: {error}. The same command goes on.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped at once. The same command goes on from the last checkpoints.", file=sys.stderr)
        return 130


def _run(defaults: RunConfig, named: Mapping[str, str], words: Sequence[str]) -> int:
    own, shared, more = _sorted(words)
    import_plugins(_plugins(shared))
    plan = _plan(defaults, own, shared, {**named, **more})
    if idle := sorted(set(more) - {system.label for system in plan.systems}):
        raise ValueError(f"system.{idle[0]}=...: defined, but not among systems=; name it there or drop it")
    folder = _folder(_one(own, "out", str, "comparisons/" + "-".join(plan.worlds)))
    configs = {cell: plan.config(cell, defaults) for cell in plan.cells()}
    check_alike(configs)
    for cell, config in configs.items():
        check_kept(folder, cell, config)
    jobs = _one(own, "jobs", int, 1)
    if jobs < 1:
        raise ValueError(f"jobs: expected at least 1, got {jobs}")
    retry = _one(own, "retry", _flag, False)
    alone = RunFolder(folder)
    try:
        alone.open()  # a second start would take the first one's cells for failed ones
    except OSError as error:
        raise ValueError(f"out={folder}: cannot make this folder or write into it: {error}") from error
    try:
        plan.save(folder)
        return _train_and_tell(folder, configs, jobs=jobs, retry=retry)
    finally:
        alone.close()


def _train_and_tell(folder: Path, configs: Mapping[Cell, RunConfig], *, jobs: int, retry: bool) -> int:
    """Run what is not done, keep the report up to date, end with tables and where things are."""
    console = Console()
    ended = {Status.DONE} if retry else {Status.DONE, Status.FAILED}
    todo = {cell: config for cell, config in configs.items() if CellFiles.of(folder, cell).status() not in ended}
    with Display(len(configs), len(configs) - len(todo), console) as display:
        display.say(f"{folder}: {len(todo)} of {len(configs)} cells to run, {jobs} at a time")
        if others := other_cells(folder, configs):
            display.say(f"other runs there stay as they are, and out of the report: {', '.join(others)}")
        number = run_cells(folder, todo, jobs=jobs, display=display, after_each=lambda: write_report(folder))
    report = write_report(folder)
    summary = read_summary(folder)
    for world in summary.plan.worlds:
        console.print(*rich_tables(summary, world))
    console.print(caption(summary))
    print(f"Report: {report}", flush=True)
    if number is not None and not summary.complete:
        print("Stopped. The same command goes on where it stopped.", flush=True)
        return 128 + number
    if summary.count()[Status.FAILED]:
        print("Some cells failed; retry=true runs them again from their last checkpoint.", flush=True)
        return 1
    if not summary.complete:
        print("Some cells were stopped from outside; the same command goes on with them.", flush=True)
        return 1
    return 0


def _sorted(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str], dict[str, str]]:
    """The comparison's own words by key, those that every run gets, and the systems that are defined."""
    own: dict[str, list[str]] = {}
    shared: list[str] = []
    systems: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition("=")
        key = key.lstrip("+")
        if key.startswith("system.") and value:
            systems[key.removeprefix("system.")] = value
        elif key.startswith("world."):
            parse_overrides([word])
            own[key] = [word]
        elif key in OWN:
            own[key] = _values(word)
            own.pop({"steps": "minutes", "minutes": "steps"}.get(key, ""), None)  # the later budget counts
        elif key in INSTEAD:
            raise ValueError(f"{word}: a comparison sets {key} itself; say {INSTEAD[key]}")
        elif "." not in key and (hint := closest(key, OWN)):
            raise ValueError(f"{word}: unknown key {key!r}.{hint}")
        else:
            parse_overrides([word])
            shared.append(word)
    return own, shared, systems


def _values(word: str) -> list[str]:
    """`a,b` or `range(3)` as a list; a single value as a list of one."""
    parsed = parse_overrides([word])[0]
    value = parsed.value()
    return swept(parsed) if parsed.is_sweep_override() or isinstance(value, list | dict) else [str(value)]


def _plan(defaults: RunConfig, own: Mapping[str, list[str]], shared: Sequence[str], named: Mapping[str, str]) -> Plan:
    if missing := [key for key in ("systems", "seeds", "lrs") if key not in own]:
        raise ValueError(f"{missing[0]}=...: what is compared needs it")
    steps, minutes = _one(own, "steps", int, None), _one(own, "minutes", float, None)
    return Plan(
        systems=tuple(find_system(label, named) for label in own["systems"]),
        worlds=_worlds(defaults, own, shared),
        seeds=tuple(_read("seeds", value, int) for value in own["seeds"]),
        lrs=tuple(learning_rate("lrs", value) for value in own["lrs"]),
        steps=steps,
        minutes=minutes,
        words=tuple(shared),
        command=shlex.join([Path(sys.executable).name, *sys.argv]),
    )


def _worlds(defaults: RunConfig, own: Mapping[str, list[str]], shared: Sequence[str]) -> dict[str, World]:
    """The worlds of `worlds=`, or that of the recipe, in every combination of the settings that the words give them."""
    plugins = [word for word in shared if word.startswith("plugins=")]
    settings = expand_sweep([word for key, words in own.items() if key.startswith("world.") for word in words])
    names = [[f"world={name}"] for name in own["worlds"]] if "worlds" in own else [[]]
    found = [compose(defaults, [*plugins, *name, *words]).world for name in names for words in settings]
    labels = [world.name for world in found]
    if len(set(labels)) < len(labels):
        raise ValueError(f"worlds: expected at least one and none twice, got {labels}")
    return dict(zip(labels, found, strict=True))


def _folder(text: str) -> Path:
    if not text:
        raise ValueError("out=: expected the name of a folder, got nothing")
    return Path(text)


def _one(own: Mapping[str, list[str]], key: str, kind: Callable[[str], Any], default: Any) -> Any:
    values = own.get(key, [])
    if len(values) > 1:
        raise ValueError(f"{key}: expected one value, got {', '.join(values)}")
    return _read(key, values[0], kind) if values else default


def _read(key: str, text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except (ValueError, KeyError) as error:
        what = {int: "a whole number", float: "a number", _flag: "true or false"}[kind]
        raise ValueError(f"{key}: expected {what}, got {text!r}") from error


def _flag(text: str) -> bool:
    return {"True": True, "False": False}[text]


def _plugins(words: Sequence[str]) -> list[str]:
    found = [word.value() for word in parse_overrides(words) if word.key_or_group == "plugins"]
    return [str(name) for value in found for name in (value if isinstance(value, list) else [value])]
