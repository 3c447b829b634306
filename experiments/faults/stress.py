"""Tests trackers, records and runs under heavy load: their speed, their memory, and whether everything is stored.

    python -m experiments.faults.stress --out experiments/results/stress.json
    python -m experiments.faults.stress --only record --only memory

Each part is bounded in count and, by --seconds, in time, and listens on this machine only. Times depend on the
machine's other load.
"""

import argparse
import gc
import json
import os
import pathlib
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from gorl.runs.record import Record, RecordEntry, read
from gorl.tracking.base import RunInfo

TOY = ["ppo.gin", "parts/debug.gin", "--set", "Task.environment = @Slider()", "--no-aim"]
MIB = 1024**2


def entry(unit: int, metrics: dict[str, float]) -> RecordEntry:
    return RecordEntry(unit, 0, "ImprovePolicy", "evaluate", "eval", "env_steps", 100 * unit, 0.5 * unit, metrics)


def describe(folder: pathlib.Path) -> RunInfo:
    """Returns the information about a run without a configuration, and makes its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"environment": {"name": "none"}}
    more = {"parameters": {}, "config": "", "facts": facts, "resumed": False}
    return RunInfo(folder=str(folder), name=folder.name, study="stress", variant=None, axes={}, seed=0, **more)


def track(folder: pathlib.Path, repo: pathlib.Path, entries: list[RecordEntry]) -> None:
    """Writes one whole run to its record and to Aim."""
    from gorl.tracking.aim import AimTracker

    run, record = (
        AimTracker(repo=str(repo), interval=0.05, experiment=None).start(describe(folder)),
        Record(folder / "metrics.jsonl"),
    )
    for each in entries:
        record.log(each)
        run.log(each)
    record.close()
    run.close("finished", {})
    if run.failed:
        raise RuntimeError(f"Aim does not have all entries of {folder}.")


def returns(repo: pathlib.Path) -> list[list[float]]:
    """Returns the series `return` of every run in a repository, sorted."""
    from aim import Repo

    from gorl.tracking import aim_repository

    # As `gorl browse` does: runs that end at the same time are all written, but some find the index locked.
    aim_repository.index(repo)
    return sorted(
        m.data.numpy()[1][0].tolist() for m in Repo(str(repo)).query_metrics("metric.name == 'return'", report_mode=0)
    )


def keys(folder: pathlib.Path, count: int = 3000, units: int = 5) -> dict[str, Any]:
    """Tests a run with thousands of metrics."""
    from rich.console import Console

    from gorl import config
    from gorl.cli.display import ConsoleDisplay

    entries = [
        entry(i, {"return": float(i), **{f"part{k}/value": k / 7 for k in range(count - 1)}}) for i in range(units)
    ]
    record, seconds = Record(folder / "metrics.jsonl"), {}
    seconds["record"] = timed(lambda: [record.log(e) for e in entries] and record.close())
    bindings = ["Task.environment = @Slider()"]
    display = ConsoleDisplay(
        config.build(["ppo.gin", "parts/debug.gin"], bindings).experiment, Console(file=open(os.devnull, "w"))
    )
    seconds["console"] = timed(lambda: [display.entry(e) for e in entries])
    seconds["aim"] = timed(lambda: track(folder / "run", folder / "repo", entries))
    whole = list(read(folder / "metrics.jsonl")) == entries and returns(folder / "repo") == [
        [float(i) for i in range(units)]
    ]
    return {
        "keys": count,
        "units": units,
        "whole": whole,
        **{f"{name}_s_a_unit": round(s / units, 4) for name, s in seconds.items()},
    }


def record(folder: pathlib.Path, lines: int = 1_000_000) -> dict[str, Any]:
    """Tests a record of `lines` lines: writes it, rewinds it as a resume does, and reads it as a report does."""
    from gorl.analysis.naming import load_results
    from gorl.runs.provenance import FORMAT

    facts = {"format": FORMAT, "study": "s", "name": "r", "seed": 0, "environment": {"name": "none"}}
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "status.json").write_text('{"status": "finished"}')
    one = Record(folder / "metrics.jsonl")

    def write() -> None:
        for i in range(lines):
            one.log(
                RecordEntry(
                    i,
                    0,
                    "ImprovePolicy",
                    "iterate",
                    "train" if i % 100 else "eval",
                    "env_steps",
                    i,
                    i / 10,
                    {"return": float(i), "loss/value": 0.1},
                )
            )

    write_s = timed(write)
    position = one.position()
    one.log(entry(lines, {"return": 0.0}))
    one.close()
    again, before = Record(folder / "metrics.jsonl"), peak()
    rewind_s = timed(lambda: again.rewind(position))
    again.close()
    found: list[Any] = []
    report_s = timed(lambda: found.extend(load_results([folder])[0]))
    whole = found[0].env_steps == lines - 1 and len(found[0].evaluations) == (lines + 99) // 100
    return {
        "lines": lines,
        "mib": round(position / MIB, 1),
        "lines_written_a_s": round(lines / write_s),
        "rewind_s": round(rewind_s, 4),
        "report_s": round(report_s, 2),
        "report_peak_mib": round(peak() - before, 1),
        "whole": whole,
    }


def runs(folder: pathlib.Path, count: int = 500, seconds: float = 600.0) -> dict[str, Any]:
    """Tests many runs in one Aim repository, and whether it shows all of them."""
    took, began = [], time.monotonic()
    while len(took) < count and time.monotonic() - began < seconds:
        i = len(took)
        took.append(
            timed(lambda i=i: track(folder / f"run{i}", folder, [entry(u, {"return": float(i)}) for u in range(3)]))
        )
        gc.collect()
    answered = browse(folder)
    whole = returns(folder) == sorted([float(i)] * 3 for i in range(len(took)))
    first, last = (statistics.median(part) for part in (took[1:11], took[-10:]))  # the first run makes the repository
    return {
        "runs": len(took),
        "asked_for": count,
        "first_s": round(took[0], 3),
        "median_s_of_2nd_to_11th": round(first, 3),
        "median_s_of_last_10": round(last, 3),
        "browse_answers_s": round(answered, 2),
        "whole": whole,
    }


def browse(repo: pathlib.Path, patience: float = 300.0) -> float:
    """Returns the seconds until `gorl browse` answers a request for all runs. Raises TimeoutError."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    process = subprocess.Popen(gorl("browse", "--repo", str(repo), "--port", str(port)), stdout=subprocess.DEVNULL)
    try:
        while time.monotonic() - began < patience:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/runs/search/run/", timeout=60) as answer:
                    if answer.status == 200 and answer.read(1):
                        return time.monotonic() - began
            except OSError:
                time.sleep(0.2)
        raise TimeoutError(f"gorl browse did not answer within {patience} s.")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


