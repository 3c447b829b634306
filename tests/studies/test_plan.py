"""What a study file means, and what is wrong with one, before anything runs."""

import pytest

from gorl.errors import ConfigError
from gorl.studies.plan import make_plan
from tests.support.toy_study import write


def plan(tmp_path, study, *bindings):
    return make_plan([str(write(tmp_path, study))], bindings)


def test_variants_and_grid_multiply(tmp_path):
    found = plan(
        tmp_path,
        """
        Study.variants = {'sound': [], 'defect': ['controls/shrinking_normalizer.gin', "Experiment.precision = 'high'"]}
        Study.grid = {
          'stage1/Clip.epsilon': [0.1, 0.3], 'OnPolicy.trust_region': [@Clip(), @SPO()], 'SPO.epsilon': [0.2]}
        Study.seeds = 3
        SEED = 5
        """.replace("\n        ", "\n"),
        "Study.grid = {'STAGE_KL': [0.0, 1e-2], 'EPISODE_LENGTH': [20, 25]}",
    )
    assert [v.name for v in found.variants] == [
        f"{name},STAGE_KL={kl},EPISODE_LENGTH={n}"
        for name in ("sound", "defect")
        for kl in ("0.0", "0.01")
        for n in (20, 25)
    ]
    assert found.variants[-1].axes == {"name": "defect", "STAGE_KL": "0.01", "EPISODE_LENGTH": "25"}
    assert found.variants[-1].folder == "defect,STAGE_KL=0.01,EPISODE_LENGTH=25"
    experiment = found.variants[-1].configuration.experiment
    assert (experiment.task.episode_length, experiment.precision) == (25, "high")
    assert found.seeds == (5, 6, 7)
    assert found.variants[0].seed_bindings == ["SEED = {first}", "NUM_SEEDS = {count}"]
    assert found.name == "toy"


@pytest.mark.parametrize(
    "study, bindings, message",
    [
        ("Study.grid = {'SEED': [0, 1]}", [], "variant 'SEED=1' sets a seed, which has no effect"),
        ("Study.grid = {'Experiment.seed': [3]}", [], "variant 'seed=3' sets a seed"),
        ("Study.variants = {'a': ['NUM_SEEDS = 2']}", [], "variant 'a' sets a seed"),
        ("NUM_SEEDS = 3", [], "toy.gin:[0-9]+: 3 seeds have no effect in a study. Study.seeds alone"),
        ("", ["Experiment.num_seeds = 3"], "command line .*: 3 seeds have no effect"),
        (
            "Study.seeds = [1, 2]\nSEED = 5",
            [],
            "toy.gin:[0-9]+: this seed has no effect, since .*Study.seeds is a list",
        ),
    ],
)
def test_a_seed_that_would_be_replaced_is_refused(tmp_path, study, bindings, message):
    with pytest.raises(ConfigError, match=message):
        plan(tmp_path, study, *bindings)


def test_values_of_a_grid_may_be_references_and_strings(tmp_path):
    found = plan(
        tmp_path,
        "Study.grid = {'OnPolicy.trust_region': [@Clip(), @SPO()], 'stage1/ImprovePolicy.hand_on': ['best', 'last']}\n"
        "SPO.epsilon = 0.2\n",
    )
    assert [v.name for v in found.variants] == [
        f"trust_region={r},hand_on={h}" for r in ("Clip", "SPO") for h in ("best", "last")
    ]
    last = found.variants[-1].configuration.experiment.stages[1].phases[3]
    assert (type(last.algorithm.trust_region).__name__, last.hand_on) == ("SPO", "last")


def test_axes_of_the_same_last_name_are_told_apart(tmp_path):
    found = plan(tmp_path, "Study.grid = {'stage0/Clip.epsilon': [0.1, 0.2], 'stage1/Clip.epsilon': [0.3]}\n")
    assert found.variants[0].axes == {"stage0/Clip.epsilon": "0.1", "stage1/Clip.epsilon": "0.3"}
    assert found.variants[0].folder == "stage0_Clip.epsilon=0.1,stage1_Clip.epsilon=0.3"


def test_any_configuration_is_a_study_of_one(tmp_path):
    found = plan(tmp_path, "")
    assert [v.name for v in found.variants] == ["base"] and found.seeds == (0,)


