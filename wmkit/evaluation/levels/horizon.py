"""For how many frames is what runs imagine right? Frames (TALD, Figure 1) and digits against the horizon."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from matplotlib.figure import Figure

from wmkit.evaluation.evaluate import measure_query
from wmkit.evaluation.levels.base import ClipsAnalysis, Findings, QueryAnalysis, Runs, register_analysis
from wmkit.evaluation.measures.base import Measure, Setting
from wmkit.evaluation.measures.digits import DigitAccuracy
from wmkit.evaluation.measures.similarity import Similarity
from wmkit.evaluation.plots.figures import DOTS_PER_INCH, draw_curve, finish_panel
from wmkit.evaluation.predictors import IMAGINED, predictor
from wmkit.evaluation.record import Measurements
from wmkit.evaluation.tables import Table


@register_analysis("horizon")
@dataclasses.dataclass(frozen=True, kw_only=True)
class HorizonAnalysis(QueryAnalysis, ClipsAnalysis):
    """Imagined frames of several runs of one world: every run sees the same clips and is read by the same probe."""

    help = "Open-loop frames of runs against the horizon, beside floors: SSIM, PSNR, digits."
    several = True

    def find(self, runs: Runs) -> Findings:
        loaded = {label: self.load(run) for label, run in runs.items()}
        worlds = {run.world for run in loaded.values()}
        if len(worlds) > 1:
            raise ValueError(
                f"Curves stand beside each other for runs of one world only, got {', '.join(sorted(worlds))}"
            )
        first = next(iter(loaded.values()))
        context, horizon = self.lengths(first)
        length = context + horizon
        batch = (first.digit_clips if first.has_digits else first.clips)(self.clips, length)
        probe = first.probe(self.seed) if first.has_digits else None
        frames = first.training_frames(length)
        found = {}
        for label, run in loaded.items():
            setting = Setting(run.model, context, horizon, self.seed, first.first_clip)
            measures: list[Measure] = [Similarity(), *([DigitAccuracy(probe)] if probe else [])]
            found[label] = measure_query(setting, measures, batch, training_frames=frames)
        values = {label: one.summary() for label, one in found.items()}
        return Findings(values, draw_horizon(found, first.world), horizon_table(found))


def horizon_table(found: Mapping[str, Measurements]) -> Table:
    """For each measure a row per run, and one per predictor that needs no model; a column per range of frames."""
    one = next(iter(found.values()))
    columns = one.columns(one.measures[0])
    rows = []
    for measure in one.measures:
        lines = {label: (each, IMAGINED) for label, each in found.items()}
        lines |= {predictor(name).label: (one, name) for name in one.predictors(measure) if name != IMAGINED}
        for label, (each, name) in lines.items():
            rows.append([measure, label, *(str(each.estimate(measure, name, steps)) for steps in columns.values())])
    return Table(
        f"Open loop on {one.episodes} held-out clips, {one.context} frames seen",
        ["measure", "predictor", *(f"frame {heading}" for heading in columns)],
        rows,
        f"Means over frames and clips, ± 1.96 standard errors over clips. Mean image of {one.about['mean_image_of']}. "
        + " ".join(dict.fromkeys(one.metrics[measure].caption for measure in one.measures)).strip(),
    )


def draw_horizon(found: Mapping[str, Measurements], title: str) -> Figure:
    """One panel per measure: a line for each run, beside what needs no model."""
    first = next(iter(found.values()))
    rows = -(-len(first.measures) // 2)
    figure = Figure(figsize=(11.0, 3.0 * rows + 0.6), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False).flatten()
    for axes, measure in zip(panels, first.measures, strict=False):
        for number, (label, one) in enumerate(found.items()):
            draw_curve(axes, one.curve(measure, IMAGINED), label, f"C{number}")
        for name in first.predictors(measure):
            if name != IMAGINED:
                known = predictor(name)
                draw_curve(axes, first.curve(measure, name), known.label, known.colour, known.dash)
        finish_panel(axes, first.metrics[measure], first.horizon)
        axes.set_xlabel("frames after the context", fontsize=8)
    for axes in panels[len(first.measures) :]:
        axes.axis("off")
    handles = {line.get_label(): line for axes in panels for line in axes.get_lines()}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8, frameon=False)
    figure.suptitle(
        f"{title}, {first.episodes} held-out clips, {first.context} frames seen; bands: 95 % over clips", fontsize=9
    )
    return figure
