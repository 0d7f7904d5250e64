"""What a comparison shows while it runs: how far it is, what each cell does, and the time that is left."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from wmkit.comparison import runner
from wmkit.comparison.plan import CellFiles, Plan, PlannedWorld, Status, System
from wmkit.comparison.runner import TRAINING, Display, duration, newest_figure, progress_of
from wmkit.config import RunConfig


@pytest.fixture
def plan(tiny: RunConfig) -> Plan:
    """Four cells of 100 steps."""
    return Plan(
        systems=(System("s4", ("backbone=s4",)), System("gru_tbtt", ("backbone=gru",))),
        worlds=(PlannedWorld.of(tiny.world),),
        seeds=(0, 1),
        lrs=(1e-3,),
        minutes=None,
        steps=100,
    )


def write_progress(files: CellFiles, step: int, valid: dict[str, Any] | None = None, finished: bool = False) -> None:
    files.run.mkdir(parents=True, exist_ok=True)
    lines = {"timing": [{"step": step, "split": "train", "values": {"seconds": 1.0}}]}
    if valid is not None:
        lines["metrics"] = [{"step": step, "split": "valid", "values": valid}]
    for name, values in lines.items():
        (files.run / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in values))
    if finished:
        (files.run / "finished.json").write_text("{}")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the display takes for the time, in its first entry."""
    now = [1000.0]
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.reported(
    "friction",
    "",
    "a comparison runs in a terminal of 80 columns",
    "`training 50%` or `evaluating` and the newest figure beside each bar; the share of all work; `about 3 min left`",
)
def test_a_terminal_shows_what_each_cell_does_and_how_long_all_take(
    plan: Plan, tiny: RunConfig, tmp_path: Path, clock: list[float]
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    cells = plan.cells()
    files = {cell: CellFiles.of(tmp_path, cell) for cell in cells}
    with Display(cells, 1, console) as display:  # one of four has ended in an earlier call
        for cell in cells[1:3]:
            display.started(cell)
            display.moved(cell, plan.config(cell, tiny), files[cell])
        write_progress(files[cells[1]], 50, {"loss": 3.0, "kl": 1.0, "right_observed": 0.9, "right_imagined": 0.625})
        write_progress(files[cells[2]], 100, {"loss": 31.25}, finished=True)
        clock[0] += 90
        for cell in cells[1:3]:
            display.moved(cell, plan.config(cell, tiny), files[cell])
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue().split("\x1b[2K")[-1]).splitlines()
    shown = [re.sub(r"[━╸╺ ]+", " ", line).strip() for line in lines if line.strip()]
    # Of 3 cells 0.45 + 0.9 are done in 90 s: 110 s for the other 1.65.
    assert shown == [
        "all cells 59% about 2 min left",
        "gru_tbtt seed 0 training 50% right_imagined 0.625",
        "s4 seed 1 evaluating loss 31.25",
    ]
    assert max(map(len, lines)) <= 80


@pytest.mark.reported(
    "friction", "", "a comparison whose output goes to a file", "the time left in the line of each ended cell"
)
def test_in_a_pipe_each_ended_cell_says_the_time_left(
    plan: Plan, tiny: RunConfig, tmp_path: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    cells = plan.cells()
    with Display(cells, 0) as display:
        for number, cell in enumerate(cells, start=1):
            files = CellFiles.of(tmp_path, cell)
            display.started(cell)
            display.moved(cell, plan.config(cell, tiny), files)
            clock[0] += 1500
            display.ended(cell, files, Status.FAILED if number == 2 else Status.DONE)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(" (")[2] for line in lines[:3]] == [
        "about 1 h 15 min left)", "about 50 min left)", "about 25 min left)",
    ]  # fmt: skip
    assert lines[3] == f"[4/4] done {cells[3]}"


@pytest.mark.reported("friction", "", "a comparison that goes on", "what was done before does not count for its pace")
def test_the_pace_is_that_of_this_call(
    plan: Plan, tiny: RunConfig, tmp_path: Path, clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    _, second, third, _ = plan.cells()
    with Display(plan.cells(), 2) as display:
        files = CellFiles.of(tmp_path, second)
        write_progress(files, 50)
        for cell, its in ((second, files), (third, CellFiles.of(tmp_path, third))):
            display.started(cell)
            display.moved(cell, plan.config(cell, tiny), its)
        clock[0] += 60
        write_progress(files, 100, finished=True)
        display.ended(third, CellFiles.of(tmp_path, third), Status.UNFINISHED)
    # The second went on from 0.45 to 0.9 in a minute: 0.1 of it and the one that waits take 147 s.
    assert "(about 2 min left)" in capsys.readouterr().out


def test_a_cell_starts_trains_and_evaluates(plan: Plan, tiny: RunConfig, tmp_path: Path) -> None:
    cell = plan.cells()[0]
    files, config = CellFiles.of(tmp_path, cell), plan.config(cell, tiny)
    assert progress_of(config, files) == (0, "starting")
    assert newest_figure(files) == ""
    write_progress(files, 25, {"loss": None})
    assert progress_of(config, files) == (pytest.approx(0.25 * TRAINING), "training 25%")
    assert newest_figure(files) == "loss -"
    write_progress(files, 100, finished=True)
    assert progress_of(config, files) == (TRAINING, "evaluating")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (3570, "1 h 0 min"), (4320, "1 h 12 min")]
)
def test_a_duration_is_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text
