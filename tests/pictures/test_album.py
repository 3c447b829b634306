"""Pictures in a run: files, trackers, and a training that does not notice."""

import json
import logging

import numpy as np
import pytest

from gorl import config
from gorl.environments.toy import TwoGoals
from gorl.errors import ConfigError
from gorl.pictures.album import Album, unique_names
from gorl.pictures.base import AbstractPicture, CannotDraw
from gorl.runs.beginning import begin
from gorl.tracking.base import AbstractTracked
from gorl.training import execution
from gorl.training.trained import restore
from tests.support.ends import Scale, TwoPoints, end


class Dot(AbstractPicture):
    def draw(self, end, path):
        files = [path.with_name(path.name + suffix) for suffix in (".png", ".mp4")]
        for file in files:
            file.write_bytes(b"x")
        return files


class Broken(AbstractPicture):
    def __init__(self, error):
        self.error, self.calls = error, 0

    def draw(self, end, path):
        self.calls += 1
        raise self.error


class Listener(AbstractTracked):
    def __init__(self):
        self.seen = []

    def log(self, entry):
        pass

    def picture(self, path, name, step, unit, caption):
        self.seen.append((path.name, name, step, unit, caption))

    def close(self, status, summary):
        pass


def test_trackers_get_the_pictures_and_a_failure_is_said_once(tmp_path, caplog):
    broken, other, listener, failed = Broken(CannotDraw("no paint.")), Broken(ValueError("a\nb")), Listener(), set()
    with caplog.at_level(logging.WARNING):
        for seed in (0, 1):
            album = Album([broken, Dot(), Dot()], tmp_path, [listener], failed)
            album(end(TwoGoals(), TwoPoints(1), Scale(1.0, 1), stage=seed))
        Album([other], tmp_path, [], set())(end(TwoGoals(), TwoPoints(1), Scale(1.0, 1)))
    assert [r.message for r in caplog.records] == [
        "picture Broken is left out: no paint.",
        "picture Broken is left out: ValueError: a b",
    ]
    assert broken.calls == 1
    assert listener.seen[:2] == [
        ("stage0-Dot.png", "Dot", 1000, 7, "Dot, after stage 0"),
        ("stage0-Dot-2.png", "Dot-2", 1000, 7, "Dot-2, after stage 0"),
    ]
    assert len(listener.seen) == 4 and (tmp_path / "pictures" / "stage1-Dot-2.mp4").exists()
    assert list(unique_names([Dot(), Dot()])) == ["Dot", "Dot-2"]


def trained(folder, *bindings):
    files, toy = (
        ["gorl_fm.gin", "parts/debug.gin"],
        ["Task.environment = @Slider()", "Experiment.stages = [@stage0/Stage(), @stage1/Stage()]"],
    )
    configuration = config.build(
        files, [*toy, "EPISODE_LENGTH = 20", "critic/MLP.depth = 1", "policy/MLP.depth = 1", *bindings]
    )
    run = begin(configuration, folder, study="test")
    assert (
        execution.execute(configuration, run, progress=lambda **_: None, resumed=False, track=False).status
        == "finished"
    )
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "wall_s"} for line in lines], json.loads(
        (folder / "status.json").read_text()
    )


def test_pictures_are_drawn_after_every_stage_and_change_nothing(tmp_path):
    without, status = trained(tmp_path / "a")
    assert "pictures_s" not in status and not (tmp_path / "a" / "pictures").exists()
    small = ["ActionDensity.samples = 8", "ActionDensity.observations = 4"]
    drawn, status = trained(tmp_path / "b", "Experiment.pictures = [@ActionDensity(), @Rollout()]", *small)
    assert drawn == without and status["pictures_s"] > 0
    assert sorted(p.name for p in (tmp_path / "b" / "pictures").iterdir()) == [
        "stage0-ActionDensity.png",
        "stage1-ActionDensity.png",
    ]
    (_, before), (_, after) = restore(tmp_path / "a"), restore(tmp_path / "b")
    assert np.array_equal(before.policy.normalizer.mean, after.policy.normalizer.mean)


def test_pictures_are_declared_in_a_list(tmp_path):
    built = config.build(["ppo.gin"], ["Task.environment = @Slider()"])
    assert [p.name for p in built.experiment.pictures] == ["ActionDensity"]
    assert [
        p.name
        for p in config.build(["ppo.gin", "parts/debug.gin"], ["Task.environment = @Slider()"]).experiment.pictures
    ] == []
    with pytest.raises(ConfigError, match="Experiment.pictures"):
        config.build(["ppo.gin"], ["Task.environment = @Slider()", "Experiment.pictures = [@ActionDensity]"])