def test_appended_files_are_read_after_a_variants_own(tmp_path):
    (tmp_path / "sizes.gin").write_text("EPISODE_LENGTH = 15\n")
    (tmp_path / "large.gin").write_text("EPISODE_LENGTH = 500\nSTAGE_KL = 0.1\n")
    found = plan(
        tmp_path,
        f"Study.variants = {{'a': [], 'b': ['{tmp_path}/large.gin']}}\nStudy.append = ['{tmp_path}/sizes.gin']\n",
    )
    assert [v.configuration.experiment.task.episode_length for v in found.variants] == [15, 15]


BAD = {
    "an unknown binding": (
        "Study.grid = {'Clip.epsilom': [0.1]}",
        r"variant 'epsilom=0.1': command line `Clip.epsilom = 0.1`: .*Did you mean epsilon",
    ),
    "a binding that reaches nothing": (
        "Study.grid = {'ASPO.epsilon': [0.1, 0.2]}",
        r"variant 'epsilon=0.1': .*ASPO.epsilon has no effect",
    ),
    "an empty axis": ("Study.grid = {'STAGE_KL': []}", r"toy.gin:\d+: Study.grid\['STAGE_KL'\] is empty"),
    "a value that is no list": ("Study.grid = {'STAGE_KL': 0.1}", r"Study.grid\['STAGE_KL'\].*list"),
    "a variant that changes nothing": (
        "Study.variants = {'a': ['EPISODE_LENGTH = 20'], 'b': []}",
        r"Study.variants\['a'\] = .* changes nothing",
    ),
    "two variants that are the same": (
        "Study.grid = {'STAGE_KL': [0.1, 1e-1]}",
        "variants 'STAGE_KL=0.1' and 'STAGE_KL=0.1' are the same",
    ),
    "the same key twice": (
        "Study.variants = {'a': [], 'a': ['STAGE_KL = 0.1']}",
        r"toy.gin:\d+: .*the key 'a' appears twice",
    ),
    "a missing file": ("Study.variants = {'a': ['nowhere.gin']}", "variant 'a': there is no file 'nowhere.gin'"),
    "a missing base": ("include 'nowhere.gin'", "there is no file 'nowhere.gin'"),
    "no seed": ("Study.seeds = 0", "Study.seeds = 0: a study needs at least one seed"),
    "a seed twice": ("Study.seeds = [1, 2, 1]", "it contains a duplicate seed"),
    "seeds apart in one program": (
        "Study.seeds = [1, 3]\nStudy.seeds_together = True",
        "seeds trained in one program must be consecutive",
    ),
    "seeds in one program whose stages a rule ends": (
        "Study.seeds = 2\nStudy.seeds_together = True\nImprovePolicy.end = @NoGain()",
        r"toy.gin:\d+: Study.seeds_together = True, but variant 'base' has a rule in ImprovePolicy.end",
    ),
    "an executor that is none": (
        "Sweep.executor = @Clip()",
        r"Sweep.executor = @Clip\(\), but it must be of type AbstractExecutor. It takes @InProcess\(\)",
    ),
    "halving that keeps all": (
        "Sweep.halving = @SuccessiveHalving()\nSuccessiveHalving.keep = 1.0",
        r"SuccessiveHalving.keep = 1.0: it must be in \(0, 1\)",
    ),
    "names that are one folder": (
        "Study.variants = {'a b': [], 'a_b': ['STAGE_KL = 0.1']}",
        "'a b' and 'a_b' would have the same folder",
    ),
}


@pytest.mark.parametrize("study, message", BAD.values(), ids=BAD)
def test_mistakes_are_one_clear_line(tmp_path, study, message):
    with pytest.raises(ConfigError, match=message) as error:
        plan(tmp_path, study + "\n")
    assert "\n" not in str(error.value)


def test_bindings_of_the_sweep_are_not_set_in_the_runs(tmp_path):
    found = plan(
        tmp_path,
        "",
        "Study.seeds = 2",
        "Sweep.executor = @LocalProcesses()",
        "LocalProcesses.workers = 2",
        "STAGE_KL = 0.5",
    )
    assert found.source.bindings == ["STAGE_KL = 0.5"]
    assert type(found.sweep.executor).__name__ == "LocalProcesses" and found.sweep.executor.workers == 2
