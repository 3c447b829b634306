"""What comes from somebody else runs no code, and leads nowhere but into its own folder."""

import ast
import json
import os
import pathlib
import pickle
import stat
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gorl
from gorl import config, runs
from gorl.analysis.naming import load_results
from gorl.config import files
from gorl.errors import ConfigError, RunError
from gorl.reuse.store import PhaseStore, _digest
from gorl.runs import arrays, checkpoint
from gorl.runs.files import inside
from gorl.runs.record import Record
from gorl.state import Dataset, Episodes
from gorl.studies.folder import StudyFolder
from gorl.studies.jobs import JobSettings
from gorl.tracking import aim_repository, local
from gorl.tracking.tensorboard import TensorBoardTracker
from gorl.training import trained
from gorl.training.trained import confirmed_plugins
from tests.support.run_folders import entry, info, write

PACKAGE = pathlib.Path(gorl.__file__).parent
SOURCES = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "subprocess.getoutput",
}


def forbidden(source: str) -> list[str]:
    """What in a source could run what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            name = ast.unparse(node.func)
            if (
                name in CALLS
                or keywords.get("shell", "False") != "False"
                or keywords.get("allow_pickle", "False") != "False"
            ):
                found.append(ast.unparse(node))
            if name in ("np.load", "numpy.load", "jnp.load") and keywords.get("allow_pickle") != "False":
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_no_source_can_run_data_as_code(name):
    assert forbidden(SOURCES[name].read_text()) == []


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "import yaml", "eval('1')", "exec(x)", "np.load(f)",
     "np.load(f, allow_pickle=True)", "import shelve", "subprocess.run(x, shell=True)", "os.system(x)",
     "import marshal", "read(f, allow_pickle=yes)"],
)  # fmt: skip
def test_the_scan_finds(source):
    assert len(forbidden(source)) >= 1


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.write_text, (self.path, "boom")


def poison(path: pathlib.Path, mark: pathlib.Path) -> None:
    """Puts a pickled object in the place of the first array of an .npz."""
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    np.save(mark.with_suffix(".npy"), np.array([Bomb(mark)], object), allow_pickle=True)
    with zipfile.ZipFile(path, "w") as again:
        for name, data in parts.items():
            again.writestr(name, mark.with_suffix(".npy").read_bytes() if name == "arr_0.npy" else data)


def test_the_bomb_goes_off_where_it_may(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").read_text() == "boom"


def state_of_one_seed():
    """[1, ...] of everything, with a dataset."""
    numbers = lambda *shape: jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)
    data = Dataset(Episodes(numbers(2, 3, 2), numbers(2, 3, 1), numbers(2, 3), numbers(2, 3), jnp.ones((2, 3), bool)))
    return jax.tree.map(lambda x: x[None], {"data": data, "x": jnp.ones(4)})


def shapes(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), state)


@pytest.fixture
def saved(tmp_path):
    """A store with a checkpoint, and the template of its state."""
    state = state_of_one_seed()
    store = checkpoint.CheckpointStore(tmp_path)
    store.save(1, state, {}, row=0)
    yield store, shapes(state)
    store.close()


def test_a_checkpoint_is_written_and_read_without_pickle(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("pickle")

    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler"):
        monkeypatch.setattr(pickle, name, refuse)
    state = state_of_one_seed()
    store = checkpoint.CheckpointStore(tmp_path)
    store.save(1, state, {"note": "x"}, row=0)
    found = store.restore(1, shapes(state))
    store.close()
    jax.tree.map(lambda ours, theirs: np.testing.assert_array_equal(ours, theirs[0]), found, state)


def test_a_dataset_that_holds_a_pickle_is_refused(saved, tmp_path):
    store, template = saved
    (artifact,) = (tmp_path / "artifacts").iterdir()
    poison(artifact, tmp_path / "mark")
    with pytest.raises((ValueError, RunError)):
        store.restore(1, template)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["../../outside", "/etc/outside"])
def test_a_dataset_is_looked_for_in_artifacts_only(saved, name, monkeypatch):
    store, template = saved
    known = store.meta(1)
    monkeypatch.setattr(store, "meta", lambda number: {**known, "datasets": [name]})
    with pytest.raises(RunError, match="the checkpoint's dataset: .* leads out of"):
        store.restore(1, template)


def test_a_stored_phase_that_holds_a_pickle_is_computed_again(tmp_path, caplog):
    """Even with checksums that fit."""
    state, store = {"x": jnp.ones((1, 4))}, PhaseStore(tmp_path / "phases")
    store.add("k" * 64, {}, {"seconds": 1.0, "env_steps": 1}, state)
    path = store.folder / ("k" * 64)
    poison(path / "state.npz", tmp_path / "mark")
    known = json.loads((path / "entry.json").read_text())
    (path / "entry.json").write_text(json.dumps({**known, "state_sha256": _digest(path / "state.npz")}))
    assert store.state("k" * 64, shapes(state), 1) is None and not store.has("k" * 64)
    assert not (tmp_path / "mark").exists()


def test_a_stored_phase_that_is_whole_is_read(tmp_path):
    state, store = {"x": jnp.ones((1, 4))}, PhaseStore(tmp_path / "phases")
    store.add("k" * 64, {}, {"seconds": 1.0, "env_steps": 1}, state)
    np.testing.assert_array_equal(store.state("k" * 64, shapes(state), 1)["x"], np.ones((1, 4)))
    assert arrays.leaves(state)[1] != []


IMPORTS = [
    "import os",
    "import evil",
    "from os import path",
    "from evil import thing",
    "from evil import thing as gorl",
    "import evil as gorl.registry",
]


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A working directory with a module that marks when it is imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'mark')!r}).write_text('boom')\n")
    yield tmp_path
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("statement", IMPORTS)
def test_a_configuration_imports_nothing(statement, stranger):
    (stranger / "a.gin").write_text(f"{statement}\ninclude 'ppo.gin'\n")
    with pytest.raises(ConfigError, match="^a.gin:1: "):
        config.build(["a.gin"])


def test_gins_own_registry_may_be_imported_in_every_way(stranger):
    (stranger / "a.gin").write_text("from gorl import registry\nimport gorl.registry\ninclude 'ppo.gin'\n")
    assert config.build(["a.gin"]).experiment.seed == 0


@pytest.mark.parametrize("name", ["{}/elsewhere/b.gin", "../elsewhere/b.gin", "../../{name}/elsewhere/b.gin"])
def test_included_files_import_nothing_either(name, stranger):
    for folder in ("elsewhere", "here"):
        (stranger / folder).mkdir()
    (stranger / "elsewhere" / "b.gin").write_text("import evil\n")
    (stranger / "here" / "a.gin").write_text(f"include '{name.format(stranger, name=stranger.name)}'\n")
    with pytest.raises(ConfigError, match=r"b.gin:1: a configuration imports gorl.registry and nothing else"):
        config.build([str(stranger / "here" / "a.gin")])


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "secret.txt", "~/.ssh/id_rsa"])
def test_only_gin_files_are_included(name, stranger):
    """Its lines would be quoted, and copied into the run's folder."""
    (stranger / "secret.txt").write_text("password\n")
    (stranger / "a.gin").write_text(f"include '{name}'\n")
    with pytest.raises(ConfigError, match="^a.gin:1: include .*only files that end in .gin"):
        config.build(["a.gin"])


