"""Cells in processes of their own: done once, resumed, failed and recorded, stopped with their parent."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from wmkit.comparison import worker
from wmkit.comparison.command import run_comparison
from wmkit.comparison.plan import Cell, CellFiles, Plan, PlannedWorld, Status, System
from wmkit.comparison.runner import Display, run_cells
from wmkit.comparison.worker import main
from wmkit.config import RunConfig
from wmkit.files import write_json
from wmkit.probing import ProbeResults
from wmkit.training.command import train_in_folder
from wmkit.training.run_folder import RunFolder


@pytest.fixture
def one_cell(tiny: RunConfig) -> tuple[Cell, RunConfig]:
    system = System("gru", ("backbone=gru",))
    plan = Plan(
        systems=(system,), worlds=(PlannedWorld.of(tiny.world),), seeds=(0,), lrs=(1e-3,), minutes=None, steps=40
    )
    cell = plan.cells()[0]
    return cell, plan.config(cell, tiny)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Every process that the test starts."""
    processes: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            processes.append(self)

    monkeypatch.setattr("subprocess.Popen", Noted)
    return processes


def test_a_comparison_ends_with_a_report_that_shows_what_failed_and_does_nothing_twice(
    tiny: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    grid = ("systems=gru", "seeds=0", "lrs=1e-3,1e30", "steps=14", "jobs=2", f"out={out}")
    assert run_comparison(tiny, {}, grid, ["train.clip=5"]) == 1
    values = json.loads((out / "comparison.json").read_text())
    good, bad = values["cells"]
    assert [(cell["lr"], cell["status"]) for cell in (good, bad)] == [(1e-3, "done"), (1e30, "failed")]
    assert good["costs"]["steps"] == 14
    assert good["costs"]["parameters"] > 0
    assert "No finite gradient in 10 steps" in bad["error"]
    assert [system["choice"]["lr"] for system in values["systems"]] == [1e-3]
    assert "No finite gradient" in (out / "report.html").read_text()
    assert "[2/2]" in capsys.readouterr().out

    before = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/**/*")}
    assert run_comparison(tiny, {}, grid, ["train.clip=5"]) == 1
    assert "0 of 2 cells to run" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.glob("cells/*/**/*")} == before

    assert run_comparison(tiny, {}, grid, ["train.clip=6"]) == 2
    assert "train.clip: 5.0 there, 6.0 now" in capsys.readouterr().err


def test_a_comparison_that_is_done_is_probed_when_that_is_asked_for_and_trained_no_further(
    tiny: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    grid = ("systems=gru", "seeds=0,1", "lrs=1e-3", "steps=4", "jobs=2", f"out={out}")
    assert run_comparison(tiny, {}, grid, []) == 0
    trained = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/metrics.jsonl")}
    tested = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/records.parquet")}
    assert len(trained) == len(tested) == 2
    asked = ["probes=sample_color,pose", "probe.heads=linear", "probe.seeds=1", "probe.episodes=4", "probe.held_out=2"]
    asked += ["probe.rows=observed,no_memory", "probe.steps=3"]
    capsys.readouterr()
    assert run_comparison(tiny, {}, grid, asked) == 0
    assert "2 of 2 cells to run" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in {**trained, **tested}} == {**trained, **tested}
    [system] = json.loads((out / "comparison.json").read_text())["systems"]
    assert system["test"]["sample_color_linear"].keys() == {"observed", "no_memory", "constant"}
    assert system["costs"]["state_bytes"] == 4 * (64 + 16)  # the vector and the last latent of size tiny
    assert system["costs"]["imagined_step_ms"] > 0
    page = (out / "report.html").read_text()
    assert ", linear, no memory" in page
    assert "state of a row" in page
    assert run_comparison(tiny, {}, grid, asked) == 0
    assert "0 of 2 cells to run" in capsys.readouterr().out
    models = [ProbeResults.load(path.parent) for path in sorted(out.glob("cells/*/probes/records.parquet"))]
    both = ProbeResults.pooled(models).steps
    means = [one.steps.estimate("pose_linear", "observed").mean for one in models]
    assert both.estimate("pose_linear", "observed").mean == pytest.approx(sum(means) / 2)
    assert "over 2 trained models and held-out episodes" in both.interval


