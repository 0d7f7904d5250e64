"""What was measured, as lines of text and as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def contests(rows: Sequence[Row]) -> Iterator[str]:
    """Ours beside the reference implementation."""
    yield f"{'against state-spaces/s4':<48}{'ours ms':>10}{'theirs':>10}{'ratio':>8}{'bar':>6}{'MiB':>7}{'theirs':>8}"
    for row in rows:
        if "ms" not in row:
            yield f"{row['name']:<48}{row['verdict']}"
            continue
        bar = f">= {row['bar']:g}" if row["bar"] else f"{row['most_ms']:g} ms" if row["most_ms"] else ""
        memory = f"{row['mib']:>7.0f}{row['their_mib']:>8.0f}" if "mib" in row else " " * 15
        yield (
            f"{row['name']:<48}{row['ms']:>10.2f}{row['their_ms']:>10.2f}{row['ratio']:>8.1f}{bar:>7}{memory}"
            f"  {row['verdict']}"
        )


def ops(rows: Sequence[Row]) -> Iterator[str]:
    """Every op: times, memory, share of the limit."""
    yield (
        f"{'op, both passes':<16}{'forward ms':>11}{'both ms':>9}{'MiB':>7}{'must move MB':>14}{'Gop':>8}"
        f"{'of limit':>10}{'x reference':>13}"
    )
    for row in rows:
        if "ms" not in row:
            yield f"{row['name']:<16}{row['verdict']}"
            continue
        yield (
            f"{row['name']:<16}{row['forward_ms']:>11.2f}{row['ms']:>9.2f}{row['mib']:>7.0f}{row['moved_mb']:>14.0f}"
            f"{row['giga_operations']:>8.2f}{row['share']:>10.1%}{row['over_reference']:>13.0f}  {row['limit']}"
        )


def curves(rows: Sequence[Row]) -> Iterator[str]:
    """Exponents of growth."""
    yield f"{'growth':<16}{'axis':>5}{'from':>7}{'to':>7}{'time':>7}{'memory':>8}   milliseconds"
    for row in rows:
        if "ms" not in row:
            yield f"{row['name']:<16}{row['axis']:>5}  left out: no time"
            continue
        points = row["points"]
        times = " ".join(f"{p['ms']:.3g}" for p in points)
        yield (
            f"{row['name']:<16}{row['axis']:>5}{points[0]['value']:>7}{points[-1]['value']:>7}{row['ms']:>7.2f}"
            f"{row['mib']:>8.2f}   {times}"
        )


def draw_curves(rows: Sequence[Row], path: Path, caption: str) -> None:
    """Time above, memory below, against T, H and N, both axes logarithmic."""
    from matplotlib.figure import Figure

    axes, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("axis", "name"))
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    panels = figure.subplots(2, len(axes), sharex="col", sharey="row")
    for row in (row for row in rows if "ms" in row):
        column = axes.index(row["axis"])
        for panel, key in zip(panels[:, column], ("ms", "mib"), strict=True):
            xs, ys = ([p[k] for p in row["points"]] for k in ("value", key))
            colour = f"C{names.index(row['name'])}"
            panel.loglog(xs, ys, color=colour, marker="o", markersize=3, linewidth=1.2, label=row["name"])
    for column, axis in enumerate(axes):
        values = [p["value"] for row in rows if row["axis"] == axis for p in row["points"]]
        panels[1, column].set_xlabel(axis)
        panels[1, column].set_xticks(sorted(set(values)), [str(v) for v in sorted(set(values))], minor=False)
        panels[1, column].tick_params(axis="x", labelsize=8)
        panels[1, column].minorticks_off()
        for panel in panels[:, column]:
            panel.grid(alpha=0.25, linewidth=0.5)
            panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("forward + backward, ms")
    panels[1, 0].set_ylabel("peak memory, MiB")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=7, frameon=False)
    figure.suptitle(caption, fontsize=9)
    figure.savefig(path, dpi=110)
