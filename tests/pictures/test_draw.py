"""gorl draw: pictures of a run from its newest checkpoint."""

import json

import pytest

from gorl import config
from gorl.errors import RunError
from gorl.runs.beginning import begin
from gorl.training import execution
from tests.support.commands import gorl


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    toy = [
        "Task.environment = @Slider()",
        "Experiment.stages = [@stage0/Stage()]",
        "EPISODE_LENGTH = 20",
        "critic/MLP.depth = 1",
        "policy/MLP.depth = 1",
    ]
    configuration = config.build(["gorl_fm.gin", "parts/debug.gin"], toy)
    execution.execute(
        configuration,
        begin(configuration, folder, study="test"),
        progress=lambda **_: None,
        resumed=False,
        track=False,
    )
    return folder


def test_pictures_by_name_with_bindings(run):
    output = gorl(
        "draw",
        run,
        "--picture",
        "DecoderMap",
        "--picture",
        "Rollout",
        "--picture",
        "ActionDensity",
        "--set",
        "ActionDensity.samples = 8",
    )
    files = [run / "pictures" / f"stage0-{name}.png" for name in ("DecoderMap", "ActionDensity")]
    assert [line for line in output.splitlines() if line.endswith(".png")] == list(map(str, files)) and all(
        f.stat().st_size > 1000 for f in files
    )
    assert "picture Rollout of" in output and "is left out: Slider has no MuJoCo model to draw." in output
    assert json.loads((run / "status.json").read_text())["status"] == "finished"


def test_a_picture_that_cannot_be_drawn_is_named(run, tmp_path):
    assert "declares no pictures: name some, such as --picture ActionDensity" in gorl("draw", run, error=RunError)
    error = gorl("draw", run, "--picture", "Rolout", error=RunError)
    assert error == "there is no picture 'Rolout'; there are ActionDensity, DecoderMap, Rollout. Did you mean Rollout?"
    assert gorl("draw", run, "--picture", "Rollout", error=RunError).endswith(f"nothing was drawn of {run}.")
    assert "is not a gorl run folder" in gorl("draw", tmp_path, error=RunError)
