"""Every mistake gets one answer: where it was made, and how to write what was meant. The same on every Python."""

import inspect
import math

import gin
import jaxtyping
import pytest

from gorl import config, registry
from gorl.config import tables
from gorl.errors import ConfigError

# What only someone who knows gin's inside would understand.
JARGON = ("In call to configurable", "malformed node", "<ast", "Failed to parse", "gin.macro", "No configurable",
          "bindings string", "Got NAME", "Expected ", "selector", "denylist", "token", "<class", "Traceback", "0x",
          "EOF", "ExceptionProxy", "None: ")  # fmt: skip

OTHER_FILES = {
    "loop.gin": "include 'loop.gin'\n",
    "newer.gin": "# gorl-format: 2\nSEED = 1\n",
    "odd.gin": "# gorl-format: one\nSEED = 1\n",
    "broken.gin": "SEED = 1\nENV = FingerSpin\n",
}

# name: (text, parts of the answer...). The text is appended to a file that includes gorl_fm.gin, and given to --set.
MISTAKES = {
    # names
    "typo in a parameter": ("OnPolicy.lerning_rate = 1.0",
                            "OnPolicy has no parameter 'lerning_rate'. Did you mean learning_rate?"),
    "unknown parameter": ("Euler.zzz = 1", "Euler has no parameter 'zzz'. It has steps, grid."),
    "typo in a class": ("ImprovPolicy.env_steps = 1", "nothing is called 'ImprovPolicy'. Did you mean ImprovePolicy?"),
    "typo in a block": ("OnPolcy:\n  num_epochs = 3", "nothing is called 'OnPolcy'. Did you mean OnPolicy?"),
    "typo in a reference": ("FitDecoder.decoder = @FlowMatchDecoder",
                            "nothing is called 'FlowMatchDecoder'. Did you mean FlowMatchingDecoder?"),
    "scope written with a dot": ("stage0.OnPolicy.num_epochs = 3", "did you mean stage0/OnPolicy?"),
    "typo in a macro that is used": ("Experiment.seed = %SEEED", "%SEEED is not set. Did you mean %SEED"),
    "macro that nothing sets": ("OnPolicy.num_epochs = %XYZZY", "%XYZZY is not set. Write a line XYZZY = value."),
    "lower-case macro that is used": ("Experiment.seed = %seed", "%seed is not set. Did you mean %SEED"),
    "macro sign on a class": ("OnPolicy.trust_region = %Clip",
                              "%Clip is not set. A class or function is written with @: @Clip()."),
    "typo in a constant": ("ACTIVATION = %jax.nn.sillu", "%jax.nn.sillu is not set. Did you mean %jax.nn.silu"),
    "class sign on a constant": ("MLP.activation = @jax.nn.silu", "jax.nn.silu is a constant. Write %jax.nn.silu."),
    "typo in a macro that is set": ("SEEDS = 3", "nothing uses %SEEDS. Did you mean SEED?"),
    "forgotten dot": ("Phasesteps = 3", "Phasesteps has no dot", "UPPER_CASE",
                      "Write Thing.Phasesteps, or PHASESTEPS."),
    "forgotten dot in a known name": ("Clipepsilon = 0.3",
                                      "Clipepsilon has no dot between Thing and parameter. Did you mean Clip.epsilon?"),
    "slash for a dot": ("OnPolicy/num_epochs = 3", "Did you mean OnPolicy.num_epochs?"),
    "lower-case macro that is set": ("seed = 3", "macros are written in UPPER_CASE. Did you mean SEED?"),
    "macro in a scope": ("stage0/SEED = 3", "a macro has no scope",
                         "Bind what uses it: stage0/Thing.parameter = value."),
    "gin's own name": ("SEED/macro.value = 3", "a macro is set by its name alone: NAME = value."),
    "setting a constant": ("jax.nn.silu = 3", "jax.nn.silu is a constant, which no file can set. Choose another name."),
    "far too long a name": (f"{'A' * 201} = 3", "a name has at most 200 characters. Write a shorter one."),
    "far too deep a list": (f"SEED = {'[' * 60}{']' * 60}",
                            "lists are nested deeper than 50 levels. Take brackets out."),
    "macro of itself": ("SEED = %SEED", "SEED is defined in terms of itself (%SEED -> %SEED). Give it a value."),
    "runtime argument": ("MLP.key = 0", "MLP.key cannot be bound: the code passes it itself. It has width, depth,",
                         "Remove this binding."),
    "learning rate of the optimizer": ("optax.adam.learning_rate = 1e-3", "FitDecoder.learning_rate or ",
                                       "OnPolicy.learning_rate"),
    # scopes
    "typo in a scope": ("stge0/Clip.epsilon = 0.2",
                        "stge0/Clip.epsilon has no effect: nothing is built in scope 'stge0'. Did you mean stage0?"),
    "scope that is not there": ("stage7/Clip.epsilon = 0.2",
                                "nothing is built in scope 'stage7'. "
                                "This run has the scopes critic, decoder, policy, stage0,"),
    "scope in a scope": ("stage0/policy/MLP.width = 8", "@policy/MLP replaces the scope",
                         "Bind policy/MLP, or refer to @stage0/policy/MLP."),
    "stage of a scoped module": ("stage0/MLP.width = 8", "MLP is not built in scope 'stage0'", "@policy/MLP",
                                 "Refer to it as @stage0/MLP there."),
    "stage of a class without ()": ("stage0/Critic.normalizer = @ShrinkingNormalizer",
                                    "without () it is built later", "Refer to it as @stage0/Critic there."),
    # values
    "unquoted string": ("ENV = FingerSpin", "FingerSpin is not a value. A string needs quotes ('FingerSpin')"),
    "unquoted string with a dash": ("ENV = Finger-Spin", "A string needs quotes ('Finger-Spin')"),
    "missing @": ("FitDecoder.decoder = FlowMatchingDecoder",
                  "A class or function needs @ in front. Write @FlowMatchingDecoder."),
    "missing @ in a list": ("Experiment.stages = [Stage()]", "A class or function needs @ in front. Write @Stage()."),
    "missing %": ("MLP.activation = jax.nn.silu", "jax.nn.silu is a constant. Write %jax.nn.silu."),
    "missing % of a macro": ("Experiment.seed = SEED", "A macro needs % in front. Write %SEED."),
    "true": ("OnPolicy.normalize_advantage = true", "true is not a value. Write True."),
    "none": ("AimTracker.repo = none", "none is not a value. Write None."),
    "inf": ("OnPolicy.max_grad_norm = inf", "inf is not a value. Write 1e999."),
    "-inf": ("OnPolicy.max_grad_norm = -inf", "-inf is not a value. Write -1e999."),
    "nan": ("OnPolicy.max_grad_norm = nan", "nan is not a value: a file cannot write one."),
    "no value": ("SEED =", "there is no value after the =."),
    "shell variable": ("ENV = $HOME", "$HOME is not a value. A value is a number, a 'string', True,"),
    "typographic quotes": ("ENV = ‘CheetahRun’", "‘ is a typographic quote. Write a straight one: '."),
    "commas in a number": ("STAGE_STEPS = 1,000,000", "1,000,000 is not a number. Write 1_000_000"),
    "unit behind a number": ("STAGE_STEPS = 30M", "30M is not a number. Numbers are written 1000, 1_000,"),
    "leading zeros": ("SEED = 007", "007 is not a number."),
    "decimal comma": ("Clip.epsilon = 0,001", "A decimal point is a dot: write 0.001."),
    "decimal comma and exponent": ("Clip.epsilon = 2,5e-1", "A decimal point is a dot: write 2.5e-1."),
    "invisible character": ("ENV = 'Cheetah\u200bRun'", "the invisible character \\u200b"),
    "space that is none": ("SEED\u00a0= 3", "the invisible character \\xa0", "or write a space."),
    "list for a number": ("Clip.epsilon = [0.1]", "Clip.epsilon = [0.1], but it must be of type float."),
    "list for a number in a macro": ("STAGE_CLIP = [0.1]", "STAGE_CLIP = [0.1], but it is the value of Clip.epsilon"),
    "optimizer for a schedule": ("OnPolicy.learning_rate = @optax.adam()", "must be of type float | Schedule",
                                 "@optax.linear_schedule()"),
    "rate beyond 32 bits": ("FitDecoder.learning_rate = 1e-45", "but the programs' 32-bit floats reach from 1e-38"),
    "number that optax does not take": ("policy/optax.adam.b1 = 1.5", "it must be in [0, 1)."),
    "list inside optax": ("decoder/optax.adam.eps = [1e-8]", "but it must be of type float."),
    "class for an activation": ("ACTIVATION = @Clip", "MLP.activation = Clip is no activation",
                                "such as %jax.nn.silu."),
    "arithmetic": ("OnPolicy.learning_rate = 1e-3 * 2", "gin has no arithmetic", "Write the number itself"),
    "list repetition": ("Stage.phases = [@ImprovePolicy()] * 3",
                        "cannot repeat lists. Write the number itself, or the whole list."),
    "arguments in parentheses": ("OnPolicy.trust_region = @Clip(0.2)",
                                 "Write @Thing(), and bind Thing.parameter in a line of its own."),
    # syntax
    "unclosed string": ("ENV = 'CheetahRun", "a string begins with ' and never ends. Close it with '."),
    "unclosed bracket": ("Experiment.stages = [@stage0/Stage(), @stage1/Stage()",
                         "'[' is opened and never closed. Close it with ']'."),
    "unclosed bracket, more lines": ("Experiment.stages = [@stage0/Stage()\nSEED = 3",
                                     "'[' is opened and never closed. Close it with ']'."),
    "wrong bracket": ("Experiment.stages = [@stage0/Stage())",
                      "'[' is never closed: ')' comes first. Close it with ']'."),
    "unopened bracket": ("Experiment.stages = @stage0/Stage()]",
                         "']' closes nothing: remove it, or open the list with '['."),
    "missing comma": ("OnPolicy.regularizers = [@EntropyBonus() @LatentKL()]",
                      "a comma is missing between two entries."),
    "two values": ("SEED = 3 4", "something follows the value. Write one binding a line"),
    "two equals signs": ("SEED == 3", "a binding is written with one =, not two."),
    "no equals sign": ("OnPolicy.num_epochs 3", "this line cannot be read. A line reads `Thing.parameter = value`"),
    "colon for equals": ("OnPolicy.num_epochs: 3", "a binding is written with =, not with a colon."),
    "@ on the left": ("@OnPolicy.num_epochs = 3", "remove the @ or % before the name"),
    "space in a name": ("OnPolicy .num_epochs = 3", "a name has no spaces"),
    "include without quotes": ("include parts/debug.gin", "the file's name needs quotes: include 'file.gin'."),
    "too much indent": ("OnPolicy:\n  num_epochs = 3\n    batch_size = 4", 2, "indent every line alike"),
    "too little indent": ("OnPolicy:\n    num_epochs = 3\n  batch_size = 4", 2, "indent every line alike"),
    "no indent": ("OnPolicy:\nnum_epochs = 3", 1, "indent every line alike"),
    "tab": ("OnPolicy:\n\tnum_epochs = 3", 1, "this line is indented with a tab. Indent with spaces."),
    "typo inside a block": ("OnPolicy:\n  num_epochs = 3\n  trust_region = @Clp()", 2,
                            "nothing is called 'Clp'. Did you mean Clip?"),
    "typo inside a list of lines": ("Stage.phases = [\n    @ImprovePolicy(),\n    @Evalute()]", 2,
                                    "Did you mean Evaluate?"),
    # types
    "1e6 for an int": ("OnPolicy.num_epochs = 1e6",
                       "OnPolicy.num_epochs = 1000000.0, but it must be of type int. Write 1_000_000."),
    "1e6 for an int by a macro": ("STAGE_STEPS = 1e6", "STAGE_STEPS = 1000000.0",
                                  "the value of ImprovePolicy.env_steps", "type int. Write 1_000_000."),
    "half for an int": ("OnPolicy.num_epochs = 1.5", "must be of type int."),
    "string for a number": ("Clip.epsilon = '0.1'",
                            "Clip.epsilon = '0.1', but it must be of type float. Write it without quotes: 0.1."),
    "number for a string": ("ENV = 3", "ENV = 3", "PlaygroundEnvironment.name, which must be of type str. Write '3'."),
    "number for a bool": ("OnPolicy.normalize_advantage = 1", "must be of type bool. Write True."),
    "string for a bool": ("OnPolicy.normalize_advantage = 'True'", "must be of type bool. Write it without quotes."),
    "None for a number": ("OnPolicy.max_grad_norm = None", "must be of type float.", "'off' is written 0, or 1e999"),
    "string for a class": ("OnPolicy.trust_region = 'Clip'", "must be of type AbstractTrustRegion. Write @Clip()."),
    "string for a function": ("MLP.activation = 'silu'", "Write %jax.nn.silu."),
    "None for a list": ("Experiment.trackers = None", "must be of type list of AbstractTracker. Write [] for none."),
    "one for a list": ("OnPolicy.regularizers = @EntropyBonus()", "Write it in brackets: [@EntropyBonus()]."),
    "another class": ("Stage.phases = [@Clip()]",
                      "Stage.phases[0] = @Clip(), but it must be of type AbstractPhase. "
                      "It takes @AbsorbEncoder() or @CollectRollouts() or"),
    "forgotten ()": ("OnPolicy.trust_region = @Clip", "OnPolicy.trust_region = @Clip",
                     "Did you forget '()'? Write @Clip()."),
    "forgotten () in a list": ("stage1/Stage.phases = [@ImprovePolicy(), @Evaluate]",
                               "stage1/Stage.phases[1] = @Evaluate", "Write @Evaluate()."),
    "forgotten () of optax": ("OnPolicy.optimizer = @optax.adam", "Did you forget '()'? Write @optax.adam()."),
    "superfluous ()": ("FitDecoder.decoder = @FlowMatchingDecoder()", "Write it without (): @FlowMatchingDecoder."),
    "superfluous () of a module": ("Critic.body = @critic/MLP()", "is built too early",
                                   "Write it without (): @critic/MLP."),
    "not a decoder": ("FitDecoder.decoder = @decoder/MLP", "FitDecoder.decoder builds MLP, which is not a decoder."),
    # what is missing
    "required": ("ENV = %gin.REQUIRED",
                 'ENV is required, and nothing sets it. Set it in your file, or with --set "ENV = ...".'),
    "required in a list": ("Experiment.stages = [%gin.REQUIRED]",
                           "Experiment.stages still has %gin.REQUIRED in it. Set it"),
    "missing argument": ("GaussianPolicy.body = @MLP", "@MLP needs width, depth, and nothing binds them.",
                         "or @decoder/MLP or @policy/MLP?"),
    "typo in a reference's scope": ("GaussianPolicy.body = @plicy/MLP", "Did you mean @policy/MLP?"),
    "missing argument of optax": ("OnPolicy.learning_rate = @optax.linear_schedule()",
                                  "needs init_value, end_value, transition_steps"),
    "missing include": ("include 'parts/gorll.gin'", "there is no file 'parts/gorll.gin'. Did you mean parts/gorl.gin?",
                        "Looked in: "),
    # what the code refuses
    "unknown choice": ("ImprovePolicy.hand_on = 'bset'", "it is 'best' or 'last'. Did you mean best?"),
    "unknown environment": ("ENV = 'CheetaRun'", "the DM Control suite has no such task. Did you mean CheetahRun?"),
    "number out of range": ("Clip.epsilon = 0", "Clip.epsilon = 0", ": it must be > 0."),
    "number out of range, seen late": ("OnPolicy.discount = 1.5", "OnPolicy.discount = 1.5", ": it must be in [0, 1]."),
    "number out of range in one stage": ("stage1/OnPolicy.discount = 1.5", "OnPolicy.discount = 1.5",
                                         ": it must be in [0, 1]."),
    "numbers that do not fit": ("OnPolicy.num_envs = 3000", "Make num_envs a divisor of",
                                "OnPolicy.batch_size is set at parts/base.gin:"),
    "built of itself": ("MLP.activation = @MLP()", "builds something out of itself", "MLP.activation = @MLP()",
                        "Change one"),
    # files
    "import of anything": ("import os", "imports gorl.registry and nothing else, so remove this import of os.",
                           "--plugin os"),
    "import of a part of gorl": ("import gorl.networks", "imports gorl.registry and nothing else"),
    "import from": ("from os import path", "remove this import of os.path"),
    "dynamic registration": ("from __gin__ import dynamic_registration", "imports gorl.registry and nothing else"),
    "bound twice": ("Clip.epsilon = 0.1\nClip.epsilon = 0.3", 1, "Clip.epsilon is bound twice", "Remove one."),
    "bound twice, once in a block": ("Clip.epsilon = 0.1\nClip:\n  epsilon = 0.3", 2, "Clip.epsilon is bound twice",
                                     "Remove one."),
    "include below": ("ENV = 'FishSwim'\ninclude 'gorl_fm.gin'", 1, "this include comes after ENV is bound",
                      "Put includes first."),
}  # fmt: skip

