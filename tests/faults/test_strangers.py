"""A stranger's folder is data: its text is shown and not obeyed, its links lead nowhere, and its files have an end."""

import ast
import json
import os
import pathlib
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from gorl import runs
from gorl.analysis import page
from gorl.cli import terminal
from gorl.errors import ConfigError, RunError
from gorl.pictures.album import Album
from gorl.runs import checkpoint, files
from gorl.runs.liveness import final_status
from gorl.runs.record import Record, read_entries
from gorl.runtime.streams import one_line, printable
from gorl.studies.folder import StudyFolder
from gorl.studies.plan import make_plan
from gorl.tracking import local
from gorl.tracking.tensorboard import TensorBoardTracker
from tests.support.commands import ROOT, answer
from tests.support.folder_fixtures import folder as folder, sound as sound
from tests.support.run_folders import info, make_run

EVIL = "\x1b]0;owned\x07[bold]\x9b31m\u202e$\\frac{$"


# ---- text ----


def test_what_a_terminal_would_obey_is_shown_as_its_code():
    assert printable("a\x1b[31mb\x07\x9d\x7f\rc") == r"a\x1b[31mb\x07\x9d\x7f\rc"
    assert printable("\u202eabc\u2028\udcff") == r"\u202eabc\u2028\udcff"
    assert printable("é · ± 数\n\tx") == "é · ± 数\n\tx"
    assert one_line("a\nb") == r"a\nb"


def test_a_console_takes_no_markup_and_no_escapes(capsys):
    from rich.table import Table

    table = Table("x[/b]", title=EVIL)
    table.add_row(f"{EVIL}[/red]", terminal.plain("a\nb"))
    terminal.console(width=100).print("[bold]:smile:[/nothing]\x1b[2J", table)
    said = capsys.readouterr().out
    assert "[bold]:smile:[/nothing]\\x1b[2J" in said and "x[/b]" in said and "[/red]" in said and r"a\nb" in said
    assert "\x1b" not in said and "\x07" not in said and "\u202e" not in said


def test_all_commands_print_by_way_of_the_terminal():
    for path in (ROOT / "gorl" / "cli").glob("*.py"):
        calls = {ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)}
        if path.name != "terminal.py":
            assert not calls & {"print", "typer.echo", "typer.secho", "Console", "rich.print"}, path.name


def test_words_of_a_folder_are_shown_by_inspect_and_report_as_they_are(folder):
    for name, entries in (
        ("run.json", {"study": EVIL, "created": EVIL, "gorl": EVIL}),
        ("status.json", {"status": EVIL}),
    ):
        known = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**known, **entries}))
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps({**line, "phase": EVIL, "metrics": {"return": 1.0, EVIL: 2.0}}) + "\n")
    for words in (["inspect", "run"], ["report", "run", "--repetitions", "100", "--out", "out"]):
        code, said = answer(*words)
        assert code == 0 and r"\x1b]0;owned" in said, said
        assert not set("\x1b\x07\x9b\u202e") & set(said)
    for written in ("report.md", "report.html"):
        assert not set("\x1b\x07\x9b\u202e") & set((folder.parent / "out" / written).read_text())


def test_a_page_escapes_controls_and_tags():
    blocks = [page.Table(("a",), (("<script>\x1b|\nx",),)), page.Listing((EVIL,))]
    html = page.html_page(EVIL, blocks, {})
    assert "&lt;script&gt;\\x1b|" in html and "\x1b" not in html and "\u202e" not in html
    assert page.markdown(blocks).splitlines()[2] == r"| <script>\x1b\|\nx |"


# ---- links, pipes and devices ----


def link(path: pathlib.Path) -> None:
    target = path.with_name(f"{path.name}-elsewhere")
    path.rename(target)
    path.symlink_to(target)


def pipe(path: pathlib.Path) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: pathlib.Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


READERS = {
    "inspect": ["inspect", "run"],
    "report": ["report", "run", "--repetitions", "100"],
    "evaluate": ["evaluate", "run"],
    "resume": ["train", "--resume", "run", "--no-aim"],
    "import": ["track", "import", "run", "--to", "tensorboard"],
}


@pytest.mark.parametrize("spoil", [link, pipe, device])
@pytest.mark.parametrize("name", ["run.json", "status.json", "metrics.jsonl", "config.gin", "checkpoints/x/y"])
def test_what_is_no_file_is_neither_opened_nor_followed(name, spoil, folder, sound):
    """`report` and an import need no checkpoint, and what would read it on a resume does nothing here."""
    for command, words in READERS.items():
        if name.startswith("checkpoints") and command in ("report", "import", "resume"):
            continue
        shutil.rmtree(folder)
        shutil.copytree(sound, folder)
        (folder / "checkpoints" / "x").mkdir(exist_ok=True)
        (folder / "checkpoints" / "x" / "y").touch()
        spoil(folder / name)
        code, said = answer(*words)
        is_missing = name == "run.json" and f"is not a {'' if command == 'report' else 'gorl '}run" in said
        assert code != 0
        assert is_missing or (f"run/{name} is a" in said and "do not trust the files" in said), (command, said)


