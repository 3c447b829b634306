"""Where files are found, what a binding changes, and text that can be read again."""

import math
import pathlib
import re

import gin
import pytest

from gorl import config
from gorl.config import files, reader, syntax, tables
from gorl.config.text import literal, render_bindings
from gorl.errors import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, **texts):
    for name, text in texts.items():
        folder.mkdir(exist_ok=True, parents=True)
        (folder / f"{name}.gin").write_text(text)


def test_files_are_found_here_then_in_the_path_then_among_the_shipped(folder, monkeypatch):
    extra = [folder / "one", folder / "two"]
    monkeypatch.setenv("GORL_CONFIG_PATH", f"{extra[0]}:{extra[1]}")
    assert files.find("ppo.gin", None) == files.shipped() / "ppo.gin"
    for place in (extra[1], extra[0], folder):  # each before the one before it
        write(place, ppo="include 'gorl_fm.gin'\n")
        assert files.find("ppo.gin", None) == place / "ppo.gin"
    assert files.search_paths() == [folder, *extra, files.shipped()]
    write(folder / "one" / "sub", leaf="SEED = 5\n")
    assert files.find("sub/leaf.gin", None) == extra[0] / "sub" / "leaf.gin"


def test_an_include_is_looked_for_beside_its_file_first(folder):
    write(folder / "study", mine="include 'base.gin'\n", base="include 'ppo.gin'\nSEED = 5\n")
    write(folder, base="include 'ppo.gin'\nSEED = 6\n")
    assert config.build(["study/mine.gin"]).experiment.seed == 5
    assert config.build([str(folder / "base.gin")]).experiment.seed == 6


def test_origins_are_files_lines_and_the_command_line(folder):
    write(folder, mine="include 'ppo.gin'\n\nSEED = 5\nOnPolicy:\n  num_epochs = 3   # three\n\n  value_cost = 1.0\n")
    source = config.read_source(["mine.gin"], ["Clip.epsilon = 0.3"])
    origins = {tables.show_key(key): str(origin) for key, origin in source.origins.items()}
    assert origins["SEED"] == "mine.gin:3"
    assert origins["OnPolicy.num_epochs"] == "mine.gin:5" and origins["OnPolicy.value_cost"] == "mine.gin:7"
    assert origins["Clip.epsilon"] == "command line `Clip.epsilon = 0.3`"
    assert origins["ENV"].startswith("ppo.gin:")
    assert source.named == ["mine.gin"] and source.includes["mine.gin"] == ["ppo.gin"]


def test_later_files_and_then_the_command_line_win(folder):
    write(folder, a="include 'ppo.gin'\nSEED = 5\nNUM_ENVS = 64\n", b="SEED = 6\nNUM_ENVS = 128\n")
    built = config.build(["a.gin", "b.gin"], ["SEED = 7"])
    assert built.experiment.seed == 7 and built.macros()["NUM_ENVS"] == 128
    changes = [c for c in built.source.changes if tables.show_key(c.key) == "SEED"]
    assert [(c.origin.file, c.old, c.new) for c in changes][1:] == [
        ("a.gin", 0, 5),
        ("b.gin", 5, 6),
        ("command line", 6, 7),
    ]


def test_a_scoped_binding_knows_the_key_it_inherits_from():
    source = config.read_source(["gorl_fm.gin"], ["stage2/Clip.epsilon = 0.3", "stage2/Clip.epsilon = 0.3"][:1])
    change = source.changes[-1]
    assert change.before is None and tables.show_key(change.inherited) == "Clip.epsilon"


def test_reading_a_part_twice_is_fine_while_it_undoes_nothing(folder):
    write(folder, a="include 'ppo.gin'\ninclude 'parts/base.gin'\n", part="include 'parts/gaussian.gin'\n")
    assert config.build(["ppo.gin", "part.gin"]).experiment.seed == 0
    with pytest.raises(
        ConfigError, match=r"^a.gin:2: parts/base.gin was read before, .* ENV back from 'CheetahRun' \(ppo.gin:\d+\)"
    ):
        config.build(["a.gin"])


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(folder):
    (folder / "mine.gin").write_bytes(
        b"\xef\xbb\xbf# gorl-format: 1\r\ninclude 'ppo.gin'\r\nSEED = 5\r\nOnPolicy:\r\n  num_epochs = 3\r\n"
    )
    assert config.build(["mine.gin"]).experiment.seed == 5


def test_a_file_that_is_not_text_is_refused(folder):
    (folder / "mine.gin").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ConfigError, match="^mine.gin:1: this is not UTF-8 text"):
        config.build(["mine.gin"])


@pytest.mark.parametrize("character, shown", [("\x00", "\\\\x00"), ("\x1b", "\\\\x1b"), ("\u2028", "\\\\u2028")])
def test_a_control_character_is_named_and_not_repeated(character, shown, folder):
    (folder / "mine.gin").write_text(f"include 'ppo.gin'\nSEED = {character}5\n")
    with pytest.raises(
        ConfigError, match=f"^mine.gin:2: `SEED = {shown}5`: this line has the control character {shown}. Remove it.$"
    ):
        config.build(["mine.gin"])


def test_a_very_long_value_is_answered_at_once(folder):
    (folder / "mine.gin").write_text(f"include 'ppo.gin'\nENV = '{'x' * 50_000}'\n")
    with pytest.raises(ConfigError, match="the DM Control suite has no such task"):
        config.build(["mine.gin"])


