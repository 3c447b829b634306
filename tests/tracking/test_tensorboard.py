"""TensorBoard: the event file says what the run said."""

import logging

import PIL.Image
import pytest
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from gorl.errors import ConfigError
from gorl.tracking.aim import AimTracker
from gorl.tracking.tensorboard import TensorBoardTracker
from tests.support.run_folders import CONFIG, entry, events, info


@pytest.mark.parametrize("root", [None, "boards"])
def test_scalars_text_hyperparameters_and_pictures(tmp_path, root):
    folder = tmp_path / "run"
    folder.mkdir()
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    run = TensorBoardTracker(root=root and str(tmp_path / root), interval=1.0).start(info(folder))
    for e in (entry(1, 1.0), entry(2, 2.5)):
        run.log(e)
    run.picture(tmp_path / "a.png", "ActionDensity", 200, 2, "")
    run.close("finished", {"return_final_best": 2.5})
    found = events(folder / "tensorboard" if root is None else tmp_path / "boards" / "study" / "run-1")
    named = lambda tag: [(step, value) for step, value in found if value.tag == tag]
    assert [(step, value.simple_value) for step, value in named("return/eval/ImprovePolicy")] == [
        (100, 1.0),
        (200, 2.5),
    ]
    assert [value.simple_value for _, value in named("wall_s/eval/ImprovePolicy")] == [0.5, 1.0]
    ((_, text),) = named("operative_config.gin/text_summary")
    assert text.tensor.string_val[0].decode() == "".join(f"    {line}\n" for line in CONFIG.splitlines())
    ((step, image),) = named("pictures/ActionDensity")
    assert step == 200 and (image.image.width, image.image.height) == (8, 6)
    assert image.image.encoded_image_string == (tmp_path / "a.png").read_bytes()
    ((_, begun),) = named("_hparams_/session_start_info")
    hparams = HParamsPluginData.FromString(begun.metadata.plugin_data.content).session_start_info.hparams
    assert (
        hparams["variant"].string_value == "slow"
        and hparams["axes/KL"].number_value == 0.1
        and hparams["task/episode_length"].number_value == 50
    )
    ((_, best),) = named("summary/return_final_best")
    assert best.simple_value == 2.5


def test_a_folder_that_cannot_be_written_is_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        run = TensorBoardTracker(root=str(tmp_path / "file"), interval=1.0).start(info(tmp_path))
        run.log(entry(1, 1.0))
        run.close("finished", {})
    assert run.failed and caplog.text.count("TensorBoard tracking stops") == 1


@pytest.mark.parametrize("interval", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize(
    "tracker",
    [lambda i: TensorBoardTracker(root=None, interval=i), lambda i: AimTracker(repo=None, interval=i, experiment=None)],
)
def test_an_interval_is_a_time(tracker, interval):
    with pytest.raises(ConfigError, match=rf"Tracker\.interval = {interval}: seconds, > 0\."):
        tracker(interval)