# The same, but the answer names the line of another file too.
MISTAKES_ELSEWHERE = {
    "include cycle": (
        "include 'loop.gin'",
        "loop.gin:1: loop.gin includes itself: loop.gin -> loop.gin. Remove one of these includes.",
    ),
    "newer format": (
        "include 'newer.gin'",
        "newer.gin:1: this file has format 2, and gorl ",
        "reads format 1. Install a newer gorl: pip install -U gorl.",
    ),
    "unknown format": ("include 'odd.gin'", "odd.gin:1: this file has format one", "Write 1."),
    "mistake in an included file": (
        "include 'broken.gin'",
        "broken.gin:2: `ENV = FingerSpin`: FingerSpin is not a value.",
    ),
    "second runnable file": (
        "include 'ppo.gin'",
        "ppo.gin:3: parts/base.gin was read before",
        "would set ENV back from 'CheetahRun' (gorl_fm.gin:",
        "Remove",
    ),
}

# What a file may say (a note tells), but who types it means it.
USELESS = {
    "part not in this run": ("ReturnWeighted.max_weight = 0.1", "ReturnWeighted is not part of this run",
                             "as in FitDecoder.selection = @ReturnWeighted()"),
    "shadowed by a scope": ("MLP.width = 9", "overridden everywhere by more specific bindings",
                            "Change those: critic/MLP.width (parts/base.gin:", "policy/MLP.width (parts/gaussian.gin:"),
    "phase not in this stage": ("stage0/FitDecoder.draws = 3", "FitDecoder is not built in scope 'stage0'",
                                "Nothing in stage0 refers to it."),
    "macro that nothing uses": ("XYZZY = 3", "nothing uses %XYZZY", "Remove this line, or use the macro."),
}  # fmt: skip


