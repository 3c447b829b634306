"""Variants that differ in numbers alone, trained in one program: each is what it would be alone, to rounding."""

import json

import pytest

from gorl import config, runs
from gorl.cli.forecast import lines
from gorl.errors import ConfigError
from gorl.runtime.programs import TRACES
from gorl.studies.plan import joinable, make_plan
from gorl.training import trained
from tests.support.toy_study import record, status, sweep, write

STUDY = """
Study.grid = {'stage0/OnPolicy.learning_rate': [1e-3, 0.02], 'STAGE_KL': [0.0, 0.5], 'FIT_EPOCHS': [2]}
Study.seeds = 2
Study.variants_together = True
"""


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    root = tmp_path_factory.mktemp("joint")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GORL_CACHE", str(root / "cache"))
        before = TRACES.copy()
        study, result, _ = sweep(write(root, STUDY), root / "study")
        traces = TRACES - before
    assert result.statuses == {"finished": 1} and result.failures == {}
    return study, traces


def test_one_program_trains_all_variants_and_seeds(together):
    study, traces = together
    (job,) = study.jobs()
    assert job.folder == "programs/0" and len(job.variants) == 4 and job.seeds == (0, 1)
    assert traces["improve_policy.iterate"] == 2  # identity and flow matching, as for one run
    assert len(runs.RunFolder.open(study.path / job.folder).members) == 8
    folders = sorted(str(p.parent.relative_to(study.path)) for p in study.path.glob("*/seed*/run.json"))
    assert len(folders) == 8 and folders[0] == "learning_rate=0.001,STAGE_KL=0.0,FIT_EPOCHS=2/seed0"


def test_runs_trained_together_are_as_each_is_alone(together, tmp_path, cache):
    """To rounding, before it has grown: the first two iterations; a learning rate of 0.02 is not one of 0.001."""
    study, _ = together
    for rate in ("0.001", "0.02"):
        variant = f"learning_rate={rate},STAGE_KL=0.5,FIT_EPOCHS=2"
        ours = study.path / variant / "seed1"
        assert config.build([str(ours / "config.gin")]).experiment.seeds == (1,)
        alone, _, _ = sweep(
            write(tmp_path, ""),
            tmp_path / rate,
            f"stage0/OnPolicy.learning_rate = {rate}",
            "SEED = 1",
            "Experiment.stages = [@stage0/Stage()]",
            reuse=False,
        )
        a, b = record(ours), record(alone.path / "base" / "seed1")
        assert [(x["stage"], x["kind"], x["env_steps"]) for x in a if x["stage"] == 0] == [
            (x["stage"], x["kind"], x["env_steps"]) for x in b
        ]
        for x, y in list(zip(a, b, strict=False))[:4]:
            for name, value in y["metrics"].items():
                if name not in ("clip_fraction", "kl", "log_ratio_first", "log_ratio_max"):  # rounding itself
                    assert float(x["metrics"][name]) == pytest.approx(float(value), rel=2e-3, abs=1e-5), (
                        rate,
                        x["kind"],
                        name,
                    )
    returns = {
        record(study.path / f"learning_rate={rate},STAGE_KL=0.5,FIT_EPOCHS=2" / "seed1")[3]["metrics"]["return"]
        for rate in ("0.001", "0.02")
    }
    assert len(returns) == 2


def test_a_run_of_many_loads_alone(together):
    study, _ = together
    folder = study.path / "learning_rate=0.02,STAGE_KL=0.0,FIT_EPOCHS=2" / "seed0"
    facts = json.loads((folder / "run.json").read_text())
    assert facts["variant"] == "learning_rate=0.02,STAGE_KL=0.0,FIT_EPOCHS=2" and facts["axes"]["STAGE_KL"] == "0.0"
    experiment, state = trained.restore(folder)
    assert float(experiment.stages[0].phases[0].algorithm.learning_rate) == pytest.approx(0.02)
    assert state.policy is not None and status(folder)["status"] == "finished"


@pytest.mark.slow
def test_a_stopped_program_goes_on_bit_for_bit(together, tmp_path, cache):
    from gorl.studies.folder import StudyFolder
    from gorl.studies.jobs import JobSettings, run_job

    reference, _ = together
    path = write(tmp_path, STUDY, checkpoint_interval=0.0)
    study = StudyFolder.begin(tmp_path / "study", make_plan([str(path)]))
    (job,) = study.jobs()
    seen = []

    class Stop(Exception):
        pass

    def stop(**_):
        seen.append(None)
        if len(seen) == 9:
            raise Stop

    with pytest.raises(Stop):
        run_job(study, job, JobSettings(aim=False), progress=stop)
    assert study.status(job) == "unfinished" and run_job(study, job, JobSettings(aim=False)) == 0
    for member in sorted(p.parent for p in study.path.glob("*/seed*/run.json")):
        assert record(member) == record(reference.path / member.relative_to(study.path))


APART = {
    "numbers": (
        ["STAGE_KL = 0.5", "stage0/OnPolicy.learning_rate = 1e-2", "DISCOUNT = 0.9", "Task.action_bound = 2.0"],
        True,
    ),
    "another seed": (["SEED = 4"], True),
    "a size": (["decoder/MLP.width = 17"], False),
    "a number of a network": (["GaussianPolicy.initial_std = 0.5"], False),
    "a length": (["FIT_EPOCHS = 5"], False),
    "another class": (["OnPolicy.trust_region = @SPO()", "SPO.epsilon = 0.2"], False),
    "the precision": (["Experiment.precision = 'high'"], False),
}


@pytest.mark.parametrize("bindings, together", APART.values(), ids=APART)
def test_only_variants_of_the_same_programs_can_be_trained_together(bindings, together, tmp_path):
    path = str(write(tmp_path, ""))
    assert joinable(config.build([path]), config.build([path], bindings)) is together


def test_variants_whose_stages_a_rule_ends_are_trained_apart(tmp_path):
    rule = "ImprovePolicy.end = @NoGain()\n"
    study = "Study.grid = {'STAGE_KL': [0.0, 0.1]}\nStudy.variants_together = True\nStudy.seeds = 2\n"
    plan = make_plan([str(write(tmp_path, rule + study))])
    assert [[v.name for v in program] for program in plan.programs] == [["STAGE_KL=0.0"], ["STAGE_KL=0.1"]]
    text = " ".join(lines(plan, tmp_path, reuse=False))
    assert "so steps and time are at most these" in text and "in one program" not in text


def test_variants_that_are_no_one_program_are_trained_apart(tmp_path):
    study = "Study.grid = {'FIT_EPOCHS': [2, 3], 'STAGE_KL': [0.0, 0.1]}\nStudy.variants_together = True\n"
    plan = make_plan([str(write(tmp_path, study))])
    assert [[v.name for v in program] for program in plan.programs] == [
        ["FIT_EPOCHS=2,STAGE_KL=0.0", "FIT_EPOCHS=2,STAGE_KL=0.1"],
        ["FIT_EPOCHS=3,STAGE_KL=0.0", "FIT_EPOCHS=3,STAGE_KL=0.1"],
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="variants_together = True, but Sweep.halving ends single variants"):
        make_plan([str(write(tmp_path, study + "Sweep.halving = @SuccessiveHalving()\n"))])
