"""The command line of a comparison: `systems=s4,gru worlds=... seeds=0,1,2 lrs=3e-4,1e-3 minutes=7 jobs=2 out=...`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from rich.console import Console

from wmkit.checks import closest
from wmkit.comparison.plan import (
    Cell,
    CellFiles,
    Plan,
    PlannedWorld,
    Status,
    check_alike,
    check_kept,
    find_system,
    learning_rate,
    other_cells,
)
from wmkit.comparison.results import read_results
from wmkit.comparison.runner import Display, run_cells
from wmkit.config import RunConfig
from wmkit.evaluation.held_out import training_of
from wmkit.files import file_name, user_path
from wmkit.pipe import ends_with_reader
from wmkit.probing import Plan as ProbePlan
from wmkit.probing import chosen_probes, find_probes
from wmkit.training.batches import settle
from wmkit.training.help import HELP_WORDS, describe_keys, help_topics, recipe_help
from wmkit.training.overrides import compose, expand_sweep, hydra_value, parse_overrides, swept
from wmkit.training.run_folder import RunFolder
from wmkit.training.short import SENTENCE, is_short

OWN = ("systems", "worlds", "seeds", "lrs", "minutes", "steps", "probes", "jobs", "out", "retry")
"""Keys of a comparison."""
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
  plugins=a,b        modules of your own, imported first: what they register can be among systems= and worlds=
  worlds=a,b  seeds=0,1,2  lrs=3e-4,1e-3      the grid, the same for every system
  world.key=1,2      settings of each world; several make one world each: world.width=16,32
  minutes=7          the budget of a run in minutes of training, or steps=1000
  probes=walls,pose  also probe what each run keeps; probes=all: whatever the world has the truth of; probes=none
  probe.key=value    of these: rows, heads, seeds, episodes, held_out, length, every, context, oracle_steps, seed, steps
  jobs=2             runs at a time, each in a process of its own
  out=FOLDER         where everything goes; the same command again goes on there
  retry=true         run failed cells again, from their last checkpoint
  key=value          any key of a run that all systems share, such as data.batch_size=8
  --help             this text; of one section or key: --help train, --help data.length

defaults: {defaults}
"""


