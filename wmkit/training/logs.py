"""All that a run tells: metrics and timing on disk, TensorBoard, and the display."""

from __future__ import annotations

from collections.abc import Mapping

from wmkit.training.metrics import JsonLines, TensorBoard
from wmkit.training.progress import Stopwatch, build_display
from wmkit.training.run_folder import RunFolder


class RunLog:
    """One writer for the process that reports; the others make none.

    What a config and a seed determine goes to `metrics.jsonl`, what the clock says to `timing.jsonl`, both to
    TensorBoard. Lines of steps after `last_step` are dropped first: a resumed run writes them again.
    """

    def __init__(self, folder: RunFolder, steps: int | None, last_step: int) -> None:
        self.metrics = JsonLines(folder.metrics, last_step)
        self.timing = JsonLines(folder.timing, last_step)
        self.tensorboard = TensorBoard(folder.tensorboard, last_step)
        self.display = build_display(steps, last_step)
        self.watch = Stopwatch()

    def step(self, step: int, frames: int, waited: float) -> None:
        """`step` steps are done; the last one read `frames` frames; the run waited `waited` seconds for data in all."""
        self.watch.add(frames, waited)
        self.display.step(step)

    def training(self, step: int, values: Mapping[str, float]) -> None:
        """Means since the last line, with the speed since then."""
        timing = self.watch.take()
        self.timing.write(step, "train", timing)
        self.tensorboard.write(step, "timing", timing)
        self._write(step, "train", values, timing)

    def validation(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """Figures on held-out batches after `seconds` of training; the time they took does not count as training."""
        self.timing.write(step, "valid", {"training_seconds": seconds})
        self._write(step, "valid", values, {})
        self.watch.take()

    def say(self, sentence: str) -> None:
        """A sentence for the person who watches."""
        self.display.say(sentence)

    def sync(self) -> None:
        """Have the disk hold the metrics: no checkpoint may be newer than they are."""
        self.metrics.sync()

    def close(self) -> None:
        """Close every file and leave the terminal as it was."""
        self.display.close()
        for sink in (self.metrics, self.timing, self.tensorboard):
            sink.close()

    def _write(self, step: int, split: str, values: Mapping[str, float], timing: Mapping[str, float]) -> None:
        self.metrics.write(step, split, values)
        self.tensorboard.write(step, split, values)
        self.display.show(step, split, values, timing)