@pytest.fixture(autouse=True)
def as_the_user_sees_it():
    """Without the run-time type checks of the tests, which would answer some mistakes first, in their own words."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with some more files."""
    for name, text in OTHER_FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(how, text, folder, plugins=()):
    if how == "file":
        (folder / "main.gin").write_text(f"# gorl-format: 1\ninclude 'gorl_fm.gin'\n\n{text}\n")
        return config.build(["main.gin"], plugins=plugins)
    return config.build(["gorl_fm.gin"], [text], plugins)


def answer(how, text, folder, plugins=()):
    with pytest.raises(Exception) as err:
        read(how, text, folder, plugins)
    message = str(err.value)
    assert type(err.value) is ConfigError, repr(err.value)
    assert not [word for word in JARGON if word in message], message
    assert message[-1] in ".?)", message
    return message


@pytest.mark.parametrize("how", ["file", "command line"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_answered(mistake, how, folder):
    text, *parts = MISTAKES[mistake]
    line = 4 + (parts.pop(0) if isinstance(parts[0], int) else 0)
    message = answer(how, text, folder)
    where = f"main.gin:{line}" if how == "file" else f"command line `{text}`"
    assert message.startswith(f"{where}: ") or (
        where in message and ("is set at" in message or "builds something" in message)
    ), message
    assert all(part in message for part in parts), message


@pytest.mark.parametrize("how", ["file", "command line"])
@pytest.mark.parametrize("mistake", MISTAKES_ELSEWHERE)
def test_mistakes_in_other_files_are_answered(mistake, how, folder):
    text, *parts = MISTAKES_ELSEWHERE[mistake]
    message = answer(how, text, folder)
    assert how == "file" or message.startswith(f"command line `{text}`: ")
    assert all(part in message for part in parts), message


@pytest.mark.parametrize("mistake", USELESS)
def test_a_binding_without_effect_is_a_note_in_a_file_and_an_error_on_the_command_line(mistake, folder):
    text, what, *fix = USELESS[mistake]
    assert f"main.gin:4: {what}." in read("file", text, folder).notes
    message = answer("command line", text, folder)
    assert message.startswith(f"command line `{text}`: ")
    assert all(part in message for part in (what, *fix)), message


def test_an_ablation_may_leave_out_stages_and_their_bindings(folder):
    built = config.build(["gorl_fm.gin"], ["Experiment.stages = [@stage0/Stage()]"])
    assert len(built.experiment.stages) == 1
    assert not built.notes  # of shipped files there are none
    built.save(folder)  # in one flat file, what the ablation left out could not be told from a mistake
    for saved in ("config.gin", "operative_config.gin"):
        again = config.build([saved])
        assert again.operative == built.operative and not again.notes


def test_a_file_cannot_include_itself(folder):
    message = answer("file", "include 'main.gin'", folder)
    assert message == "main.gin:4: main.gin includes itself: main.gin -> main.gin. Remove one of these includes."


def test_every_missing_value_is_named_at_once(folder):
    with pytest.raises(ConfigError) as err:
        config.build(["parts/base.gin"])
    heading, *lines = str(err.value).splitlines()
    assert heading == "2 values are missing:"
    assert [line.split(": ")[1].split()[0] for line in lines] == ["ENV", "Experiment.stages"]
    assert all(line.startswith("  parts/base.gin:") for line in lines)


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (([],), ("no configuration file was named", "`gorl list configs`")),
        ((["gorl_fm"],), ("there is no file 'gorl_fm'. Did you mean gorl_fm.gin?",)),
        ((["gorl_fm.gin", "ENV='FishSwim'"],), ("is a binding, not a file. Write --set in front",)),
        ((["gorl_fm.gin"], [""]), ("--set is empty", '--set "SEED = 3"')),
        (
            (["gorl_fm.gin"], ["SEED = 1", "SEED = 2"]),
            ("SEED is bound twice on the command line, first at command line `SEED = 1`. Remove one.",),
        ),
        (
            (["gorl_fm.gin"], ["ENV = 'FishSwim'", "include 'gorl_fm.gin'"]),
            ("this include comes after ENV is bound", "Put includes first."),
        ),
        (
            (["gorl_fm.gin", "ppo.gin"],),
            ("parts/base.gin was read before", "name only one of the files that include it"),
        ),
        (
            (["gorl_fm.gin"], ["ENV = FishSwim"]),
            ("In a shell, put double quotes around the whole: --set \"NAME = 'value'\".",),
        ),
        (
            (["gorl_fm.gin"], [], ["no_such_module"]),
            ("--plugin no_such_module: No module named 'no_such_module'.", "or the path of a .py file."),
        ),
        ((["gorl_fm.gin"], [], ["no_such_file.py"]), ("--plugin no_such_file.py: there is no such file.",)),
    ],
)
def test_mistakes_in_the_command(arguments, parts, folder):
    with pytest.raises(ConfigError) as err:
        config.build(*arguments)
    assert all(part in str(err.value) for part in parts), str(err.value)


