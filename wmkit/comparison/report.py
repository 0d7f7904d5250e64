"""`report.html`: everything about a comparison on one page that needs no network and no other file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wmkit.comparison import figures
from wmkit.comparison.cell import CellFiles, Status
from wmkit.comparison.page import (
    cell,
    details,
    figure,
    heading,
    named,
    page,
    paragraph,
    picture,
    preformatted,
    strips,
    table,
)
from wmkit.comparison.result import DOOR_MAJORITY, FIRST_MAP, CellResult
from wmkit.comparison.summary import COST, QUALITY, Column, Summary, number, percent, read_summary, spread
from wmkit.comparison.system import System
from wmkit.comparison.table import seeds_text
from wmkit.files import write_text
from wmkit.training.run_folder import CONFIG

REPORT = "report.html"
UNEVEN = 1.25
"""Times as many steps a minute in one run as in another of the same system, above which the page says so."""
LOSSES = " Losses of systems that read windows of other lengths do not compare."


def write_report(folder: Path) -> Path:
    """Read the comparison in `folder`; write `comparison.json` and `report.html` into it, and return the latter.

    Trains nothing, and tells what is missing of a comparison under way. Raises `ValueError` where there is none.
    """
    summary = read_summary(folder)
    summary.save()
    path = folder / REPORT
    write_text(path, render(summary))
    return path


def render(summary: Summary) -> str:
    """The page."""
    plan = summary.plan
    title = f"{', '.join(system.label for system in plan.systems)} on {', '.join(plan.worlds)}"
    parts = [heading(1, title), paragraph(_what(summary), "lead"), _notice(summary)]
    if across := figures.size_curves(summary):
        parts += [
            heading(2, "Across sizes"),
            figure(across, "Test episodes: mean over seeds, the band is their range."),
        ]
    for world in plan.worlds:
        parts += [heading(2, world), *_world(summary, world)]
    parts += [heading(2, "How it was made"), *_method(summary)]
    return page(title, parts)


def _what(summary: Summary) -> str:
    plan = summary.plan
    own = [f"{system.label} {system.lr:g}" for system in plan.systems if system.lr is not None]
    rates, seeds = _counted(len(plan.lrs), "learning rate"), _counted(len(plan.seeds), "seed")
    if own:
        alone = f"a learning rate of its own ({', '.join(own)})"
        rates = alone if len(own) == len(plan.systems) else f"{rates} or {alone}"
    return (
        f"The same data and {plan.budget()} for every run; every system at {rates} x {seeds}. "
        "Of several learning rates one was chosen on the validation split; figures are of test episodes."
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("s" if count > 1 else "")


def _notice(summary: Summary) -> str:
    """What is missing or failed; nothing when all is well."""
    count, total = summary.count(), len(summary.results)
    sentences = []
    if not summary.complete:
        left = count[Status.WAITING] + count[Status.UNFINISHED]
        sentences.append(f"This comparison is not complete: {left} of {total} cells are yet to finish.")
    if count[Status.FAILED]:
        sentences.append(f"{count[Status.FAILED]} of {total} cells failed; their errors stand below.")
    return f'<p class="notice" role="status">{" ".join(sentences)}</p>' if sentences else ""


def _world(summary: Summary, world: str) -> list[str]:
    """Everything about one world."""
    result = _any_tested(summary, world)
    rewards = result is not None and result.accuracy("imagination") is not None
    return [
        figure(figures.headline(summary, world), _headline_caption(result)),
        heading(3, "At the chosen learning rate"),
        _system_table(summary, world, "Mean over seeds, range below; the best mean in bold.", QUALITY),
        heading(3, "What it cost"),
        _system_table(summary, world, f"{_cost_caption(summary)}{_uneven(summary, world)}", COST),
        heading(3, "While training"),
        figure(
            figures.learning_curves(summary, world),
            "Validation split, at the chosen learning rate: mean over seeds, the band is their range. Validations and "
            "checkpoints do not count as training time." + ("" if rewards else LOSSES),
        )
        or paragraph("No cell is finished yet.", "note"),
        heading(3, "Generation error, step by step"),
        figure(figures.error_curves(summary, world), _error_caption(result))
        or paragraph("No cell is tested yet.", "note"),
        *_doors(summary, world),
        heading(3, "What they imagine"),
        _strips(summary, world),
        heading(3, "Every learning rate"),
        _grid_table(summary, world),
        details("Every cell", _cell_table(summary, world)),
        *_failures(summary, world),
    ]


def _doors(summary: Summary, world: str) -> list[str]:
    """Door states step by step, where there are doors."""
    drawn = figures.door_curves(summary, world)
    if not drawn:
        return []
    caption = (
        "Doors in the imagined view, at steps that show one: mean over seeds, the band is their range. Dashed: the map "
        "as the context showed it along the true walk; the more frequent state of the doors in view at each step."
    )
    return [heading(3, "Doors, step by step"), figure(drawn, caption)]


def _any_tested(summary: Summary, world: str) -> CellResult | None:
    return next((r for r in summary.results if r.cell.world == world and r.evaluation), None)


def _headline_caption(result: CellResult | None) -> str:
    """What the headline's figure is compared with."""
    if result is None or result.evaluation is None:
        return ""
    rewards = result.evaluation.get("reward_accuracy", {})
    if "imagination" not in rewards:
        better = "lower" if result.doors() is None else "higher"
        return (
            f"{result.evaluation['episodes']:,} test episodes for each run; {better} is better.{_door_floors(result)}"
        )
    majority = result.accuracy("majority")
    chance = f" Dashed: the more frequent answer is right in {percent(majority)}." if majority else ""
    return f"{rewards['imagination']['episodes']:,} test episodes for each run.{chance}"


