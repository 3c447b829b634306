"""What is recorded of the code that ran."""

import subprocess

from gorl.runs import provenance


def test_new_results_are_no_changes_of_the_code(tmp_path, monkeypatch):
    def git(*words):
        known = ["-c", "user.name=n", "-c", "user.email=e"]
        done = subprocess.run(["git", "-C", str(tmp_path), *known, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    (tmp_path / "gorl").mkdir()
    (tmp_path / "gorl" / "__init__.py").write_text("")
    (tmp_path / provenance.RESULTS).mkdir(parents=True)
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    monkeypatch.setattr(provenance, "HOME", tmp_path / "gorl")
    (tmp_path / provenance.RESULTS / "new.json").write_text("{}")
    git("add", ".")
    assert provenance._git() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "gorl" / "__init__.py").write_text("x = 1")
    assert provenance._git()["dirty"]
