"""The tables of the terminal: every system is in them, whole, on 80 columns."""

import io
from pathlib import Path

from rich.console import Console

from wmkit.comparison.plan import Plan
from wmkit.comparison.summary import read_summary
from wmkit.comparison.system import System
from wmkit.comparison.table import rich_tables
from wmkit_envs import DistractingMemory

WORLD = DistractingMemory(width=8, tile=4)


def test_many_systems_go_below_each_other_and_none_is_cut(tmp_path: Path) -> None:
    labels = ["s4", "s4_cosine", "gru", "gru_tbtt", "lru", "a_system_with_a_long_name"]
    systems = tuple(System(label, ("backbone=gru",)) for label in labels)
    Plan(systems=systems, worlds={WORLD.name: WORLD}, seeds=(0,), lrs=(1e-3,), minutes=1.0, steps=None).save(tmp_path)
    text = io.StringIO()
    Console(file=text, width=80).print(*rich_tables(read_summary(tmp_path), WORLD.name))
    printed = text.getvalue()
    assert all(label in printed.split() for label in labels)
    assert "…" not in printed
    assert printed.count("learning rate") == 2
    assert max(map(len, printed.splitlines())) <= 80
