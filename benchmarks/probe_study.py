"""A study of docs/results from a comparison whose runs were probed.

    python recipes/memory_probes.py
    python -m benchmarks.probe_study comparisons/memory_probes probes_of_mazes --claim "..." --budget "..."

Writes NAME.json and, beside it, the figure of all systems, NAME.png. What the keys mean stands in docs/results.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wmkit.comparison import Cell, read_results
from wmkit.evaluation.estimates import Estimate
from wmkit.evaluation.predictors import CONSTANT, NO_MEMORY, OBSERVED, UNTRAINED
from wmkit.files import write_text
from wmkit.probing import ProbeResults
from wmkit.probing.figures import draw_systems
from wmkit.probing.results import IN_VIEW, ProbeMeasurements

COLORS = 200
"""Of the figure, so that it is small."""
MEASURED = ("parameters", "state_bytes", "imagined_step_ms", "peak_memory_bytes")
BETTER = {NO_MEMORY: "_better_than_no_memory", UNTRAINED: "_better_than_untrained"}
UNITS = {
    "": "",
    **{suffix: f"the same, by how much it is better than the row {row}" for row, suffix in BETTER.items()},
    "_in_view": "the same, of what is in view",
    "_admitted": "1 where the probe tells what is in view, else 0",
    "_horizon": "steps, the effective horizon; at most the longest delay",
}
"""What is written of a probe's measure, by the ending of its name."""


def main() -> None:
    """Read the comparison, write the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("name")
    parser.add_argument("--claim", required=True)
    parser.add_argument("--budget", required=True)
    parser.add_argument("--notes", default="")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results = read_results(args.comparison)
    (world,) = (planned.name for planned in results.plan.worlds)
    found, cells = results.probed(world), results.runs(world=world)
    starts = [start for run in cells.values() for start in json.loads((run / "versions.json").read_text())["starts"]]
    seed = results.plan.seeds[0] if len(results.plan.seeds) == 1 else None
    first, estimates, curves = next(iter(found.values())).steps, [], []
    for system, of_system in found.items():
        of = {"system": system, "world": world} | ({"seed": seed} if seed is not None else {})
        estimates += [of | row for row in estimates_of(of_system)]
        curves += [of | row for row in curves_of(of_system)]
    study = {
        "study": args.name,
        "claim": args.claim,
        "date": date.today().isoformat(),
        "command": re.sub(" (out|jobs)=\\S+", "", results.plan.command),
        "machine": sorted({start["processor"] for start in starts}),
        "commit": sorted({start["commit"] for start in starts}),
        "budget": args.budget,
        "systems": {system.label: " ".join(system.overrides) for system in results.plan.systems},
        "worlds": [world],
        "seeds": list(results.plan.seeds),
        "notes": args.notes,
        "measures": dict(units(first, {row["measure"] for row in estimates})),
        "images": [args.name],
        "runs": [run_of(cell, run) for cell, run in cells.items()],
        "estimates": estimates,
        "curves": curves,
    }
    write_text(args.out / f"{args.name}.json", dumped(study))
    picture = args.out / f"{args.name}.png"
    if draw_systems(found, picture):
        Image.open(picture).convert("RGB").quantize(COLORS).save(picture, optimize=True)


def estimates_of(results: ProbeResults) -> Iterator[dict[str, Any]]:
    """Of each probe, by its first head: what each row tells, in view too, what is better, whether it is admitted, and
    the horizon.
    """
    steps, horizons = results.steps, results.horizons()
    for measure in steps.main_measures():
        there = steps.predictors(measure)
        for row in there:
            yield row_of(measure, row, steps.estimate(measure, row))
        for beside, suffix in BETTER.items():
            if {OBSERVED, beside} <= set(there):
                yield row_of(measure + suffix, OBSERVED, steps.difference(measure, OBSERVED, beside))
        for row in (OBSERVED, NO_MEMORY, CONSTANT):
            if measure + IN_VIEW in steps.measures and row in steps.predictors(measure + IN_VIEW):
                yield row_of(measure + "_in_view", row, steps.estimate(measure + IN_VIEW, row))
        admitted = int(measure not in steps.refused)
        yield {"measure": f"{measure}_admitted", "predictor": OBSERVED, "steps": "all", "mean": admitted}
        if (told := horizons.get(measure)) is not None and not math.isnan(told.delay):
            bounds = (min(x, told.longest) for x in (told.delay, told.low, told.high))
            episodes = steps.estimate(measure, OBSERVED).episodes
            yield row_of(f"{measure}_horizon", OBSERVED, Estimate(*bounds, episodes)) | {"longest": told.longest}


def units(steps: ProbeMeasurements, there: set[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Of each measure that is there."""
    for measure in steps.main_measures():
        metric = steps.metrics[measure]
        for suffix, unit in UNITS.items():
            if measure + suffix in there:
                yield measure + suffix, {"unit": unit or f"{metric.title}: {metric.unit}", "better": metric.better}


def row_of(measure: str, predictor: str, told: Estimate) -> dict[str, Any]:
    """An estimate as studies write it."""
    numbers = {"mean": rounded(told.mean), "low": rounded(told.low), "high": rounded(told.high)}
    of = {"measure": measure, "predictor": predictor, "steps": "all"}
    return of | numbers | {"count": told.episodes, "interval": "bootstrap"}


def curves_of(results: ProbeResults) -> Iterator[dict[str, Any]]:
    """Against the steps since something was last in view."""
    delay = results.by_axis.get("delay")
    for measure in results.steps.main_measures() if delay is not None else ():
        assert delay is not None, "asked above"
        if measure not in delay.measures or measure in results.steps.refused:
            continue
        for row in (OBSERVED, NO_MEMORY, CONSTANT):
            if row in delay.predictors(measure):
                curve = delay.curve(measure, row)
                known = np.isfinite(curve.mean)
                at, mean = curve.steps[known].astype(int).tolist(), [rounded(x, 3) for x in curve.mean[known]]
                yield {"measure": measure, "predictor": row, "at": at, "mean": mean}


def run_of(cell: Cell, run: Path) -> dict[str, Any]:
    """What a run cost."""
    ended, record = (json.loads((run / name).read_text()) for name in ("finished.json", "cell.json"))
    of = {"system": cell.system, "world": cell.world, "seed": cell.seed, "lr": cell.lr}
    spent = {"steps": ended["step"], "minutes": rounded(ended["seconds"] / 60, 3)}
    return of | spent | {key: rounded(record[key]) for key in MEASURED if key in record}


def rounded(number: float, digits: int = 6) -> float:
    """To so many significant digits; whole numbers stay whole."""
    return number if isinstance(number, int) else float(f"{number:.{digits}g}")


def dumped(study: dict[str, Any]) -> str:
    """JSON with a line for each row of a list of objects."""
    lines = []
    for key, value in study.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = (
                "[\n  "
                + ",\n  ".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in value)
                + "\n ]"
            )
        else:
            value = json.dumps(value, ensure_ascii=False)
        lines.append(f" {json.dumps(key)}: {value}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    main()