def test_files_without_an_end_are_not_read_to_it(tmp_path):
    for name in ("run.json", "metrics.jsonl"):
        with open(tmp_path / name, "wb") as file:
            file.truncate(2**40)  # it takes no space
    with pytest.raises(RunError, match="run.json has more than 64 MiB"):
        runs.RunFolder.open(tmp_path)
    with pytest.raises(RunError, match="metrics.jsonl:1 is broken"):
        list(read_entries(tmp_path / "metrics.jsonl"))


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("name", ["run.json", "status.json", "metrics.jsonl", "aim.json"])
def test_deep_nesting_is_answered_in_one_line(name, folder):
    (folder / name).write_text(DEEP + "\n")
    for command, words in READERS.items():
        code, said = answer(*words)
        assert name in ("status.json", "aim.json") or command in ("inspect", "report") or code != 0
        assert len(said.splitlines()) < 60 and "[" * 300 not in said, command
    assert final_status(folder) in (None, "finished", "interrupted", "killed", "unknown")


def test_deep_nesting_in_a_study(tmp_path):
    (tmp_path / "study.json").write_text('{"variants": ' + DEEP + "}")
    for use in (StudyFolder.open, local.folders):
        with pytest.raises(RunError, match="nested too deeply"):
            use(tmp_path)


def test_a_dataset_that_would_grow_in_memory_is_not_read(tmp_path):
    (tmp_path / "artifacts").mkdir()
    np.savez_compressed(tmp_path / "artifacts" / "abc.npz", np.zeros(10**6))
    store = checkpoint.CheckpointStore(tmp_path)
    with pytest.raises(RunError, match="it is compressed"):
        store._fetch("abc", None)
    store.close()


# ---- writing ----


@pytest.fixture
def victim(tmp_path):
    """A folder and a file outside of the run, which stay as they are."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("mine")
    yield tmp_path / "victim"
    assert [p.name for p in (tmp_path / "victim").iterdir()] == ["file"]
    assert (tmp_path / "victim" / "file").read_text() == "mine"


def test_nothing_is_written_through_a_link(victim, tmp_path):
    run = make_run(tmp_path / "run") or tmp_path / "run"
    for name in (f"status.part{os.getpid()}", ".lock"):
        (run / name).symlink_to(victim / "file")
    runs.RunFolder(run).set_status("running")
    assert json.loads((run / "status.json").read_text()) == {"status": "running"}
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to(victim / "file")
    for name in ("pictures", "tensorboard", "artifacts"):
        (run / name).symlink_to(victim)
    album = Album([], run, [], set())
    refused = (
        runs.RunFolder(run).lock,
        lambda: Record(run / "metrics.jsonl"),
        lambda: checkpoint.CheckpointStore(run),
        lambda: album.draw("x", None, None),
        lambda: TensorBoardTracker(root=None, interval=1.0).folder(info(run)),
        lambda: local.pictures(run, []),
        lambda: files.inside(run, "pictures/file", "x"),
    )
    for use in refused:
        with pytest.raises(RunError, match="is a symbolic link"):
            use()


def test_a_report_replaces_a_link_and_does_not_write_through_it(victim, folder):
    (folder.parent / "report").mkdir()
    (folder.parent / "report" / "report.md").symlink_to(victim / "file")
    answer("report", "run", "--repetitions", "100")
    assert not (folder.parent / "report" / "report.md").is_symlink()


# ---- names ----


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/../../b", "..", ".", "a//b", "a\nb", "a\x1b"])
def test_the_name_of_a_study_stays_in_runs(name, tmp_path):
    file = tmp_path / "s.gin"
    file.write_text(f"include 'ppo.gin'\nStudy.name = {name!r}\nStudy.seeds = 1\n")
    with pytest.raises(ConfigError, match="s.gin:2: Study.name = .*--dir"):
        make_plan([str(file)])


def test_a_name_with_folders_and_brackets_is_one(tmp_path):
    (tmp_path / "s.gin").write_text("include 'ppo.gin'\nStudy.name = 'hopper/lr=[1e-3]'\nStudy.seeds = 1\n")
    assert make_plan([str(tmp_path / "s.gin")]).name == "hopper/lr=[1e-3]"


# ---- brackets ----


def test_a_path_may_have_every_character_that_a_glob_obeys(tmp_path):
    run = tmp_path / "lr=[1e-3]" / "a*b?[!x] {y}"
    run.mkdir(parents=True)
    store = checkpoint.CheckpointStore(run)
    for number in (1, 2, 3):
        store.save(number, {"x": jnp.full((1, 4), float(number))}, {}, row=0)
    assert store.newest() == [3, 2]
    np.testing.assert_array_equal(store.stored(3)["['x']"], np.full(4, 3.0))
    store.close()


def test_the_first_checkpoint_is_read_back_and_only_the_first(tmp_path, monkeypatch):
    store = checkpoint.CheckpointStore(tmp_path)
    read = []
    monkeypatch.setattr(store, "stored", read.append)
    for number in (1, 2):
        store.save(number, {"x": jnp.ones((1, 4))}, {}, row=0)
    assert read == [1]
    store.close()


def test_a_run_ends_where_its_first_checkpoint_cannot_be_read(tmp_path, monkeypatch):
    store = checkpoint.CheckpointStore(tmp_path)

    def unreadable(number):
        raise RunError("nothing is there")

    monkeypatch.setattr(store, "stored", unreadable)
    with pytest.raises(RunError, match="cannot be read back: nothing is there.*--run-dir"):
        store.save(1, {"x": jnp.ones((1, 4))}, {}, row=0)
    store.close()
