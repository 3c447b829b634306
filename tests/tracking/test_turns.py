"""Many runs that are tracked share the open files of a process."""

import resource
import threading

import pytest

from gorl.tracking import turns
from gorl.tracking.turns import Turns


@pytest.mark.parametrize(
    "soft, hard, expected, raised",
    [
        (300, 300, 7, None),  # (300 - 128) / 24
        (1024, 1024, 37, None),
        (1024, 4096, 64, 4096),
        (1024, resource.RLIM_INFINITY, 64, 65_536),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 64, None),
        (100, 100, 1, None),
    ],
)
def test_the_limit_is_raised_as_far_as_it_may_be_and_shared(soft, hard, expected, raised, monkeypatch):
    found = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: found.append(limits))
    assert turns.allowed() == expected
    assert found == ([] if raised is None else [(raised, hard)])


def test_no_more_than_allowed_have_a_turn_and_everybody_has_one():
    shared, at_once, most, lock = Turns(2), 0, 0, threading.Lock()
    for _ in range(8):
        shared.join()
    assert shared.crowded

    def work():
        nonlocal at_once, most
        for _ in range(20):
            shared.take()
            with lock:
                at_once += 1
                most = max(most, at_once)
            with lock:
                at_once -= 1
            shared.give()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most <= 2 and not any(t.is_alive() for t in threads)
    for _ in range(6):
        shared.leave()
    assert not shared.crowded