def test_a_signal_lets_cells_save_and_the_next_call_goes_on_from_there(
    one_cell: tuple[Cell, RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell, config = one_cell
    files = CellFiles.of(tmp_path, cell)

    class Impatient(Display):
        def moved(self, cell: Cell, config: RunConfig, files: CellFiles) -> None:
            if any(files.run.glob("checkpoints/step-*")) and not self.told:
                self.told = True
                os.kill(os.getpid(), signal.SIGTERM)

        told = False

    with Impatient([cell], 0) as display:
        assert run_cells(tmp_path, {cell: config}, jobs=1, display=display) == signal.SIGTERM
    assert files.status() is Status.UNFINISHED
    with Display([cell], 0) as display:
        assert run_cells(tmp_path, {cell: config}, jobs=1, display=display) is None
    assert files.status() is Status.DONE
    assert "Continuing after step" in files.log.read_text()
    assert "Stopping" in capsys.readouterr().out


def test_as_many_cells_run_at_a_time_as_asked_for(tiny: RunConfig, tmp_path: Path) -> None:
    system = System("gru", ("backbone=gru",))
    plan = Plan(
        systems=(system,), worlds=(PlannedWorld.of(tiny.world),), seeds=(0, 1, 2), lrs=(1e-3,), minutes=None, steps=40
    )
    cells = plan.cells()

    class Counter(Display):
        running = 0

        def started(self, cell: Cell) -> None:
            super().started(cell)
            self.running += 1

        def moved(self, cell: Cell, config: RunConfig, files: CellFiles) -> None:
            if not seen:
                os.kill(os.getpid(), signal.SIGTERM)  # that is all to see: they end while they still start
            seen.append(self.running)

    seen: list[int] = []
    with Counter(cells, 0) as display:
        run_cells(tmp_path, {cell: plan.config(cell, tiny) for cell in cells}, jobs=2, display=display)
    assert set(seen) == {2}
    statuses = [CellFiles.of(tmp_path, cell).status() for cell in cells]
    assert statuses == [Status.UNFINISHED, Status.UNFINISHED, Status.WAITING]


def test_cells_under_way_are_killed_when_the_runner_breaks_off(
    one_cell: tuple[Cell, RunConfig], started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    cell, config = one_cell

    class Broken(Display):
        def moved(self, cell: Cell, config: RunConfig, files: CellFiles) -> None:
            raise KeyboardInterrupt

    with Broken([cell], 0) as display, pytest.raises(KeyboardInterrupt):
        run_cells(tmp_path, {cell: config}, jobs=1, display=display)
    ends = [process.returncode for process in started]
    for process in started:
        assert process.stdin is not None
        assert process.stdin.closed
    assert ends == [-signal.SIGKILL]


def test_the_last_checkpoint_is_tested_and_not_the_best(one_cell: tuple[Cell, RunConfig], tmp_path: Path) -> None:
    cell, config = one_cell
    config.train.steps = 2
    files = CellFiles.of(tmp_path, cell)
    train_in_folder(config, RunFolder(files.run))
    (files.run / "checkpoints" / "best").unlink()  # the end of the budget is validated too: they are the same here
    write_json(files.config, config.to_dict())
    assert main(files.config) == 0
    assert files.status() is Status.DONE


def test_a_cell_ends_with_its_parent(one_cell: tuple[Cell, RunConfig], tmp_path: Path) -> None:
    cell, config = one_cell
    config.train.steps = 100_000
    files = CellFiles.of(tmp_path, cell)
    files.run.mkdir(parents=True)
    write_json(files.config, config.to_dict())
    command = [sys.executable, "-m", "wmkit.comparison.worker", str(files.config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as worker:
        while not any(files.run.glob("checkpoints/step-*")):
            assert worker.poll() is None, "the worker ended before its first checkpoint"
            time.sleep(0.01)
        assert worker.stdin is not None
        worker.stdin.close()  # as when the parent dies
        assert worker.wait() == 128 + signal.SIGTERM


def test_a_cell_that_is_killed_is_recorded(
    one_cell: tuple[Cell, RunConfig], started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    cell, config = one_cell

    class Killer(Display):
        def moved(self, cell: Cell, config: RunConfig, files: CellFiles) -> None:
            started[0].kill()  # while it still starts

    with Killer([cell], 0) as display:
        run_cells(tmp_path, {cell: config}, jobs=1, display=display)
    files = CellFiles.of(tmp_path, cell)
    assert files.status() is Status.FAILED
    assert "killed by SIGKILL" in files.record()["error"]


@pytest.mark.reported(
    "machines",
    "",
    "a comparison whose cells print to an ASCII log (`LC_ALL=C`)",
    "what went wrong is recorded, not that `±` cannot be written",
)
def test_a_cell_prints_to_a_log_of_any_encoding(
    one_cell: tuple[Cell, RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = CellFiles.of(tmp_path, one_cell[0])

    def fail(path: Path) -> None:
        print("60.2 ± 1.3")
        raise ValueError("of its own")

    monkeypatch.setattr(worker, "load_config", fail)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert main(files.config) == 1
    assert files.record()["error"] == "ValueError: of its own"