WRITERS = """
import multiprocessing, pathlib, sys
sys.path.insert(0, sys.argv[3])
import gorl.tracking.aim, gorl.tracking.background
from experiments.faults import stress
# With so many open at once, the last one waits longer than a run would. The test is whether all of them are stored.
gorl.tracking.background.PATIENCE = 600.0
def work(i):
    entries = [stress.entry(u, {"return": float(i), "x": 1 / 3}) for u in range(int(sys.argv[4]))]
    stress.track(root / f"run{i}", root / "repo", entries)
root = pathlib.Path(sys.argv[1])
children = [multiprocessing.get_context("fork").Process(target=work, args=(i,)) for i in range(int(sys.argv[2]))]
for child in children: child.start()
for child in children: child.join()
sys.exit(any(child.exitcode for child in children))
"""


def writers(folder: pathlib.Path, count: int = 64, entries: int = 20) -> dict[str, Any]:
    """Tests forked processes, which start no device and all write at once to a repository that does not exist yet."""
    here = str(pathlib.Path(__file__).parents[2])
    command = [sys.executable, "-c", WRITERS, str(folder), str(count), here, str(entries)]
    took = timed(lambda: subprocess.run(command, check=True, timeout=900))
    records = [len(list(read(folder / f"run{i}" / "metrics.jsonl"))) for i in range(count)]
    tracked = returns(folder / "repo")
    return {
        "writers": count,
        "entries_each": entries,
        "seconds": round(took, 2),
        "records_whole": records.count(entries),
        "in_aim_whole": sum([float(i)] * entries in tracked for i in range(count)),
        "whole": records == [entries] * count and tracked == sorted([float(i)] * entries for i in range(count)),
    }