PLUGINS = ["evil", "{}/evil.py", "evil.py", "./evil.py"]


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("use", ["load", "restore", "resume", "evaluate", "draw"])
def test_a_run_folder_runs_no_plugin_of_its_own_accord(plugin, use, stranger):
    from typer.testing import CliRunner

    from gorl.cli import main

    run = write(stranger / "run", [1.0], plugins=[plugin.format(stranger)])
    (run / "config.gin").write_text("include 'ppo.gin'\n")
    commands = {"resume": ["train", "--resume"], "evaluate": ["evaluate"], "draw": ["draw"]}
    with pytest.raises(ConfigError, match=r"run was made with the plugin .*evil.* which is code, .* --plugin .*evil"):
        if use in commands:
            raise CliRunner().invoke(main.build_app(), [*commands[use], str(run)]).exception
        gorl.load(run) if use == "load" else trained.restore(run)


def test_a_plugin_that_is_named_again_is_imported_from_where_it_is_now(tmp_path, monkeypatch, own_registry):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("import pathlib\npathlib.Path('mark').write_text('asked for')\n")
    run = write(tmp_path / "run", [1.0], plugins=["/another/machine/mine.py"])
    assert confirmed_plugins(runs.RunFolder(run), ["mine.py"]) == (str(tmp_path / "mine.py"),)
    monkeypatch.setenv("GORL_PLUGINS", "mine.py")
    assert confirmed_plugins(runs.RunFolder(run)) == (str(tmp_path / "mine.py"),)
    config.build(["ppo.gin"], plugins=confirmed_plugins(runs.RunFolder(run)))
    assert (tmp_path / "mark").read_text() == "asked for"
    monkeypatch.delenv("GORL_PLUGINS")
    with pytest.raises(
        ConfigError, match="/another/machine/mine.py"
    ):  # another file of that name is not what was imported
        confirmed_plugins(runs.RunFolder(run))
    write(tmp_path / "here", [1.0], plugins=[str(tmp_path / "mine.py")])
    assert confirmed_plugins(runs.RunFolder(tmp_path / "here")) == (
        str(tmp_path / "mine.py"),
    )  # it is in this process already


def test_the_workers_of_a_sweep_are_told_its_plugins():
    assert JobSettings(plugins=("/a/b.py", "mine")).words == ["--plugin", "/a/b.py", "--plugin", "mine"]


