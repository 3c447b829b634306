"""Output outlives its reader, and every console can show it."""

import os
import subprocess
import sys

import pytest

from gorl.runtime import streams

TALK = """
import sys
from gorl.runtime import streams
streams.make_patient()
for i in range(20_000):
    print("a line · of output", i)
print("to the end", file=sys.stderr)
"""


def test_a_reader_that_goes_away_ends_nothing():
    process = subprocess.Popen([sys.executable, "-c", TALK], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b"to the end\n" and process.wait(60) == 0


def test_a_full_disk_under_the_log_ends_nothing():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", TALK], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"to the end\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_every_console_shows_every_text(encoding):
    script = "from gorl.runtime import streams; streams.make_patient(); print('a·b ± 数 \\udcff')"
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, timeout=60)
    expected = {
        "ascii": rb"a|b +- \u6570 \udcff",
        "latin-1": rb"a" + b"\xb7b \xb1 " + rb"\u6570 \udcff",
        "cp1252": rb"a" + b"\xb7b \xb1 " + rb"\u6570 \udcff",
        "utf-8": "a·b ± 数 ".encode() + rb"\udcff",
    }
    assert (done.returncode, done.stdout) == (0, expected[encoding] + b"\n"), done.stderr


def test_without_streams_there_is_nothing_to_do(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    streams.make_patient()
    assert sys.stdout is None and sys.stderr is None