def together(folder: pathlib.Path, count: int = 4) -> dict[str, Any]:
    """Tests whether the records of real runs are the same when they run alone and all at once."""
    start = lambda where, seed: subprocess.Popen(  # noqa: E731
        gorl("train", *TOY, "--set", f"SEED = {seed}", "--run-dir", str(folder / f"{where}{seed}")),
        stdout=subprocess.DEVNULL,
    )
    alone_s = timed(lambda: [start("alone", seed).wait() for seed in range(count)])
    together_s = timed(lambda: [process.wait() for process in [start("together", seed) for seed in range(count)]])
    values = lambda where, seed: [
        (e.unit, e.env_steps, sorted(e.metrics.items())) for e in read(folder / f"{where}{seed}" / "metrics.jsonl")
    ]
    same = [
        repr(values("alone", s)) == repr(values("together", s)) and len(values("alone", s)) > 3 for s in range(count)
    ]
    return {"runs": count, "alone_s": round(alone_s, 1), "together_s": round(together_s, 1), "equal": same}


def memory(folder: pathlib.Path, seconds: float = 180.0) -> dict[str, Any]:
    """Measures how the resident memory of one long run grows with its units, as the slope of its second half."""
    steps = ["--set", "TOTAL_STEPS = 20_000_000", "--set", "Experiment.checkpoint_interval = 5.0"]
    process = subprocess.Popen(
        gorl("train", *TOY, *steps, "--run-dir", str(folder / "run")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    path, size, units, samples = folder / "run" / "metrics.jsonl", 0, 0, []
    began = time.monotonic()
    while time.monotonic() - began < seconds and process.poll() is None:
        time.sleep(1.0)
        if path.exists():
            with open(path, "rb") as file:
                file.seek(size)
                new = file.read()
            size, units = size + len(new), units + new.count(b"\n")
            samples.append((units, resident(process.pid)))
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=120)
    half = samples[len(samples) // 2 :]
    if process.returncode != 128 + signal.SIGTERM or len(half) < 10:
        raise RuntimeError(f"the long run failed (exit code {process.returncode}, {len(samples)} samples).")
    slope = statistics.linear_regression(*zip(*half)).slope
    return {
        "seconds": round(seconds),
        "units": units,
        "exit": process.returncode,
        "mib_at_half": round(half[0][1], 1),
        "mib_at_end": round(half[-1][1], 1),
        "units_at_half": half[0][0],
        "mib_per_1000_units": round(1000 * slope, 3),
    }


def gorl(*words: str) -> list[str]:
    return [sys.executable, "-m", "gorl.cli.main", *words]


def timed(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def peak() -> float:
    """Returns the peak resident memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident(pid: int) -> float:
    """Returns the resident memory of a process, in MiB."""
    fields = pathlib.Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize() / MIB


PARTS = {f.__name__: f for f in (keys, record, writers, together, memory, runs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS)
    parser.add_argument(
        "--seconds", type=float, default=180.0, help="the time of the long run, and the limit for adding runs to Aim"
    )
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    from experiments.benchmarks.provenance import provenance

    results = json.loads(args.out.read_text())["results"] if args.out and args.out.exists() else {}
    bounds = {"memory": {"seconds": args.seconds}, "runs": {"seconds": args.seconds}}
    for name in args.only or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = PARTS[name](pathlib.Path(folder), **bounds.get(name, {}))
        load = round(os.getloadavg()[0], 1)
        results[name] |= {"load_average": load}
        print(name, json.dumps(results[name]), flush=True)
        if args.out:
            note = "the machine was shared with other work: times are upper bounds"
            known = {**provenance(), "command": ["python", "-m", "experiments.faults.stress"], "note": note}
            args.out.write_text(json.dumps({**known, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
