import io

import pytest
from rich.console import Console

from wmkit.training import progress
from wmkit.training.progress import LiveDisplay, PlainDisplay, Stopwatch, build_display

TIMING = {"frames_per_second": 1234.0, "data_wait": 0.05}


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
    monkeypatch.setattr(progress, "Console", lambda: Console(file=screen, force_terminal=True, width=150))
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
