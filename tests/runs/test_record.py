"""The run's own record."""

import dataclasses
import math

from gorl.runs.record import Record, RecordEntry, read

ENTRY = RecordEntry(
    1,
    0,
    "ImprovePolicy",
    "iterate",
    "train",
    "env_steps",
    480,
    1.5,
    {"return": math.nan, "loss/value": 0.25, "x": math.inf},
)


def test_round_trip_with_numbers_that_json_lacks(tmp_path):
    record = Record(tmp_path / "metrics.jsonl")
    record.log(ENTRY)
    record.close()
    (entry,) = read(tmp_path / "metrics.jsonl")
    assert (
        math.isnan(entry.metrics["return"]) and math.isnan(entry.metrics["x"]) and entry.metrics["loss/value"] == 0.25
    )
    assert dataclasses.replace(entry, metrics={}) == dataclasses.replace(ENTRY, metrics={})


def test_rewind_drops_later_lines_and_a_torn_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    record = Record(path)
    record.log(ENTRY)
    position = record.position()
    record.log(dataclasses.replace(ENTRY, unit=2))
    record.close()
    again = Record(path)
    again.rewind(position)
    again.log(dataclasses.replace(ENTRY, unit=3))
    again.close()
    with open(path, "ab") as file:
        file.write(b'{"unit": 4, "sta')
    assert [e.unit for e in read(path)] == [1, 3]


def test_units_that_take_no_environment_step_have_their_own_axis():
    assert ENTRY.step == 480
    assert dataclasses.replace(ENTRY, axis="units", unit=7).step == 7
