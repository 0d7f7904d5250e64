import io
import json
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from wmkit.training import log as log_module
from wmkit.training.log import (
    JsonLines,
    LiveDisplay,
    PlainDisplay,
    RunLog,
    RunningMean,
    Stopwatch,
    build_display,
    read_lines,
)
from wmkit.training.run_folder import RunFolder

TIMING = {"frames_per_second": 1234.0, "data_wait": 0.05}


def test_a_line_holds_step_split_and_values(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "metrics.jsonl")
    log.write(3, "train", {"loss": 0.1})
    log.sync()
    log.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 3, "split": "train", "values": {"loss": 0.1}}\n'


def test_a_resumed_log_drops_the_lines_after_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {step}, "split": "train", "values": {{"loss": 0.1}}}}\n' for step in (1, 2, 3)))
    whole = path.read_text()
    log = JsonLines(path, last_step=2)
    log.write(3, "train", {"loss": 0.1})
    log.close()
    assert path.read_text() == whole


def test_the_display_shows_some_terms_of_the_loss_and_all_that_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = RunLog(RunFolder(tmp_path), 9, 0)
    log.validation(2, {"loss": 3.0, "kl": 1.0, "entropy": 7.0}, {"doors_imagined": 0.5}, seconds=1.0)
    log.close()
    assert capsys.readouterr().out == "step 2/9  valid  loss 3.00  kl 1.00  doors_imagined 0.50\n"
    [line] = read_lines(tmp_path / "metrics.jsonl")
    assert line["values"] == {"loss": 3.0, "kl": 1.0, "entropy": 7.0, "doors_imagined": 0.5}


def test_only_a_last_line_cut_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st')
    assert list(read_lines(path)) == [{"step": 1}]
    path.write_text('{"st\n{"step": 1}\n')
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        list(read_lines(path))


def test_tensorboard_holds_the_curve_of_a_resumed_run_once(tmp_path: Path) -> None:
    for last_step, steps in ((0, (1, 2, 3)), (1, (2, 3))):
        if last_step:
            time.sleep(1)  # TensorBoard reads files in the order of their second; those of one second by a counter
        log = RunLog(RunFolder(tmp_path), None, last_step)
        for step in steps:
            log.training(step, {"loss": float(step)})
        log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_mean_goes_on_where_a_checkpoint_was_taken() -> None:
    whole, first, second = (RunningMean(torch.device("cpu")) for _ in range(3))
    values = [torch.rand(()) for _ in range(5)]
    for value in values:
        whole.add({"loss": value})
    for value in values[:2]:
        first.add({"loss": value})
    second.load_state_dict(first.state_dict())
    for value in values[2:]:
        second.add({"loss": value})
    taken = whole.take()
    assert taken == second.take() == {"loss": pytest.approx(float(torch.stack(values).mean()))}
    assert whole.take() == {}
    assert json.loads(json.dumps(taken)) == taken


def test_without_a_terminal_each_log_entry_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    display = build_display(100)
    assert isinstance(display, PlainDisplay)
    display.step(10)
    display.show(10, "train", {"loss": 312.401, "kl": 1.0}, TIMING)
    display.show(10, "valid", {"loss": 2.0}, {})
    display.close()
    train, valid = capsys.readouterr().out.splitlines()
    assert train == "step 10/100  train  loss 312.40  kl 1.00  1234 frames/s  data 5%"
    assert valid == "step 10/100  valid  loss 2.00"


def test_in_a_terminal_a_bar_lives_and_sentences_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(log_module, "Console", lambda: Console(file=screen, force_terminal=True, width=150))
    display = build_display(100, done=5)
    assert isinstance(display, LiveDisplay)
    display.step(10)
    display.show(10, "train", {"loss": 312.401}, TIMING)
    display.show(10, "valid", {"loss": 2.0}, {})
    display.close()
    shown = screen.getvalue()
    assert "10/100" in shown
    assert "loss 312.40" in shown
    assert "step 10  valid  loss 2.00" in shown


def test_the_stopwatch_counts_since_the_last_take(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0, 16.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    watch = Stopwatch(started=next(clock))
    watch.add(frames=100, waited=1.0)
    assert watch.take() == {"frames_per_second": 50.0, "data_wait": 0.5, "seconds": 2.0}
    watch.add(frames=100, waited=2.0)
    watch.add(frames=100, waited=3.0)
    assert watch.take() == {"frames_per_second": 50.0, "data_wait": 0.5, "seconds": 4.0}


@pytest.mark.reported(
    "numbers",
    "clearml/clearml#118, tensorflow/tensorflow#3212, lanpa/tensorboardX#377",
    "a loss that is NaN or infinite in `metrics.jsonl`, in a new run and a resumed one",
    "`null`; the validation says that its loss is not finite",
)
def test_a_value_that_is_not_finite_is_null_in_the_file_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "values": {"loss": Infinity}}\n')  # older
    log = RunLog(folder, 9, 1)
    log.training(2, {"loss": float("inf"), "kl": 1.0})
    log.validation(2, {"loss": float("nan")}, {"doors": float("nan")}, seconds=1.0)
    log.validation(3, {"loss": 1.0}, {}, seconds=2.0)
    log.close()
    strict = [json.loads(line, parse_constant=pytest.fail) for line in folder.metrics.read_text().splitlines()]
    assert [line["values"] for line in strict] == [
        {"loss": None}, {"loss": None, "kl": 1.0}, {"loss": None, "doors": None}, {"loss": 1.0},
    ]  # fmt: skip
    said = [line for line in capsys.readouterr().out.splitlines() if "not finite" in line]
    assert said == [
        "step 2: the validation loss is not finite (null in metrics.jsonl), so that this step cannot be the best; "
        "try a smaller train.lr"
    ]
