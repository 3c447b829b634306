"""`gorl check` and `gorl list`: what they show is right, and words that are nearly right are answered."""

import inspect
import re
import shlex

import pytest

from gorl import config
from gorl.config import catalog, files, tables
from gorl.environments.names import brax_names, dm_control_names
from gorl.errors import ConfigError
from tests.support.commands import gorl, python


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


DEBUG = ["gorl_fm.gin", "parts/debug.gin"]


def test_both_spellings_are_the_same():
    ours = gorl("check", *DEBUG, "--set", "SEED = 3", "--set", "ENV = 'FishSwim'")
    gins = gorl(
        "check",
        "--gin_files",
        DEBUG[0],
        "--gin_files=parts/debug.gin",
        "--gin_bindings",
        "SEED = 3",
        "--gin_bindings=ENV = 'FishSwim'",
    )
    assert (
        ours == gins
        and "seed 3" in ours
        and ours.startswith("gorl_fm.gin parts/debug.gin: FishSwim (mujoco_playground, auto)")
    )


def test_a_check_shows_stages_phases_and_budgets():
    experiment = config.build(DEBUG).experiment
    lines = gorl("check", *DEBUG).splitlines()
    first, last = lines.index("-" * len(lines[2])), lines.index("-" * len(lines[2]), 4)
    rows = [re.split(r"\s{2,}", line) for line in lines[first + 1 : last]]
    assert [(int(r[0]), r[1]) for r in rows] == [(s.stage, s.name) for s in experiment.planned_phases()]
    for row, step in zip(rows, experiment.planned_phases()):
        units = experiment.units(step)
        assert row[3:] == [f"{sum(u.env_steps for u in units):,}", f"{sum(u.eval_steps for u in units):,}"]
        counts = {u.name: sum(v.name == u.name for v in units) for u in units}
        assert row[2].split(", ") == [f"{n} {name}" if n > 1 else name for name, n in sorted(counts.items())]
    total = re.split(r"\s{2,}", lines[last + 1].strip())
    assert total[:2] == ["total", f"{experiment.env_steps():,}"]


def test_a_check_says_how_budgets_are_rounded_up():
    text = gorl("check", "gorl_fm.gin")
    assert "ImprovePolicy.env_steps = 60_000_000 becomes 60_948_480: whole units only." in text
    assert text.count("becomes") == 2
    assert "becomes" not in gorl("check", "ppo.gin", "--set", f"TOTAL_STEPS = {32 * 1024 * 30}")


def test_a_check_says_that_adaptive_stages_take_at_most_their_steps():
    lines = gorl("check", *DEBUG, "controls/adaptive_stages.gin", "--set", "TOTAL_STEPS = 4000").splitlines()
    table = [re.split(r"\s{2,}", line.strip()) for line in lines]
    assert ["0", "ImprovePolicy", "at most 18 evaluate, 17 iterate", "4,080", "3,600"] in table
    assert ["at most", "4,000"] == next(row for row in table if row[0] == "at most")[:2]
    assert "Experiment.budget = 4_000 limits all stages together, which declare 44_400." in lines
    assert any(line.startswith("a rule (ImprovePolicy.end) may end phases early") for line in lines)
    assert "at most" not in gorl("check", *DEBUG)


def test_a_check_shows_each_change_of_a_file_and_of_the_command_line(folder):
    (folder / "mine.gin").write_text(
        "include 'gorl_fm.gin'\nENV = 'FishSwim'\nSEED = 0\nNUM_ENVS = 64\nstage2/Clip.epsilon = 0.125\nXYZZY = 1\n"
    )
    lines = gorl("check", "mine.gin", "parts/debug.gin", "--set", "SEED = 3").splitlines()
    heads = [line for line in lines if "changes" in line]
    assert heads == ["mine.gin changes gorl_fm.gin:", "parts/debug.gin changes mine.gin:", "--set changes:"]
    parts = [re.split(r"\s{3,}", line.strip()) for line in lines[lines.index(heads[0]) + 1 : lines.index(heads[1])]]
    assert [p[0] for p in parts] == [
        "ENV = 'FishSwim'",
        "NUM_ENVS = 64",
        "stage2/Clip.epsilon = 0.125",
        "XYZZY = 1",
    ]  # SEED = 0 changes nothing
    assert re.fullmatch(r"was 'CheetahRun' \(gorl_fm.gin:\d+\)", parts[0][1])
    assert re.fullmatch(r"was 2048 \(parts/base.gin:\d+\)", parts[1][1])
    assert re.fullmatch(r"elsewhere %STAGE_CLIP \(Clip.epsilon, parts/gorl.gin:\d+\)", parts[2][1])
    assert re.fullmatch(r"  SEED = 3   was 0 \(mine.gin:3\)", lines[lines.index(heads[2]) + 1])
    assert "note: mine.gin:6: nothing uses %XYZZY." in lines