def _door_floors(result: CellResult) -> str:
    """How many doors are right without a model, where there are doors."""
    first, majority = result.doors(FIRST_MAP), result.doors(DOOR_MAJORITY, "door, open or shut")
    if first is None or majority is None:
        return ""
    return (
        " Right in being open or shut and in colour, where the picture shows one; without a model: "
        f"{FIRST_MAP}, {percent(first)}; the more frequent of open and shut at each step, colours given, "
        f"{percent(majority)}."
    )


def _error_caption(result: CellResult | None) -> str:
    if result is None or result.evaluation is None:
        return ""
    evaluation = result.evaluation
    return (
        f"Test episodes: {evaluation['context']} steps observed, {evaluation['horizon']} imagined from the "
        "true actions. Squared error summed over height, width and channels, drawn by its logarithm; mean over seeds, "
        "the band is their range; baselines that need no model are dashed."
    )


def _system_table(summary: Summary, world: str, caption: str, columns: tuple[Column, ...]) -> str:
    """One row per system at its chosen learning rate."""
    shown = summary.columns(world, columns)
    rows = []
    for index, system in enumerate(summary.plan.systems):
        choice, cells = summary.choice(world, system.label), summary.chosen(world, system.label)
        row = [named(f"s{index % 8}", system.label), cell(f"{choice.lr:g}" if choice else "-")]
        row.append(cell(seeds_text(summary, world, system.label)))
        row += [_spread_cell(cells, column, _is_best(summary, world, system.label, column)) for column in shown]
        rows.append(("", row))
    return table(caption, ["system", "learning rate", "seeds done", *(column.heading for column in shown)], rows)


def _spread_cell(cells: list[CellResult], column: Column, best: bool = False) -> str:
    value = spread(cells, column)
    if value is None:
        return cell("-")
    low, high = column.text(value.low), column.text(value.high)
    return cell(column.text(value.mean), f"{low} – {high}" if low != high else "", "best" if best else "")


