"""One table, for the terminal, for markdown and for a page; and the table of a measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import jinja2
from rich import box
from rich.markup import escape
from rich.table import Table as RichTable

from wmkit.evaluation.predictors import BEST_OF_N, predictor
from wmkit.evaluation.record import Measurements

_HTML = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<table>
{% if table.title %}
<caption>{{ table.title }}</caption>
{% endif %}
<thead><tr>{% for heading in table.headings %}<th scope="col">{{ heading }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr><th scope="row">{{ row[0] }}</th>
{%- for cell in row[1:] %}<td>{% for line in cell.split("\n") %}{% if not loop.first %}<br>{% endif %}{{ line }}\
{% endfor %}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
""")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table before it is drawn: rows of text, whose first cell names the row. A cell may have several lines."""

    title: str
    headings: Sequence[str]
    """Of all columns, the first one included."""
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.headings) for row in self.rows), f"{self.title}: rows of different lengths"

    def rich(self) -> RichTable:
        """For the terminal; where it is narrow, values are broken at their spaces and names of rows stay whole."""
        table = RichTable(title=escape(self.title), caption=escape(self.caption) or None, box=box.SIMPLE, padding=0)
        for number, heading in enumerate(map(escape, self.headings)):
            table.add_column(heading, justify="right" if number else "left", overflow="fold", no_wrap=number == 0)
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def markdown(self) -> str:
        """For a README: the title in bold above the table, the caption below it."""
        lines = [f"**{self.title}**", "", _line(self.headings), "|---|" + "---:|" * (len(self.headings) - 1)]
        lines += [_line(row) for row in self.rows]
        return "\n".join([*lines, "", *([self.caption, ""] if self.caption else [])]) + "\n"

    def html(self) -> str:
        """A `<table>` without style; the title is its caption, `caption` is left to the page."""
        return _HTML.render(table=self)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in cells) + " |"


def measure_tables(measurements: Measurements) -> Iterator[Table]:
    """One table per measure: a row per predictor, a column per range of steps; mean and 95 % interval."""
    for measure in measurements.measures:
        metric, columns = measurements.metrics[measure], measurements.columns(measure)
        rows = [
            [
                predictor(name).label,
                *(metric.text(measurements.estimate(measure, name, steps)) for steps in columns.values()),
            ]
            for name in measurements.predictors(measure)
        ]
        episodes = max(measurements.estimate(measure, name).episodes for name in measurements.predictors(measure))
        best = BEST_OF_N in measurements.predictors(measure)
        drawn = f"; best of N = {measurements.about['samples']} futures" if best else ""
        interval = "in brackets the 95 % interval (Wilson)" if metric.binary else "± 1.96 standard errors over episodes"
        yield Table(
            f"{metric.title}: {metric.better} is better",
            [
                "predictor",
                *(heading if heading in ("context", "episode") else f"step {heading}" for heading in columns),
            ],
            rows,
            f"{episodes} held-out episodes, context {measurements.context} | query {measurements.horizon}{drawn}; "
            f"unit: {metric.unit}; {interval}. {metric.caption}".strip(),
        )