PLUGIN = """
import gin
from gorl.objectives.trust_region import AbstractTrustRegion

class Region(AbstractTrustRegion):
    def objective(self, log_ratio, advantage):
        return log_ratio
    def outside(self, log_ratio):
        return log_ratio > 0

@gin.register(module="mine")
class Picky(Region):
    size: int
    def __check_init__(self):
        if self.size % 2 == 0:
            raise ValueError("the size must be odd")

@gin.register(module="mine")
class Broken(Region):
    def __check_init__(self):
        {}["nothing"]
"""
NAMESAKE = """
import gin
from gorl.objectives.trust_region import Clip as Base

@gin.register(module="mine")
class Clip:
    pass
"""


@pytest.mark.parametrize("how", ["file", "command line"])
@pytest.mark.parametrize(
    "text, line, parts",
    [
        ("OnPolicy.trust_region = @Picky()\nPicky.size = 4", 5, ["mine.Picky cannot be built: the size must be odd."]),
        (
            "OnPolicy.trust_region = @Picky()",
            4,
            ["@Picky() needs size, and nothing binds it. Write Picky.size = ..., in a file or with --set."],
        ),
        (
            "OnPolicy.trust_region = @Picky()\nPicky.size = 5.0",
            5,
            ["mine.Picky.size = 5.0, but it must be of type int. Write 5."],
        ),
        ("OnPolicy.trust_region = @Broken()", 4, ["mine.Broken cannot be built: KeyError: 'nothing'."]),
    ],
)
def test_a_constructor_that_raises_is_located(how, text, line, parts, folder, own_registry):
    (folder / "mine.py").write_text(PLUGIN)
    message = answer(how, text, folder, ["mine.py"])
    assert (f"main.gin:{line}" if how == "file" else f"command line `{text}`") in message
    assert all(part in message for part in parts), message