def test_a_name_that_no_file_can_have_is_not_found(folder):
    for name in ("x" * 300 + ".gin", "a\x00b.gin"):
        with pytest.raises(ConfigError, match="there is no file 'x*a?"):
            config.build([name])


def test_plugins_come_from_the_environment_and_are_kept(folder, monkeypatch, own_registry):
    text = (
        "from __future__ import annotations\nimport gin, dataclasses\ngin.constant('plug.{0}', 0.125)\n"
        "@dataclasses.dataclass\nclass C:\n    x: int\n"
    )
    for name in ("one", "two"):
        (folder / f"{name}.py").write_text(text.format(name))
    monkeypatch.setenv("GORL_PLUGINS", "one.py")
    built = config.build(["ppo.gin"], ["Clip.epsilon = %plug.one", "OnPolicy.value_cost = %plug.two"], ["two.py"])
    two, one = built.source.plugins
    assert (two, one) == (str(folder / "two.py"), str(folder / "one.py"))
    phase = built.experiment.stages[0].phases[0]
    assert float(phase.algorithm.trust_region.epsilon) == 0.125 == float(phase.algorithm.value_cost)
    run = folder / "run"
    run.mkdir()
    built.save(run)
    first, second, *_ = (run / "config.gin").read_text().splitlines()
    copies = [f"--plugin THIS_FOLDER/inputs/plugins/{i}/{name}.py" for i, name in enumerate(("two", "one"))]
    assert first == "# gorl-format: 1" and second.endswith(f"gorl train THIS_FILE {' '.join(copies)}")
    (run / "config.gin").write_text("import one\n" + (run / "config.gin").read_text())
    with pytest.raises(ConfigError, match="^run/config.gin:1: a configuration imports gorl.registry and nothing else"):
        config.build(["run/config.gin"])


VALUES = [0, -3, 9_999, 10_000, 60_000_000, 0.5, -1e-9, 1e300, math.inf, -math.inf, True, False, None, "", "it's",
          'a "b"', "π\n\\", [], (), (1,),
          {}, [1, [2.5, "x"]], (1, (2, math.inf)), {"a": [1, math.inf], "b": {"c": None}}, {1: (True,)}]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_are_written_as_they_are_read(value):
    read = gin.config.parse_value(literal(value))
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    "value",
    [math.nan, object(), {1, 2}, [math.nan], {"a": object()}],
    ids=["nan", "object", "set", "nan in a list", "object in a dict"],
)
def test_values_without_a_gin_literal_are_refused(value):
    with pytest.raises(ConfigError, match="cannot be written in a configuration file"):
        literal(value)


def test_big_numbers_are_written_to_be_read():
    assert literal(60_000_000) == "60_000_000" and literal(9_999) == "9999" and literal(math.inf) == "1e999"


def test_a_configuration_as_text():
    table = {
        ("", "gorl.Clip"): {"epsilon": 0.5},
        ("stage0", "gorl.Clip"): {"epsilon": math.inf},
        ("SEED", tables.MACRO): {"value": 3},
        ("jax.nn.silu", tables.CONSTANT): {},
        ("policy", "optax.adam"): {"eps": 1e-8, "b1": 0.9},
        ("", "gorl.PriorLatents"): {},
    }
    expected = """\
SEED = 3

Clip:
  epsilon = 0.5

stage0/Clip:
  epsilon = 1e999

policy/optax.adam:
  b1 = 0.9
  eps = 1e-08
"""
    assert render_bindings(table) == expected


def test_long_lists_are_written_one_entry_a_line(folder):
    stages = ", ".join(f"@a_stage_with_a_long_name_{i}/Stage()" for i in range(5))
    built = config.read_source(["ppo.gin"], [f"Experiment.stages = [{stages}]"])
    assert built
    text = render_bindings(tables.bound())
    assert "  stages = [\n      @a_stage_with_a_long_name_0/Stage(),\n" in text
    (folder / "again.gin").write_text(text)
    config.read_source(["again.gin"])
    assert render_bindings(tables.bound()) == text


@pytest.mark.parametrize(
    "text, line",
    [
        ("a = [1,\n'#', ']',\n", 1),
        ("a = 1\n# it's (no) string\nb = (1\n", 3),
        ("a = '''x\ny'\n'''\nb = [\n'it\\'s'\n", 4),
        ('a = "x\nb = 1\n', 1),
        ("a = 1\nb = 2]\n", 2),
        ("a = [\n(1,\n2]\n", 2),
    ],
)
def test_the_first_bracket_or_quote_without_its_other_half(text, line):
    found = syntax.explain_syntax_error(text, 99, "")
    assert found[0] == line and "lose" in found[1]


def test_balanced_text_is_not_blamed():
    text = "a = ['[', \"'\", '\\'', '''(''']  # it's (\nb = {'a': (1,)}\n"
    assert syntax.explain_syntax_error(text, 2, "") == (2, syntax.explain_syntax_error("x", 1, "")[1])


def test_nothing_outside_this_package_touches_gins_inside():
    package = pathlib.Path(reader.__file__).parent
    inside = re.compile(r"gin\.config\b|from gin import config\b|gin\._")
    users = [p for p in package.parent.rglob("*.py") if inside.search(p.read_text())]
    assert users and all(p.parent == package for p in users)
