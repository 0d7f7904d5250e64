import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Task
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
    clock,
    read_lines,
)
from wmkit.training.run_folder import RunFolder

Terminal = Callable[..., tuple[Console, Callable[[], list[str]]]]
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
    display.step(10, 0.1)
    display.show(10, "train", {"loss": 312.401, "kl": 1.0}, TIMING)
    display.show(10, "valid", {"loss": 2.0}, {})
    display.close()
    train, valid = capsys.readouterr().out.splitlines()
    assert train == "step 10/100  train  loss 312.40  kl 1.00  1234 frames/s  data 5%"
    assert valid == "step 10/100  valid  loss 2.00"


FIGURES = {"loss": 3058.01, "image": 3056.17, "kl": 11.55, "reward": 0.29}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Console, Callable[[], list[str]]]]:
    """A terminal of a width, and the lines that its last frame leaves, without colours."""

    def make(width: int, **options: object) -> tuple[Console, Callable[[], list[str]]]:
        screen = io.StringIO()
        console = Console(file=screen, **{"force_terminal": True, "width": width, **options})
        monkeypatch.setattr(log_module, "Console", lambda: console)
        plain = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
        return console, lambda: plain.sub("", screen.getvalue().split("\x1b[2K")[-1]).split("\n")

    return make


@pytest.mark.reported(
    "friction",
    "",
    "the default recipe trains in a terminal of 80, 60 or 40 columns",
    "a bar with steps and `1:03 left`, below it every figure, none cut",
)
@pytest.mark.parametrize("width", [40, 60, 80, 150])
def test_in_a_terminal_steps_time_left_and_every_figure_are_whole(
    width: int, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, frame = terminal(width)
    display = build_display(1200, step=1000, done=1000 / 1200)
    assert isinstance(display, LiveDisplay)
    monkeypatch.setattr(Task, "time_remaining", 63.4)
    display.show(1020, "train", FIGURES, TIMING)
    display.show(1020, "valid", {"loss": 2.0}, {})
    display.step(1020, 1020 / 1200)
    display.close()
    bar, *below = [line for line in frame() if line]
    assert re.fullmatch(r"train [━╸╺ ]+ 1020/1200 1:03 left *", bar)
    assert len(bar) <= width
    assert all(len(line) <= width for line in below)
    expected = "loss 3058.01  image 3056.17  kl 11.55  reward 0.29  1234 frames/s  data 5%"
    assert "  ".join(line.strip() for line in below) == expected


@pytest.mark.reported("friction", "", "the terminal is made narrower while a run trains", "the next frame fits it")
def test_a_frame_fits_the_terminal_as_it_is_now(terminal: Terminal) -> None:
    console, frame = terminal(120)
    display = build_display(1200)
    display.show(20, "train", FIGURES, TIMING)
    console.width = 40
    display.close()
    assert max(map(len, frame())) <= 40


@pytest.mark.reported("friction", "", "`NO_COLOR=1` in a terminal", "the live line without colours")
@pytest.mark.reported("friction", "", "`TERM=dumb`, which cannot redraw", "a line per log entry")
@pytest.mark.reported("friction", "", "a run trains in a notebook", "a line per log entry")
def test_without_colours_the_bar_lives_and_where_nothing_can_be_redrawn_there_are_lines(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console, _ = terminal(80, no_color=True)
    display = build_display(100)
    display.show(10, "train", {"loss": 312.401}, TIMING)
    display.close()
    shown = console.file.getvalue()  # a StringIO
    assert "loss 312.40" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown)
    for options in ({"_environ": {"TERM": "dumb"}}, {"force_terminal": None, "force_jupyter": True}):
        terminal(80, **options)
        assert isinstance(build_display(100), PlainDisplay)


def test_sentences_and_validations_stay_above_the_bar_and_paths_are_not_broken(terminal: Terminal) -> None:
    console, _ = terminal(40)
    display = build_display(None)
    display.say("Each validation draws runs/memory_maze-ray_maze_9x9-s4-0/pictures/latest.png")
    display.show(10, "valid", {"loss": 2.0}, {})
    display.close()
    shown = console.file.getvalue()  # a StringIO
    assert "Each validation draws runs/memory_maze-ray_maze_9x9-s4-0/pictures/latest.png" in shown
    assert "step 10  valid  loss 2.00" in shown


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "0:03"), (63, "1:03"), (3599.7, "1:00:00"), (4320, "1:12:00")])
def test_a_time_is_written_as_a_clock_does(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.reported(
    "friction",
    "",
    "the output of a run goes to a file or a pipe",
    "a line per log entry with all figures, however long, without a colour",
)
def test_nothing_is_cut_in_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    build_display(1200).show(20, "train", {f"doors_and_colours_{n}": n for n in range(9)}, TIMING)
    line, end = capsys.readouterr().out.split("\n")
    assert line.endswith("doors_and_colours_8 8.00  1234 frames/s  data 5%")
    assert end == ""


@pytest.mark.reported(
    "friction",
    "",
    "other programs take the cores while a run trains",
    "said once, with the words that go on with one thread",
)
@pytest.mark.parametrize(("threads", "advice"), [(1, "It has one thread already"), (2, "resume=true train.threads=1")])
def test_a_run_that_others_slow_down_says_so_once(
    threads: int,
    advice: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    log = RunLog(RunFolder(tmp_path), None, 0)
    said = []
    for step, (speed, load) in enumerate([(900, 3), (1000, 1), (251, 3), (200, 1.9), (200, 3), (100, 9)]):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, load, load))
        monkeypatch.setattr(log.watch, "take", lambda speed=speed: {**TIMING, "frames_per_second": float(speed)})
        log.training(step, {})
        said += [
            step for line in capsys.readouterr().out.splitlines() if "other programs hold" in line and advice in line
        ]
    log.close()
    assert said == [4]


@pytest.mark.reported(
    "friction", "", "a run of several threads begins on a machine that others fill", "so it says at the first log line"
)
@pytest.mark.parametrize(("threads", "load", "said"), [(2, 4.1, True), (2, 3.9, False), (1, 9.0, False)])
def test_a_crowded_machine_is_spoken_of_at_once_where_threads_wait_for_each_other(
    threads: int,
    load: float,
    said: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
    log = RunLog(RunFolder(tmp_path), None, 0)
    log.training(2, {})
    log.training(4, {})
    log.close()
    assert capsys.readouterr().out.count("may be much slower than alone: other programs hold") == said


def test_pictures_of_a_validation_replace_those_before_in_the_folder_and_are_all_in_tensorboard(tmp_path: Path) -> None:
    log = RunLog(RunFolder(tmp_path), 9, 0)
    for step, grey in ((3, 10), (6, 200)):
        log.validation(step, {"loss": 1.0}, {}, 1.0, {"latest": np.full((6, 8, 3), grey, np.uint8)})
    log.close()
    with Image.open(tmp_path / "pictures" / "latest.png") as image:
        assert (np.asarray(image) == 200).all()
        assert image.size == (8, 6)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["latest.png"]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Images("valid/latest")] == [3, 6]


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
