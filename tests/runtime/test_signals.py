"""Signals that ask a run to stop are answered at any moment, and a second Ctrl-C leaves at once."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from gorl.runtime import signals
from gorl.runtime.signals import STOPPING, StopSignals

# A main thread that never comes back to the interpreter, as while it compiles.
BUSY = """
import sys, jax
from gorl.runtime import signals
signals.own_process()
say = lambda number: print("said", number, flush=True)
with signals.StopSignals(say=say, leave=lambda number: print("left", number, flush=True)):
    loop = jax.jit(lambda x: jax.lax.while_loop(lambda x: x > 0, lambda x: x + 1, x)).lower(1.0).compile()
    print("ready", flush=True)
    loop(1.0).block_until_ready()
"""


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


@pytest.fixture
def not_under_nohup():
    """nohup has SIGHUP ignored, which is kept."""
    old = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, old)


@pytest.mark.usefixtures("not_under_nohup")
@pytest.mark.parametrize("number", STOPPING)
def test_every_signal_that_asks_to_stop_is_recorded_and_said_once(number):
    said = []
    with StopSignals(say=said.append) as stop:
        os.kill(os.getpid(), number)
        wait_for(lambda: said)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        assert stop.received == number
    assert said == [number]


def test_what_was_there_before_is_there_again():
    before = {number: signal.getsignal(number) for number in STOPPING}
    count, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with StopSignals(say=print, leave=print):
            assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in STOPPING} == before
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (count, files)


def test_nohup_is_kept(monkeypatch):
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
            assert stop.received == 0 and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, old)


def test_a_second_one_is_a_keyboard_interrupt_where_the_process_is_another_s(monkeypatch):
    monkeypatch.setattr(signals, "_BOUNCE", 0.05)
    with pytest.raises(KeyboardInterrupt), StopSignals(leave=print) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # a wrapper sends it along: the same one
        wait_for(lambda: stop.received)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_in_another_thread_nothing_is_handled():
    found = []

    def work():
        with StopSignals() as stop:
            found.append(stop.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]


def test_a_busy_process_says_what_the_first_does_and_leaves_at_the_second():
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "said 2\n"
    time.sleep(2 * signals._BOUNCE)
    process.send_signal(signal.SIGTERM)  # no person's impatience
    time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "left 2\n"
    assert process.wait(30) == 130 and process.communicate()[1] == ""
