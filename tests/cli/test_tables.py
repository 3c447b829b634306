"""The tables that end `gorl train` and stand in `gorl inspect`, read as a person reads them."""

from rich.console import Console

from gorl.cli.tables import result_tables
from tests.support import commands
from tests.support.run_folders import TWO_STAGES, make_run, stage


def shown(tables) -> list[list[str]]:
    """The cells of every row of the tables."""
    console = Console(width=200, record=True, file=open("/dev/null", "w"))
    for table in tables:
        console.print(table)
    lines = console.export_text().splitlines()
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]


def test_the_best_of_all_stages_is_the_last_row():
    final, swapped = result_tables([TWO_STAGES])
    assert shown([final]) == [
        ["untrained", "0", "90.0 ± 0.5", "89.0", "91.0", "—"],
        ["stage 0, best", "100", "50.0 ± 0.5", "49.0", "51.0", "45.0 ± 0.5"],
        ["stage 0, last", "100", "40.0 ± 0.5", "39.0", "41.0", "35.0 ± 0.5"],
        ["stage 1, best", "200", "70.0 ± 0.5", "69.0", "71.0", "65.0 ± 0.5"],
        ["stage 1, last", "200", "60.0 ± 0.5", "59.0", "61.0", "55.0 ± 0.5"],
        ["best of all stages (of stage 0)", "100", "50.0 ± 0.5", "49.0", "51.0", "45.0 ± 0.5"],
    ]
    console = Console(width=200, record=True, file=open("/dev/null", "w"))
    console.print(swapped)
    *_, row = (line.split() for line in console.export_text().splitlines() if line.strip())
    assert row == ["1", "50.0", "45.0", "48.0", "44.0", "0.5", "2"]


def test_each_of_several_seeds_has_a_best_stage_of_its_own():
    """The other seed's best stage is 1, with 30 there: mean (50 + 30) / 2, deviation 10."""
    other = [*stage(0, selected=1.0, best=10.0, last=10.0), *stage(1, selected=2.0, best=30.0, last=20.0)]
    (final, swapped) = result_tables([TWO_STAGES, other])
    rows = shown([final])
    assert rows[-1] == ["best of all stages (of stage 0, 1)", "100 to 200", "40.0 ± 10.0", "30.0", "50.0", "45.0 ± 0.0"]
    assert rows[1] == ["stage 0, best", "100", "30.0 ± 20.0", "10.0", "50.0", "45.0 ± 0.0"]
    assert "over 2 seeds" in str(swapped.title) and swapped.row_count == 1


def test_what_a_run_lacks_has_no_column_row_or_table():
    (final,) = result_tables([stage(0, selected=1.0, best=10.0, last=10.0)])
    assert shown([final]) == [
        ["untrained", "0", "1.0 ± 0.5", "0.0", "2.0"],
        ["stage 0, best", "100", "10.0 ± 0.5", "9.0", "11.0"],
        ["stage 0, last", "100", "10.0 ± 0.5", "9.0", "11.0"],
    ]
    assert result_tables([[]]) == []
    (gave_up_early,) = result_tables([[], stage(0, selected=1.0, best=10.0, last=10.0)])
    assert gave_up_early.row_count == 3


def test_a_swap_that_was_measured_in_part_has_dashes():
    entries = [e for e in TWO_STAGES if e.stage == 0 or e.subset == "swap_mode"]
    *_, swapped = result_tables([entries])
    assert [list(column.cells) for column in swapped.columns] == [["1"], ["50.0"], ["45.0"], ["48.0"], *[["—"]] * 3]


def test_inspect_shows_both(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run = make_run(tmp_path / "r", entries=TWO_STAGES)
    said = commands.gorl("inspect", run)
    assert "best of all stages (of stage 0)" in said and "swaps: what a new decoder keeps" in said