def test_a_saved_configuration_changes_nothing(folder):
    config.build(["gorl_fm.gin"]).save(folder)
    text = gorl("check", "config.gin")
    assert "changes" not in text and "184,381,440" in text


def test_a_check_ends_with_a_command_that_runs(folder):
    bindings = ["ENV = 'FishSwim'", "SEED = 3", "AimTracker.repo = '$HOME'"]
    last = gorl("check", "ppo.gin", *(w for b in bindings for w in ("--set", b))).splitlines()[-1]
    words = shlex.split(last.partition(": ")[2])
    assert words == ["gorl", "train", "ppo.gin", *(w for b in bindings for w in ("--set", b))]
    assert '''--set "ENV = 'FishSwim'"''' in last  # readable where it can be


def test_every_configuration_is_listed_with_its_title(folder, monkeypatch):
    (folder / "mine.gin").write_text("# gorl-format: 1\n# My own study.\ninclude 'ppo.gin'\n")
    more = folder / "more"
    more.mkdir()
    (more / "theirs.gin").write_text("# Their study.\ninclude 'ppo.gin'\n")
    monkeypatch.setenv("GORL_CONFIG_PATH", str(more))
    lines = gorl("list", "configs").splitlines()
    titles = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines if line.startswith("  "))
    assert titles["mine.gin"] == "My own study." and titles["theirs.gin"] == "Their study."
    assert set(titles) == {"mine.gin", "theirs.gin", *config.runnable_files(files.shipped())}
    assert all(len(title) > 20 for name, title in titles.items() if name not in ("mine.gin", "theirs.gin"))
    assert [line[:-1] for line in lines if line.endswith(":")] == [str(folder), str(more), str(files.shipped())]
    assert "  mine.gin" not in gorl("list", "configs", "ppo") and "  ppo.gin" in gorl("list", "configs", "PPO")
    with pytest.raises(ConfigError, match="no configuration has 'gorlfm' in its name. Did you mean gorl_fm.gin?"):
        gorl("list", "configs", "gorlfm")


def test_a_part_of_a_name_lists_files_that_are_appended_too():
    text = gorl("list", "configs", "controls")
    assert "controls/exact_swap.gin" in text and "quickstart.gin" not in text


def test_every_environment_is_listed():
    text = gorl("list", "environments")
    assert {*dm_control_names(), *brax_names(), "@MJCFEnvironment()", "@Slider()"} <= set(text.split())
    for part in re.findall(r"parts/\w+\.gin", text):
        assert (files.shipped() / part).is_file()
    assert gorl("list", "environments", "spin").split()[-1] == "FingerSpin"
    with pytest.raises(ConfigError, match="Did you mean CheetahRun"):
        gorl("list", "environments", "CheetaRun")


def test_every_name_is_listed_with_its_documentation():
    text = gorl("list", "bindings")
    rows = [re.split(r"\s{2,}", line, maxsplit=1) for line in text.splitlines()]
    listed = {row[0]: row[1] for row in rows if len(row) == 2 and row[0]}
    assert set(tables.configurable_names()) <= set(listed)
    undocumented = [
        name for name in tables.configurable_names() if len(listed[name]) < 10 and name != "IdentityDecoder"
    ]
    assert not undocumented
    assert "%jax.nn.silu" in text and "%jax.nn.initializers.lecun_uniform" in text


def test_types_read_as_one_writes_them():
    assert catalog.names()
    for selector, target in tables.registered().items():
        entry = catalog.entry(selector)
        assert [p.name for p in entry.parameters] == list(tables.bindable_parameters(selector))
        assert entry.doc == "" or entry.doc in inspect.getdoc(target)
        for p in entry.parameters:
            assert not re.search(r"Array|ndarray|numpy|jaxtyping|typing|collections|<|\bgorl\.|Factory", p.kind), (
                f"{entry.name}.{p.name}: {p.kind}"
            )
            # Run folders from before there were any must still be read.
            later = (
                "Experiment.pictures",
                "Experiment.devices",
                "PlaygroundEnvironment.threads",
                "FitDecoder.micro_batch_size",
                "FitDecoder.anneal",
                "AveragedRatio.clip",
                "SAC.space",
                "ImprovePolicy.end",
                "Experiment.budget",
                "OnPolicy.grad_norm_unit",
                "CollectRollouts.store_noise",
                "Evaluate.other_rules",
            )
            older = f"{entry.name}.{p.name}" in later
            assert selector.startswith("optax.") or older or p.default is None, (
                f"{entry.name}.{p.name} has a default in Python"
            )