OUT = ["../x", "../../etc", "/etc", "a/../../x", "a\0b"]


@pytest.mark.parametrize("name", OUT, ids=repr)
def test_members_are_inside_their_run(name, tmp_path):
    run = write(tmp_path / "run", [1.0], members=["seed0", name])
    for use in (lambda: runs.RunFolder(run).members, lambda: local.folders(run), lambda: load_results([run])):
        with pytest.raises(RunError, match="run.json.*: .*(leads out of|is not the name|expected a string)"):
            use()


def test_the_members_of_a_studys_program_are_inside_the_study(tmp_path):
    group = write(tmp_path / "study" / "programs" / "0", [], members=["../../slow/seed0"])
    write(tmp_path / "study" / "slow" / "seed0", [1.0])
    with pytest.raises(RunError, match="leads out of"):  # it is no study
        assert runs.RunFolder(group).members
    (tmp_path / "study" / "study.json").write_text("{}")
    assert [m.status()["status"] for m in runs.RunFolder(group).members] == ["finished"]
    write(tmp_path / "study" / "programs" / "1", [], members=["../../../slow"])
    with pytest.raises(RunError, match="leads out of"):
        assert runs.RunFolder(tmp_path / "study" / "programs" / "1").members


@pytest.mark.parametrize("folder, seed", [("../x", 0), ("/etc", 0), ("a", "/../../../x")])
def test_the_variants_of_a_study_are_inside_it(folder, seed, tmp_path):
    variants = [{"name": "v", "folder": folder}]
    known = {
        "format": 1,
        "name": "s",
        "seeds": [seed],
        "variants": variants,
        "programs": [[folder]],
        "seeds_together": False,
        "halving": [],
    }
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.json").write_text(json.dumps(known))
    for use in (
        StudyFolder.open,
        lambda path: load_results([path]),
        *([] if isinstance(seed, str) else [local.folders]),
    ):
        with pytest.raises(RunError, match="leads out of|cannot read the study .* invalid literal"):
            use(tmp_path / "study")


def test_an_innocent_name_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert inside(pathlib.Path("run"), "seed0", "x") == pathlib.Path("run/seed0")
    assert inside(pathlib.Path("."), "a/../b", "x") == pathlib.Path("a/../b")
    with pytest.raises(RunError):
        inside(pathlib.Path("."), "../x", "x")


@pytest.mark.parametrize("name", ["../../../../victim", "/victim", "", "abc/../../x", None, ["a"]])
def test_a_note_of_an_aim_run_is_not_followed_out_of_the_repository(name, tmp_path):
    """An import deletes the run that the note names."""
    repo, run = tmp_path / "repo", write(tmp_path / "run", [1.0])
    (repo / ".aim" / "meta" / "chunks").mkdir(parents=True)
    (tmp_path / "victim").mkdir()
    (run / "aim.json").write_text(json.dumps({"repo": str(repo), "hash": name}))
    assert aim_repository.find_hash(run, repo) is None


@pytest.mark.parametrize("more", [{"name": "../../x"}, {"study": "/etc"}, {"study": "..", "name": "x"}], ids=str)
def test_names_of_a_run_do_not_lead_out_of_the_tensorboard_logs(more, tmp_path):
    with pytest.raises(RunError, match="the study and name of .* leads out of"):
        TensorBoardTracker(root=str(tmp_path / "logs"), interval=1.0).folder(info(tmp_path, **more))


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o027], ids=oct)
def test_every_file_of_a_run_follows_the_umask(umask, tmp_path):
    before = os.umask(umask)
    try:
        folder = runs.RunFolder.create(tmp_path / "run")
        folder.set_status("running")
        folder.lock()
        folder.unlock()
        record = Record(folder.record_path)
        record.log(entry(1, 1.0))
        record.close()
        config.build(["ppo.gin"]).save(folder.path)
        state = state_of_one_seed()
        store = checkpoint.CheckpointStore(folder.path)
        store.save(1, state, {}, row=0)
        store.close()
        PhaseStore(tmp_path / "run" / "phases").add("k", {}, {"seconds": 1.0, "env_steps": 1}, state)
    finally:
        os.umask(before)
    paths = [folder.path, *folder.path.rglob("*")]
    names = {p.relative_to(folder.path).parts[0] for p in paths[1:]}
    assert names >= {
        "checkpoints",
        "artifacts",
        "metrics.jsonl",
        "status.json",
        ".lock",
        "config.gin",
        "sources",
        "phases",
    }
    for path in paths:
        wanted = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == wanted, (path, oct(path.stat().st_mode), oct(wanted))


def test_the_plugins_that_are_named_are_each_named_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GORL_PLUGINS", f"{tmp_path}/one.py,two")
    assert files.named_plugins(["one.py", "two"]) == (f"{tmp_path}/one.py", "two")