@pytest.mark.parametrize("how", ["file", "command line"])
def test_an_ambiguous_name_is_answered(how, folder, own_registry):
    (folder / "namesake.py").write_text(NAMESAKE)
    message = answer(how, "stage2/Clip.epsilon = 0.3", folder, ["namesake.py"])
    assert "parts/base.gin:" in message  # the first to say Clip
    assert (
        "Clip may be gorl.Clip or mine.Clip. Write one of these; or if one is yours, give it another name." in message
    )


def test_a_plugin_that_fails_says_where(folder, own_registry):
    (folder / "bad.py").write_text("import gin\nx = undefined_name\n")
    with pytest.raises(
        ConfigError,
        match=r"--plugin bad.py fails to import: NameError: name 'undefined_name' is not defined \(.*bad.py:2\)",
    ):
        config.build(["ppo.gin"], plugins=["bad.py"])


def test_no_configurable_swallows_names():
    """With **kwargs a typo would be an argument; *args and positional-only parameters cannot be bound."""
    assert registry
    for selector, target in tables.registered().items():
        kinds = {p.kind for p in inspect.signature(target).parameters.values()}
        assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}, selector
        gin.clear_config()
        with pytest.raises(ValueError, match="doesn't have a parameter named"):
            gin.bind_parameter(f"{selector}.no_such_parameter", 1)


def test_gorl_has_no_numbers_of_its_own():
    """A number that a paper's table would list lives in a gin file and nowhere else."""
    for selector, target in tables.registered().items():
        if selector.startswith("gorl."):
            numbers = [
                name
                for name, p in inspect.signature(target).parameters.items()
                if isinstance(p.default, (int, float))
                and not isinstance(p.default, bool)
                and math.isfinite(p.default)  # a bound that is off
            ]
            assert not numbers, f"{selector}: {numbers}"
