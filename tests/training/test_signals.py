import os
import signal
import threading

import pytest

from wmkit.training.runtime import StopSignal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_remembered_and_the_second_acts(number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in StopSignal.WATCHED]
    acted = []
    signal.signal(number, lambda n, frame: acted.append(n))
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), number)
            assert (stop.number, acted) == (number, [])
            os.kill(os.getpid(), number)
            assert acted == [number]
    finally:
        for n, handler in zip(StopSignal.WATCHED, before, strict=True):
            signal.signal(n, handler)


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(n) for n in StopSignal.WATCHED]
    with StopSignal():
        assert [signal.getsignal(n) for n in StopSignal.WATCHED] != before
    assert [signal.getsignal(n) for n in StopSignal.WATCHED] == before


def test_in_another_thread_no_handler_is_set() -> None:
    numbers = []

    def work() -> None:
        with StopSignal() as stop:
            numbers.append(stop.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert numbers == [None]
