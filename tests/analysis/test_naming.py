"""One name for one method and one task: nothing that differs is averaged, and what is the same is."""

from gorl.analysis.naming import load_results, notes
from tests.support.run_folders import make_run, make_study

CONFIG = """
LR = {lr}
Experiment:
  decoder = @{decoder}
  seed = {seed}
  trackers = [{tracker}]
  checkpoint_interval = {interval}
OnPolicy:
  learning_rate = %LR
  discount = {discount}
Task.environment = @Robot()
Robot:
  xml = '{xml}'
  impl = '{impl}'
  threads = {threads}
"""
SAME = {
    "lr": 0.001, "decoder": "IdentityDecoder", "seed": 0, "tracker": "@AimTracker()", "interval": 60.0,
    "discount": 0.99, "xml": "robot.xml", "impl": "jax", "threads": 1,
}  # fmt: skip


def run(folder, *, seed=0, task="Robot", environment=None, facts=None, **changes):
    config = CONFIG.format(**SAME | {"seed": seed} | changes)
    if "AimTracker" in config:
        config += f"AimTracker.interval = {2.0 + seed}\n"
    about = {"name": task, "impl": changes.get("impl", "jax"), **(environment or {})}
    return make_run(folder, seed=seed, config=config, final_best=1.0, environment=about, **(facts or {}))


def methods(*folders):
    return [r.method for r in load_results(folders)[0]]


def test_seeds_of_one_method_have_one_name_whatever_only_watches_them(tmp_path):
    a = run(tmp_path / "a")
    b = run(tmp_path / "b", seed=1, interval=5.0, threads=2, xml="elsewhere/robot.xml")
    c = run(tmp_path / "c", seed=2, tracker="")
    assert methods(a, b, c) == ["ppo"] * 3


def test_settings_that_differ_tell_methods_apart(tmp_path):
    a, b = run(tmp_path / "a"), run(tmp_path / "b", seed=1, lr=0.5)
    c = run(tmp_path / "c", seed=2, lr=0.5)
    assert methods(a, b, c) == ["ppo (learning_rate = 0.001)", "ppo (learning_rate = 0.5)", "ppo (learning_rate = 0.5)"]


def test_physics_a_decoder_and_a_plugin_tell_methods_apart(tmp_path):
    plugin = lambda sha: {"plugin_files": {"mine.py": {"mine.py": sha, "parts/net.py": "0"}}}
    a = run(tmp_path / "a", facts=plugin("1"))
    for i, other in enumerate(
        ({"impl": "native", "facts": plugin("1")}, {"decoder": "Flow", "facts": plugin("1")}, {"facts": plugin("2")})
    ):
        names = methods(a, run(tmp_path / f"b{i}", seed=1, **other))
        assert len(set(names)) == 2, other
    assert methods(a, run(tmp_path / "same", seed=1, facts=plugin("1"))) == ["ppo", "ppo"]


def test_many_differences_are_named_by_the_files_that_were_asked_for(tmp_path):
    changes = {"lr": 0.5, "decoder": "Flow", "discount": 0.9}
    asked = lambda *words: {"facts": {"asked": list(words)}}
    a = run(tmp_path / "a", **asked("ppo.gin", "parts/small.gin"))
    b = run(tmp_path / "b", seed=1, impl="native", **changes, **asked("ppo.gin", "parts/small.gin", "mine/flow.gin"))
    assert methods(a, b) == ["ppo (nothing more)", "ppo (flow)"]
    c = run(tmp_path / "c", seed=1, impl="native", **changes, **asked("ppo.gin", "parts/small.gin"))
    named = methods(a, c)
    assert len(set(named)) == 2 and all("decoder = " in name for name in named)


def test_tasks_of_one_name_with_other_models_are_two_tasks(tmp_path):
    a = run(tmp_path / "a", environment={"model_sha256": "1"})
    b = run(tmp_path / "b", seed=1, environment={"model_sha256": "2"})
    c = run(tmp_path / "c", seed=1, environment={"model_sha256": "1"})
    tasks = [r.task for r in load_results([a, b, c])[0]]
    assert tasks[0] == tasks[2] != tasks[1] and all(task.startswith("Robot (") for task in tasks)


def test_settings_that_differ_between_tasks_are_said_and_split_nothing(tmp_path):
    a = run(tmp_path / "a", task="One")
    b = run(tmp_path / "b", task="Two", discount=0.95)
    runs, _ = load_results([a, b])
    assert [r.method for r in runs] == ["ppo", "ppo"]
    assert notes(runs) == ["ppo has not the same settings on all tasks: discount is 0.99 on One, 0.95 on Two."]
    assert notes(load_results([a, run(tmp_path / "c", task="Two")])[0]) == []


def test_a_variant_whose_runs_are_not_the_same_is_split(tmp_path):
    study = make_study(tmp_path / "s", ["flow"], [0, 1])
    for seed, plugin in ((0, "1"), (1, "2")):
        run(
            study / "flow" / f"seed{seed}",
            seed=seed,
            facts={"variant": "flow", "plugin_files": {"p": {"p.py": plugin}}},
        )
    names = [r.method for r in load_results([study])[0]]
    assert len(set(names)) == 2 and all(name.startswith("flow (") for name in names)


def test_a_run_whose_configuration_is_unreadable_keeps_its_name(tmp_path):
    a, b = run(tmp_path / "a"), run(tmp_path / "b", seed=1, lr=0.5)
    (b / "operative_config.gin").write_text("[" * 10_000)
    assert methods(a, b) == ["ppo", "ppo"]