def _is_best(summary: Summary, world: str, system: str, column: Column) -> bool:
    """Highest share, lowest error; costs are not ranked."""
    if column in COST:
        return False
    spreads = {s.label: spread(summary.chosen(world, s.label), column) for s in summary.plan.systems}
    means = {label: value.mean for label, value in spreads.items() if value}
    if system not in means or len(means) < 2:
        return False
    return means[system] == (max if column.text is percent else min)(means.values())


def _grid_table(summary: Summary, world: str) -> str:
    """One row per system and learning rate, the chosen ones marked."""
    quality = summary.columns(world, QUALITY)
    choices = [choice for s in summary.plan.systems if (choice := summary.choice(world, s.label))]
    measure = choices[0].measure if choices else "validation"
    rows = []
    for index, system in enumerate(summary.plan.systems):
        choice = summary.choice(world, system.label)
        for lr in summary.plan.rates(system):
            cells = summary.of(world, system.label, lr)
            done = [result for result in cells if result.status is Status.DONE]
            chosen = choice is not None and choice.lr == lr
            score = choice.scores.get(lr) if choice else None
            row = [named(f"s{index % 8}", system.label), cell(f"{lr:g}", "chosen" if chosen else "")]
            row += [_status_cell(cells), cell("-" if score is None else _score(measure, score))]
            row += [_spread_cell(done, column) for column in quality]
            rows.append(("chosen" if chosen else "", row))
    headings = ["system", "learning rate", "cells", measure, *(f"test {column.heading}" for column in quality)]
    return table("Chosen by the column of the validation split; means over seeds.", headings, rows)


def _cell_table(summary: Summary, world: str) -> str:
    """One row per cell, with the interval over its test episodes."""
    columns = [*summary.columns(world, QUALITY), *summary.columns(world, COST)]
    rows = []
    for result in summary.results:
        if result.cell.world == world:
            row = [cell(result.cell.system), cell(f"{result.cell.lr:g}"), cell(str(result.cell.seed))]
            row += [cell(result.status), *(_figure_cell(result, column) for column in columns)]
            rows.append(("", row))
    headings = ["system", "learning rate", "seed", "status", *(column.heading for column in columns)]
    return table("Below a share: its 95 % interval over test episodes.", headings, rows)


def _figure_cell(result: CellResult, column: Column) -> str:
    value = column.value(result)
    interval = column.interval(result)
    below = " – ".join(percent(end) for end in interval) if interval else ""
    return cell("-") if value is None else cell(column.text(value), below)


def _score(measure: str, value: float) -> str:
    return percent(value) if measure.endswith("accuracy") else number(value)


def _status_cell(cells: list[CellResult]) -> str:
    """Cells done, and below it what became of the others."""
    counts = {status: sum(result.status is status for result in cells) for status in Status}
    done = counts.pop(Status.DONE)
    return cell(f"{done} done", ", ".join(f"{count} {status}" for status, count in counts.items() if count))


def _failures(summary: Summary, world: str) -> list[str]:
    """Cells that failed, with their errors; those that skipped steps."""
    cells = [result for result in summary.results if result.cell.world == world]
    failed = [result for result in cells if result.status is Status.FAILED]
    skipping = [result for result in cells if result.skipped]
    parts = []
    if failed:
        rows = [("", [cell(str(r.cell)), cell(r.error or "no error was recorded", style="text bad")]) for r in failed]
        parts += [heading(3, "Failed cells"), table("They count as failed, not as missing.", ["cell", "error"], rows)]
    if skipping:
        text = "; ".join(f"{result.cell}: {result.skipped}" for result in skipping)
        parts.append(paragraph(f"Steps skipped for want of a finite gradient: {text}.", "note"))
    return parts