@pytest.mark.parametrize(
    "name, kinds",
    [
        (
            "OnPolicy",
            {
                "max_grad_norm": "float",
                "num_envs": "int",
                "policy": "class (no parentheses)",
                "regularizers": "list of AbstractRegularizer",
            },
        ),
        ("ImprovePolicy", {"evaluation_interval": "int", "hand_on": "str", "algorithm": "AbstractAlgorithm"}),
        ("PlaygroundEnvironment", {"name": "str", "obs_key": "str | None"}),
        ("MLP", {"width": "int", "activation": "function or class (no parentheses)"}),
        ("MJCFEnvironment", {"terminated": "function or class (no parentheses) | None"}),
        ("optax.adam", {"b1": "float = 0.9", "nesterov": "bool = False"}),
    ],
)
def test_one_class_in_full(name, kinds):
    text = gorl("list", "bindings", name)
    for parameter, kind in kinds.items():
        assert re.search(rf"^  {name}\.{parameter} +{re.escape(kind)}$", text, re.MULTILINE), text


def test_choices_and_documentation_are_shown():
    text = gorl("list", "bindings", "OnPolicy")
    assert "OnPolicy.trust_region" in text and "one of @ASPO(), @Clip(), @SPO()" in " ".join(text.split())
    assert "@EntropyBonus(), @LatentKL(), @LatentL2(), @SquashedEntropyBonus()" in text
    assert "`reward_scale` multiplies rewards for learning only" in text
    adam = gorl("list", "bindings", "adam")
    assert adam.startswith("optax.adam\n\nThe Adam optimizer.\n")
    assert "Exponential decay rate to track the second moment of past gradients." in adam
    assert ".. math" not in adam and "learning_rate" not in adam
    assert gorl("list", "bindings", "gorl.MLP") == gorl("list", "bindings", "@MLP()") == gorl("list", "bindings", "MLP")
    assert "It has no parameters to bind." in gorl("list", "bindings", "PriorLatents")


def test_a_plugin_is_listed(folder, own_registry):
    (folder / "mine.py").write_text(
        "import gin\nfrom gorl.environments.toy import Slider\nfrom gorl.fields import hyperparameter, Scalar\n"
        "@gin.register(module='mine')\nclass Tilted(Slider.__base__):\n"
        "    '''A tilted line.'''\n    angle: Scalar = hyperparameter()\n"
    )
    assert re.search(r"^mine.Tilted +A tilted line.$", gorl("list", "bindings", "--plugin", "mine.py"), re.MULTILINE)
    assert "mine.Tilted.angle  float" in gorl("list", "bindings", "Tilted", "--plugin", "mine.py")
    assert "@mine.Tilted()" in gorl("list", "environments", "--plugin", "mine.py")


@pytest.mark.parametrize(
    "words, answer",
    [
        (["list", "bindngs"], "it lists environments, configs, bindings. Did you mean bindings?"),
        (["list", "bindings", "OnPolcy"], "nothing is called 'OnPolcy'. Did you mean OnPolicy?"),
        (
            ["gorl_fm.gin", "--set", "SEED = 3"],
            "gorl_fm.gin is a file, not a command. Did you mean gorl train gorl_fm.gin --set 'SEED = 3', or gorl check",
        ),
        (["check", "SEED=3"], "'SEED=3' is a binding, not a file. Write --set in front: --set 'SEED=3'."),
        (["check"], "no configuration file was named. `gorl list configs` shows the shipped ones."),
    ],
)
def test_words_that_are_nearly_right(words, answer):
    with pytest.raises(ConfigError) as err:
        gorl(*words)
    assert answer in str(err.value)


@pytest.mark.parametrize(
    "words, answer", [(["trian"], "Did you mean 'train'"), (["check", "ppo.gin", "--sett", "x"], "--set")]
)
def test_commands_and_options_that_are_nearly_right(words, answer):
    assert answer in gorl(*words, code=2)


def test_the_program_prints_one_message_and_fails(tmp_path):
    """From any directory; no traceback."""
    done = python("-m", "gorl.cli.main", "check", "gorl_fm.gin", "--set", "SEEDS = 3", cwd=tmp_path, code=2)
    assert done.stdout == ""
    assert done.stderr == "gorl: command line `SEEDS = 3`: nothing uses %SEEDS. Did you mean SEED?\n"
