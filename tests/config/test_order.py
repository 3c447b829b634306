"""Files in an order in which one undoes another, and files of the wrong kind, are answered before anything runs."""

import pytest

from gorl import config
from gorl.errors import ConfigError
from gorl.training import execution
from tests.support.commands import gorl

WHOLE = "include 'ppo.gin'\n\nClip.epsilon = 0.3\n"
FILES = {
    "mine.gin": WHOLE,
    "sizes.gin": "NUM_ENVS = 512\nOnPolicy.num_epochs = 3\n",
    "epochs.gin": "OnPolicy.num_epochs = 5\n",
    "bare.gin": "Experiment.stages = [@Stage()]\nClip.epsilon = 0.4\n",
    "lone.gin": "Clip.epsilon = 0.2\n",
    "turned.gin": "include 'sizes.gin'\ninclude 'ppo.gin'\n",
    "turned_preset.gin": "include 'gorl_fm.gin'\ninclude 'parts/debug.gin'\ninclude 'presets/paper_v3.gin'\n",
    "around.gin": "include 'mine.gin'\ninclude 'sizes.gin'\n\nSEED = 1\n",
    "grid.gin": "include 'ppo.gin'\n\nStudy.grid = {'Clip.epsilon': [0.1, 0.2]}\n",
    "seeds.gin": "include 'ppo.gin'\n\nStudy.seeds = [4, 5]\n",
    "named.gin": "include 'ppo.gin'\n\nStudy.name = 'mine'\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "files, parts",
    [
        (
            ["sizes.gin", "mine.gin"],
            ["mine.gin is read after sizes.gin and undoes it", "NUM_ENVS = 512 (sizes.gin:1) becomes 2048",
             "A method comes first: mine.gin sizes.gin."],
        ),
        (
            ["parts/tasks/HopperStand.gin", "parts/debug.gin", "sac.gin"],
            ["sac.gin is read after parts/tasks/HopperStand.gin",
             "comes first: sac.gin parts/tasks/HopperStand.gin parts/debug.gin."],
        ),
        (["turned.gin"], ["ppo.gin is read after sizes.gin and undoes it", "A method comes first: ppo.gin sizes.gin."]),
        (["mine.gin", "bare.gin"], ["bare.gin is read after mine.gin", "(mine.gin:3) becomes 0.4", "name one of them"]),
        (
            ["lone.gin", "sizes.gin", "mine.gin"],
            ["mine.gin is read after lone.gin and undoes it", "comes first: mine.gin lone.gin sizes.gin."],
        ),
        (["mine.gin", "epochs.gin", "sizes.gin"], ["nothing of epochs.gin is left", "or name epochs.gin last."]),
        (
            ["gorl_fm.gin", "parts/tasks/FishSwim.gin", "parts/tasks/BallInCup.gin"],
            ["parts/tasks/FishSwim.gin and parts/tasks/BallInCup.gin are two tasks. Name one of them."],
        ),
        (
            ["gorl_fm.gin", "parts/debug.gin", "presets/paper_v3.gin"],
            ["presets/paper_v3.gin is read after parts/debug.gin and undoes it: TOTAL_STEPS = 480",
             "gorl_fm.gin presets/paper_v3.gin parts/debug.gin."],
        ),
        (["turned_preset.gin"], ["In turned_preset.gin include the preset first."]),
        (["sizes.gin"], ["sizes.gin declares no run", "gorl_fm.gin sizes.gin, or include one in it."]),
        (["controls/lockstep.gin"], ["changes a run and declares none", "gorl_fm.gin controls/lockstep.gin."]),
    ],
)  # fmt: skip
def test_files_that_undo_others_are_refused_with_the_right_order(files, parts, folder):
    with pytest.raises(ConfigError) as err:
        config.build(files)
    assert all(part in str(err.value) for part in parts), str(err.value)


@pytest.mark.parametrize(
    "files, bindings",
    [
        (["mine.gin", "sizes.gin", "parts/debug.gin"], []),  # sizes of sizes
        (["mine.gin", "sizes.gin", "epochs.gin"], []),
        (["around.gin"], []),
        (["quickstart.gin", "parts/debug.gin", "controls/prior_latents.gin"], []),
        (["gorl_fm.gin", "parts/small.gin", "controls/large_data.gin"], []),
        (["sizes.gin", "ppo.gin"], ["NUM_ENVS = 512", "OnPolicy.num_epochs = 3"]),  # nothing is lost
        (["ppo.gin", "epochs.gin"], ["OnPolicy.num_epochs = 7"]),  # typed on purpose
    ],
)
def test_single_values_may_be_changed(files, bindings, folder):
    config.build(files, bindings)


@pytest.mark.parametrize("file, what", [("grid.gin", "Study.grid (grid.gin:3)"), ("seeds.gin", "Study.seeds")])
def test_one_run_of_a_study_is_refused_and_a_check_names_the_sweep(file, what, folder):
    with pytest.raises(ConfigError) as err:
        execution.declared([file])
    assert what in str(err.value) and f"gorl sweep {file}" in str(err.value)
    text = gorl("check", file)
    assert text.endswith(f"to run it: gorl sweep {file}\n") and "is that of its base" in text


def test_a_name_alone_declares_no_study(folder):
    assert config.build(["named.gin"]).study is None


@pytest.mark.parametrize(
    "file, part",
    [("run.json", "gorl train --resume 'it is'"), ("study.json", "name the files that it began"), ("x", "is a folder")],
)
def test_a_folder_is_no_file(file, part, folder):
    (folder / "it is").mkdir()
    (folder / "it is" / file).write_text("{}")
    with pytest.raises(ConfigError) as err:
        config.build(["it is"])
    assert part in str(err.value)


@pytest.mark.parametrize(
    "files, part",
    [
        (["ppo.gin", "parts/tasks/FingerSpin.gin", "parts/tasks/HopperStand.gin"], "are two tasks. Name one of them."),
        (["gorl_fm.gin", "parts/diffusion.gin", "parts/mean_flow.gin"], "both choose FitDecoder.decoder"),
    ],
)
def test_alternatives_are_refused(files, part):
    """The discount of the first task, and the sizes of the first decoder, would stay."""
    with pytest.raises(ConfigError) as err:
        config.build(files)
    assert part in str(err.value)


@pytest.mark.parametrize(
    "files",
    [
        ["gorl_fm.gin", "parts/small.gin", "parts/one_call.gin", "parts/tasks/FingerSpin.gin"],
        ["gorl_diffusion.gin", "parts/flow_matching.gin", "parts/small.gin"],  # a part chooses, behind a method
        ["ppo.gin", "parts/tasks/FingerSpin.gin", "parts/small.gin", "parts/tasks/FingerSpin.gin"],
    ],
)
def test_what_is_no_alternative_is_read(files):
    config.build(files)