def _strips(summary: Summary, world: str) -> str:
    """The pictures of each system's first seed."""
    parts = []
    for system in summary.plan.systems:
        cells = summary.chosen(world, system.label)
        if not cells:
            continue
        run = CellFiles.of(summary.folder, cells[0].cell).run
        alt = f"{system.label} on {world}: for four test episodes the true frames above those of the model."
        caption = f"{cells[0].cell}. Truth above the model; blue frames were observed, orange ones imagined."
        parts.append(figure(picture(run / "pictures" / "strip.png", alt), caption))
    return strips(parts) if parts else paragraph("No cell is tested yet.", "note")


def _method(summary: Summary) -> list[str]:
    """Commands, systems, the shared config, versions."""
    plan = summary.plan
    systems = [(system.label, _words(system)) for system in plan.systems]
    rows = [("", [named(f"s{i % 8}", label), cell(words, style="text")]) for i, (label, words) in enumerate(systems)]
    every = " ".join(plan.words) or "nothing"
    rule = (
        "Each learning rate is judged by its last validation: mean accuracy of imagined rewards over the seeds that "
        "every rate has finished, the lower loss where they tie, the loss alone where no reward is predicted. The "
        "test reads the last checkpoint. A rate with a failed cell is not chosen unless all have one."
    )
    return [
        paragraph(rule),
        preformatted(plan.command),
        paragraph("Figures as JSON: comparison.json beside this page; each cell's run folder, log and config: cells/."),
        table("What makes a system; these words win over shared ones.", ["system", "words"], rows),
        paragraph(f"Words that all systems share on the command line: {every}."),
        *_configs(summary),
    ]


def _words(system: System) -> str:
    """What makes it, as on the command line."""
    return " ".join(system.words if system.lr is None else [*system.words, f"train.lr={system.lr:g}"])


def _configs(summary: Summary) -> list[str]:
    """Config and versions of one cell per system, folded."""
    parts = []
    for system in summary.plan.systems:
        cells = summary.of(next(iter(summary.plan.worlds)), system.label)
        files = [CellFiles.of(summary.folder, result.cell) for result in cells]
        found = next((path for f in files for path in (f.config, f.run / CONFIG) if path.exists()), None)
        if found is not None:
            text = found.read_text(encoding="utf-8")
            parts.append(details(f"Whole config of a cell of {system.label}", preformatted(text)))
    for start in _starts(summary):
        parts.append(details("Versions", preformatted(json.dumps(start, indent=2))))
    return parts


def _starts(summary: Summary) -> list[dict[str, Any]]:
    """Machines and versions that cells had, each once. Their commands are those of workers: left out."""
    found: list[dict[str, Any]] = []
    for path in sorted(summary.folder.glob("cells/*/versions.json")):
        for start in json.loads(path.read_text(encoding="utf-8"))["starts"]:
            told = {key: value for key, value in start.items() if key != "command"}
            if told not in found:
                found.append(told)
    return found


def _uneven(summary: Summary, world: str) -> str:
    """Systems of which one run took many more steps a minute than another: their minutes were not the same budget."""
    sentences = []
    for system in summary.plan.systems:
        paces = [cell.steps / cell.minutes for cell in summary.of(world, system.label) if cell.steps and cell.minutes]
        if summary.plan.minutes is not None and paces and max(paces) > UNEVEN * min(paces):
            sentences.append(f"{system.label} took {min(paces):,.0f} to {max(paces):,.0f} steps a minute")
    return (
        f" Not alike: {'; '.join(sentences)}. Their machines differed, or what else ran on them." if sentences else ""
    )


def _cost_caption(summary: Summary) -> str:
    """What the times are times of, and whether they are of one machine."""
    names = ["; ".join(filter(None, (start.get("processor"), *start.get("gpus", [])))) for start in _starts(summary)]
    machines = list(dict.fromkeys(filter(None, names)))
    where = f", on {' and on '.join(machines)}" if machines else ""
    warning = " Several machines: their times do not compare." if len(machines) > 1 else ""
    return f"Mean over seeds, range below; one process each{where}.{warning}"
