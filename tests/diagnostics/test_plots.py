"""The figure of cards has a curve for each backbone, in its colour and dash, and a point at its bytes of state."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from wmkit.diagnostics import plots
from wmkit.diagnostics.card import shipped_cards


def test_every_backbone_has_a_line_of_its_own_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: saved.append(figure))
    cards = list(shipped_cards().values())
    plots.draw_cards(cards, tmp_path / "cards.png")
    (figure,) = saved
    first, *_ = figure.axes
    curves = [line for line in first.get_lines() if line.get_marker() != "None"]
    assert len(curves) == len(cards)
    assert len({(line.get_color(), str(line.get_linestyle())) for line in curves}) == len(cards)
    assert len({line.get_marker() for line in curves}) == len(cards)
    assert len(first.get_lines()) == 2 * len(cards)  # and the chance of each
    costs: Any = next(axes for axes in figure.axes if "bytes" in axes.get_xlabel())
    points = {line.get_xdata()[0] for line in costs.get_lines()}
    assert points == {card.costs["state_bytes"] for card in cards}


def test_a_task_of_ones_own_is_drawn_and_skill_only_where_a_task_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: saved.append(figure))
    gru, s4 = (shipped_cards()[name] for name in ("gru", "s4"))
    mine = dataclasses.replace(
        gru, backbone="mine", results=[dataclasses.replace(gru.results[1], task="my", title="my")]
    )
    plots.draw_cards([mine, s4], tmp_path / "cards.png")
    titles = [axes.get_title() for axes in saved[0].axes]
    assert "my" in titles
    assert not any("skill" in title for title in titles)


def test_the_figure_is_a_png(tmp_path: Path) -> None:
    plots.draw_cards(list(shipped_cards().values())[:1], tmp_path / "cards.png")
    assert (tmp_path / "cards.png").read_bytes().startswith(b"\x89PNG")