@ends_with_reader
def run_comparison(
    defaults: RunConfig,
    systems: Mapping[str, Sequence[str]],
    arguments: Sequence[str],
    argv: Sequence[str] | None = None,
    page: str | None = None,
    after: Callable[[Path], object] | None = None,
) -> int:
    """Run the comparison that the command line asks for; returns the exit status.

    defaults: the config that every cell starts from. systems: overrides of the config by label. arguments: the
    comparison's own defaults, before those of the command line. page: what `--help` opens with. after: called with the
    comparison's folder when no cell is left to run. 0 all cells done, 1 some failed or unfinished, 2 not possible, 130
    or 143 stopped by a signal.
    """
    typed = list(sys.argv[1:] if argv is None else argv)
    try:
        if HELP_WORDS & set(typed):
            without = set(INSTEAD) - {"backbone", "world"}  # whose keys may be set
            usage = HELP.format(script=sys.argv[0], systems=", ".join(systems), defaults=" ".join(arguments))
            parts = [describe_keys(defaults, without, topic) for topic in help_topics(typed)]
            print("\n".join(parts) or recipe_help(page, usage, defaults, without))
            return 0
        return _run(defaults, systems, [*arguments, *typed], after)
    except ValueError as error:
        print(f"Cannot do that: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"Stopped, the machine refused: {error}. The same command goes on.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped at once. The same command goes on from the last checkpoints.", file=sys.stderr)
        return 130


def split_overrides(text: str) -> list[str]:
    """The overrides in a text, with spaces between; by Hydra's grammar spaces in braces and quotes are part of one.

    Raises `ValueError` for text that is not made of overrides.
    """
    found, begun = [], ""
    for part in text.split():
        begun = f"{begun} {part}".strip()
        try:
            parse_overrides([begun])
        except ValueError:
            continue  # a brace or a quote is still open
        found.append(begun)
        begun = ""
    if begun:
        parse_overrides([begun])
    return found


def _run(
    defaults: RunConfig,
    systems: Mapping[str, Sequence[str]],
    arguments: Sequence[str],
    after: Callable[[Path], object] | None,
) -> int:
    """Read the command line into a plan, check that it makes sense and fits what the folder holds, and run it."""
    own: dict[str, list[str]] = {}
    shared: list[str] = []
    settings: dict[str, str] = {}
    defined: dict[str, list[str]] = {}
    asked: dict[str, str] = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        key = key.lstrip("+")
        if key.startswith("system.") and value:
            defined[key.removeprefix("system.")] = split_overrides(value)
        elif key.startswith("world."):
            parse_overrides([argument])
            settings[key] = argument
        elif key.startswith("probe."):
            asked[key.removeprefix("probe.")] = ",".join(_values(argument))
        elif key in OWN:
            own[key] = _values(argument)
            own.pop({"steps": "minutes", "minutes": "steps"}.get(key, ""), None)  # the later budget counts
        elif key in INSTEAD:
            raise ValueError(f"{argument}: a comparison sets {key} itself; use {INSTEAD[key]}")
        elif "." not in key and (hint := closest(key, OWN)):
            raise ValueError(f"{argument}: unknown key {key!r}.{hint}")
        else:
            parse_overrides([argument])
            shared.append(argument)
    if is_short():
        print(f"{SENTENCE}; of seeds and lrs the first", flush=True)
        own |= {"steps": ["2"], "seeds": own.get("seeds", [])[:1], "lrs": own.get("lrs", [])[:1]}
        own.pop("minutes", None)
    plugins = [override for override in shared if parse_overrides([override])[0].key_or_group == "plugins"]
    if missing := [key for key in ("systems", "seeds", "lrs") if key not in own]:
        raise ValueError(f"{missing[0]}=...: a comparison needs it")
    names = [[f"world={hydra_value(name)}"] for name in own["worlds"]] if "worlds" in own else [[]]
    choices = [[*name, *these] for name in names for these in expand_sweep([*settings.values()])]
    stored = [word for word in shared if parse_overrides([word])[0].key_or_group in ("data.source", "data.test_source")]
    # Before systems: composing imports the plugins.
    worlds = [compose(defaults, [*plugins, *stored, *choice]) for choice in choices]
    if len(worlds) > 1 and worlds[0].data.source is not None:
        raise ValueError("worlds=..., world.key=...: several worlds, but data.source names one archive for all of them")
    plan = Plan(
        systems=tuple(find_system(label, {**systems, **defined}) for label in own["systems"]),
        worlds=tuple(PlannedWorld.of(config.world, config.label) for config in worlds),
        seeds=tuple(_read("seeds", value, int) for value in own["seeds"]),
        lrs=tuple(learning_rate("lrs", value) for value in own["lrs"]),
        steps=_one(own, "steps", int, None),
        minutes=_one(own, "minutes", float, None),
        probing=_probing(own.get("probes", []), asked, worlds),
        overrides=tuple(shared),
        command=shlex.join([Path(sys.executable).name, *sys.argv]),
    )
    if idle := sorted(set(defined) - {system.label for system in plan.systems}):
        raise ValueError(f"system.{idle[0]}=...: defined, but not among systems=; name it there or drop it")
    out = _one(own, "out", str, "comparisons/" + file_name("-".join(world.name for world in plan.worlds)))
    if not out:
        raise ValueError("out=: expected the name of a folder, got nothing")
    folder = Path(user_path(out))
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
        status = _run_and_report(folder, configs, plan.probing, jobs=jobs, retry=retry)
        if after is not None and status < 2:  # 1: some runs failed, the others are there
            after(folder)
        return status
    finally:
        alone.close()


def _run_and_report(
    folder: Path,
    configs: Mapping[Cell, RunConfig],
    probing: Mapping[str, Mapping[str, str]],
    *,
    jobs: int,
    retry: bool,
) -> int:
    """Run what is not done, keep the report up to date, end with tables and where things are."""
    from wmkit.comparison.report import tables, write_report  # brings matplotlib, which cells need not hold

    console = Console()
    ended = {Status.DONE} if retry else {Status.DONE, Status.FAILED}
    todo = {
        cell: config
        for cell, config in configs.items()
        if (files := CellFiles.of(folder, cell)).status() not in ended
        or (files.status() is Status.DONE and probing.get(cell.world) not in (None, files.record().get("probed")))
    }
    write_report(folder)  # refuses cells without records before any other is run
    with Display(configs, len(configs) - len(todo), console) as display:
        for note in settle(next(iter(configs.values())))[1]:  # all cells have the same data
            display.say(note)
        display.say(f"{folder}: {len(todo)} of {len(configs)} cells to run, {jobs} at a time")
        if others := other_cells(folder, configs):
            display.say(f"other runs there stay as they are, and out of the report: {', '.join(others)}")
        number = run_cells(folder, todo, jobs=jobs, display=display, after_each=lambda: write_report(folder))
    report = write_report(folder)
    results = read_results(folder)
    for world in results.plan.worlds:
        console.print(*(table.rich() for table in tables(results, world.name, console.width)))
    count = results.count()
    counts = ", ".join(f"{number} {status}" for status, number in sorted(count.items()))
    console.print(
        f"{len(configs)} cells: {counts}. Test episodes, last checkpoint; learning rate chosen on validation; "
        "mean over seeds, range below."
    )
    print(f"Report: {report}", flush=True)
    if number is not None and not results.complete:
        print("Stopped. The same command goes on where it stopped.", flush=True)
        return 128 + number
    if count[Status.FAILED]:
        print("Some cells failed; retry=true runs them again from their last checkpoint.", flush=True)
        return 1
    if not results.complete:
        print("Some cells were stopped from outside; the same command goes on with them.", flush=True)
        return 1
    return 0


def _probing(names: Sequence[str], asked: Mapping[str, str], worlds: Sequence[RunConfig]) -> dict[str, dict[str, str]]:
    """By world what its runs are probed for: of the named probes those that apply to it, of `all` whatever does, and
    nothing of `none`, which undoes a recipe's default.

    Raises `ValueError` for what no plan can be made of, for a probe that applies nowhere, and for `probe.key=` alone.
    """
    if names == ["none"]:
        return {}
    if not names:
        if asked:
            raise ValueError(f"probe.{next(iter(asked))}: there is nothing to probe for; probes=... names it, or all")
        return {}
    found: dict[str, dict[str, str]] = {}
    wanted = [] if names == ["all"] else find_probes(names)
    for config in worlds:
        episode = training_of(config)(2).episode(0)
        of_world = [probe.name for probe in wanted or chosen_probes(None, episode) if probe.applies(episode)]
        if of_world:
            found[config.label] = {"probes": ",".join(of_world), **asked}
            ProbePlan.of(found[config.label])
    told = {name for words in found.values() for name in words["probes"].split(",")}
    if idle := [probe for probe in wanted if probe.name not in told]:
        chosen_probes(idle[:1], episode)  # which says what it reads
    return found


def _values(argument: str) -> list[str]:
    """`a,b` or `range(3)` as a list; a single value as a list of one."""
    parsed = parse_overrides([argument])[0]
    value = parsed.value()
    if isinstance(value, ChoiceSweep):  # names without their quotes
        given = zip(value.list, swept(parsed), strict=True)
        return [each.text if isinstance(each, QuotedString) else text for each, text in given]
    return swept(parsed) if parsed.is_sweep_override() or isinstance(value, list | dict) else [str(value)]


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
