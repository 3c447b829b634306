"""gorl track import, and what gorl browse says."""

import gc
import json
import shutil

import PIL.Image
import pytest

from gorl.cli import browse
from gorl.errors import ConfigError, RunError
from gorl.tracking import aim_repository as repositories, links
from tests.support.commands import gorl
from tests.support.run_folders import write

aim = pytest.importorskip("aim")


@pytest.fixture
def study(tmp_path):
    """2 variants x 2 seeds; one run has a picture, and one is a running one whose process is gone."""
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    for variant in ("fast", "slow"):
        for seed in (0, 1):
            more = {"picture": (tmp_path / "a.png").read_bytes()} if (variant, seed) == ("fast", 0) else {}
            write(
                tmp_path / "study" / variant / f"seed{seed}",
                [1.0, 2.0 + seed],
                seed=seed,
                study="speeds",
                variant=variant,
                name=f"{variant}{seed}",
                **more,
            )
    (tmp_path / "study" / "study.json").write_text(
        json.dumps({"variants": [{"name": v, "folder": v} for v in ("fast", "slow")]})
    )
    (tmp_path / "study" / "slow" / "seed1" / "status.json").write_text('{"status": "running", "pid": 4194304}')
    yield tmp_path / "study"
    gc.collect()


def test_a_study_is_imported_once_however_often_asked(tmp_path, study):
    repo = tmp_path / "repo"
    (study / "fast" / "seed1" / "run.json").write_text("{}")
    output = gorl("track", "import", study, tmp_path / "nowhere", "--repo", repo, code=1)
    assert (
        output.count("imported (finished, 2 entries, 0 pictures)") == 1
        and "imported (killed, 2 entries" in output
        and "2 entries, 1 pictures" in output
    )
    assert (
        "nowhere is not a gorl run folder" in output
        and "fast/seed1 has run format None" in output
        and f"3 of 5 runs are in {repo}" in output
    )
    shown = lambda r: (r.experiment, r["hparams"]["variant"], r["status"], r["summary"]["return_best_evaluation"])
    runs = lambda: {r.name: shown(r) for r in aim.Repo(str(repo)).iter_runs()}
    expected = {
        "fast0": ("speeds", "fast", "finished", 2.0), "slow0": ("speeds", "slow", "finished", 2.0),
        "slow1": ("speeds", "slow", "killed", 3.0),
    }  # fmt: skip
    assert runs() == expected and len(aim.Repo(str(repo)).list_all_runs()) == 3
    (study / "slow" / "seed0" / "aim.json").unlink()  # then Aim itself knows the folder
    output = gorl("track", "import", study / "slow", study / "fast" / "seed0", "--repo", repo, code=1)
    assert "slow is not a gorl run folder" in output
    output = gorl("track", "import", study / "slow" / "seed0", study / "slow" / "seed1", "--repo", repo)
    assert output.count("replaced (") == 2
    assert runs() == expected and len(aim.Repo(str(repo)).list_all_runs()) == 3
    assert repositories.studies(repo) == {"speeds": True}


def test_into_tensorboard(tmp_path, study):
    for _ in range(2):
        output = gorl("track", "import", study / "fast" / "seed0", "--to", "tensorboard", "--repo", tmp_path / "boards")
    assert "replaced (finished, 2 entries, 1 pictures)" in output and "tensorboard --logdir" in output
    assert len(list((tmp_path / "boards" / "speeds" / "fast0").glob("events.*"))) == 1


def test_a_run_that_cannot_be_imported_is_named(tmp_path, study):
    folder = study / "fast" / "seed0"
    (folder / "status.json").write_text('{"status": "running", "pid": 1}')
    output = gorl("track", "import", folder, "--repo", tmp_path, error=RunError)
    assert "seed0 is still running, and its own trackers record it" in output
    assert output.endswith("no run was imported.")
    assert "it does one thing, import" in gorl("track", "export", folder, error=ConfigError)
    assert (
        gorl("track", "import", folder, "--to", "aims", error=ConfigError)
        == "--to aims: it is aim or tensorboard. Did you mean aim?"
    )


def test_browse_has_a_link_for_every_study(tmp_path, study, monkeypatch):
    repo = tmp_path / "repo"
    write(tmp_path / "other", [1.0], study="other", variant=None)
    shutil.rmtree(study / "slow")
    (study / "study.json").write_text(json.dumps({"variants": [{"name": "fast", "folder": "fast"}]}))
    gorl("track", "import", study, tmp_path / "other", "--repo", repo)
    served = []

    def serve(path, listener, write, debug, lines):
        served.append((path, *listener.getsockname(), write))
        print("\n".join(lines))

    monkeypatch.setattr(browse, "_serve", serve)
    output = gorl("browse", "--repo", repo, "--port", "0")
    base = f"http://127.0.0.1:{served[0][2]}"
    lines = [
        f"other, returns:  {links.returns_url(base, 'other')}",
        f"speeds, returns:  {links.returns_url(base, 'speeds')}",
    ]
    assert [line for line in output.splitlines() if "returns" in line] == lines
    assert [line for line in output.splitlines() if "pictures" in line] == [
        f"speeds, pictures:  {links.images_url(base, 'speeds')}"
    ]
    assert served[0][:2] == (repo, "127.0.0.1") and served[0][3] is False
    assert "WARNING" not in output and "its pages can read runs" in output
    output = gorl("browse", "--repo", repo, "--port", "0", "--host", "0.0.0.0", "--write")
    assert "WARNING: Aim listens at 0.0.0.0. It has no password" in output and "can read, change and delete" in output
    assert served[-1][1] == "0.0.0.0" and served[-1][3] is True
    for host in ("localhost", "127.0.0.2"):
        assert "WARNING" not in gorl("browse", "--repo", repo, "--host", host, "--port", "0")
    output = gorl("browse", "--repo", repo, "--port", "0", "--study", "other")
    assert "other, returns" in output and "speeds" not in output
    assert "has the studies other, speeds. Did you mean speeds?" in gorl(
        "browse", "--repo", repo, "--port", "0", "--study", "speed", error=ConfigError
    )


def test_links_encode_as_aim_does():
    assert links.encode({"a": 1}) == "O-JTdCJTIyYSUyMjoxJTdE"
    assert links.returns_url("http://127.0.0.1:1", "x").startswith("http://127.0.0.1:1/metrics?select=O-")
    assert links.encode(
        {"color": ["run.params.hparams.method"], "stroke": [], "chart": ["run.params.hparams.env"]}
    ) in links.returns_url("", "x")
