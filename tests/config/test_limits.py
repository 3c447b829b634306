"""Files that expand without end are refused at once, with one short message."""

import time

import pytest

from gorl import config
from gorl.errors import ConfigError
from gorl.studies.plan import make_plan

PPO = "include 'ppo.gin'\n"
DOUBLED = "M0 = [1, 1]\n" + "".join(f"M{i} = [%M{i - 1}, %M{i - 1}]\n" for i in range(1, 40))
CHAINED = "M0 = 1\n" + "".join(f"M{i} = %M{i - 1}\n" for i in range(1, 60))
FILES = {
    "macros that double": (PPO + DOUBLED + "SEED = %M39\n", "has more than 20_000 parts"),
    "a chain of macros": (PPO + CHAINED + "Experiment.seed = %M59\n", "a chain of more than 50 macros"),
    "stages without end": (
        PPO + f"Experiment.stages = [{'@Stage(),' * 9000}]\n",
        "Experiment.stages alone names 9_000",
    ),
    "phases of stages": (
        PPO + f"Experiment.stages = [{'@Stage(),' * 90}]\nStage.phases = [{'@ImprovePolicy(),' * 90}]\n",
        "builds more than 5_000 objects",
    ),
    "bindings without end": ("".join(f"A{i} = 1\n" for i in range(5001)) + PPO, "at most 5_000 bindings"),
    "a file without end": (PPO + "SEED = 1" + " " * 250_000, "more than 250_000 characters"),
    "strings in a row": (PPO + "ENV = " + "'a' " * 3000, "more than 500 strings in a row. Write one string."),
    "strings in a row, on many lines": (
        PPO + "ENV = (" + "'a'  # so\n  " * 3000 + ")",
        "more than 500 strings in a row",
    ),
    "a list for a number": (PPO + f"Clip.epsilon = [{'0.5, ' * 9000}]\n", "must be of type float."),
    "digits without end": (PPO + "SEED = " + "9" * 4000, "a size is at most 2_147_483_647."),
    "a string without end": (PPO + f"ImprovePolicy.hand_on = '{'x' * 9000}'\n", "it is 'best' or 'last'"),
    "dashes without end": (PPO + "SEED = " + "-" * 20_000 + "1\n", "main.gin:2"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_expands_without_end_is_refused_at_once(name, tmp_path, monkeypatch):
    text, part = FILES[name]
    (tmp_path / "main.gin").write_text(text)
    monkeypatch.chdir(tmp_path)
    began = time.process_time()
    with pytest.raises(ConfigError) as err:
        config.build(["main.gin"])
    assert part in str(err.value) and len(str(err.value)) < 2_500
    assert time.process_time() - began < 10  # under 1 on an idle core


@pytest.mark.parametrize(
    "count, twice, part",
    [(12, True, "more than 300 files are read"), (40, False, "more than 30 files include each other")],
)
def test_includes_without_end_are_refused(count, twice, part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f0.gin").write_text("SEED = 1\n")
    for i in range(1, count):
        (tmp_path / f"f{i}.gin").write_text(f"include 'f{i - 1}.gin'\n" * (1 + twice))
    with pytest.raises(ConfigError) as err:
        config.build([f"f{count - 1}.gin"])
    assert part in str(err.value)


def test_a_grid_without_end_is_refused(tmp_path):
    (tmp_path / "grid.gin").write_text(
        PPO + f"Study.grid = {{'NUM_ENVS': {list(range(40))}, 'Clip.epsilon': {[0.1] * 40}}}\n"
    )
    with pytest.raises(ConfigError) as err:
        make_plan([str(tmp_path / "grid.gin")])
    assert "make 1_600 variants, of which a study may have 1_000" in str(err.value)


def test_every_message_is_cut():
    assert len(str(ConfigError("x" * 10_000))) < 2_100
    lines = str(ConfigError("\n".join(map(str, range(1000))))).split("\n")
    assert len(lines) == 61 and lines[-1] == "... and 940 more lines"
    assert str(ConfigError("short\nand sweet")) == "short\nand sweet"
