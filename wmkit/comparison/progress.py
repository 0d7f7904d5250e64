"""What a person sees while a comparison runs: bars in a terminal, a line for each ended cell elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from wmkit.comparison.cell import Cell, CellFiles, Status
from wmkit.config import RunConfig
from wmkit.training.budget import Budget
from wmkit.training.log import read_lines

STYLE = {Status.DONE: "green", Status.FAILED: "red", Status.UNFINISHED: "yellow", Status.WAITING: "dim"}


class Display:
    """One line for each ended cell, and in a terminal a bar for all cells and one for each that is under way."""

    def __init__(self, total: int, done: int, console: Console | None = None) -> None:
        """`done` of `total` cells lie behind already."""
        self.total, self.count = total, done
        self.console = console or Console()
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._all = self._progress.add_task("all cells", total=total, completed=done)
        self._tasks: dict[Cell, TaskID] = {}

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def say(self, sentence: str) -> None:
        """A line that stays."""
        self._progress.console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def started(self, cell: Cell) -> None:
        """The cell is under way."""
        self._tasks[cell] = self._progress.add_task(escape(str(cell)), total=1.0)

    def moved(self, cell: Cell, config: RunConfig, files: CellFiles) -> None:
        """Look how far the cell is; only a terminal shows it."""
        if self.console.is_terminal:
            self._progress.update(self._tasks[cell], completed=share_spent(config, files))

    def ended(self, cell: Cell, files: CellFiles, status: Status) -> None:
        """The cell has ended."""
        self._progress.remove_task(self._tasks.pop(cell))
        if status is not Status.UNFINISHED:
            self.count += 1
            self._progress.update(self._all, completed=self.count)
        error = files.record().get("error")
        text = f"[{STYLE[status]}]{status}[/] {escape(str(cell))}" + (f": {escape(error)}" if error else "")
        self._progress.console.print(rf"\[{self.count}/{self.total}] {text}", highlight=False, soft_wrap=True)


def share_spent(config: RunConfig, files: CellFiles) -> float:
    """Share of its budget that a cell under way has spent, by its newest line of timing."""
    budget, step = Budget(config.train, config.data.workers), 0
    for line in read_lines(files.run / "timing.jsonl"):
        if line["split"] == "train":
            step = line["step"]
            budget.seconds += line["values"]["seconds"]
    return budget.share(step)
