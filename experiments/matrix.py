"""Checks that every method runs on every task, from its first phase to its last, at debug sizes.

    python -m experiments.matrix --out experiments/results/matrix.json
    python -m experiments.matrix --methods ppo.gin --tasks CheetahRun --dry-run
    python -m experiments.matrix --set "PlaygroundEnvironment.impl = 'native'" --out ...     # no MJX to compile

Each pair is `gorl train METHOD parts/debug.gin parts/tasks/TASK.gin` in a separate process, compiled without
optimization, since nothing is learned. Pairs that `--out` contains already are not run again. The file is written
after every run, so the command can be stopped and started again; each result names its commit. Prints a Markdown
table.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import time

from gorl import config, runs
from gorl.config.files import shipped


def methods() -> list[str]:
    return [name for name in config.runnable_files(shipped()) if name != "quickstart.gin"]


def tasks() -> list[str]:
    return sorted(p.stem for p in (shipped() / "parts" / "tasks").glob("*.gin"))


def run(method: str, task: str, folder: pathlib.Path, bindings: list[str]) -> dict:
    """Trains one pair in a new folder below `folder`, and returns its result."""
    stages = ["--set", "Experiment.stages = [@stage0/Stage(), @stage2/Stage()]"] if method.startswith("gorl") else []
    target = folder / f"run{int(time.time())}"
    command = [
        sys.executable,
        "-m",
        "gorl.cli.main",
        "train",
        method,
        "parts/debug.gin",
        f"parts/tasks/{task}.gin",
        *stages,
        "--no-aim",
    ]
    command += [word for binding in bindings for word in ("--set", binding)]
    env = {**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()}
    began = time.monotonic()
    process = subprocess.run([*command, "--run-dir", str(target)], env=env, capture_output=True, text=True)
    result = {"method": method, "task": task, "exit": process.returncode, "seconds": round(time.monotonic() - began, 1)}
    result |= {"set": bindings} if bindings else {}
    status = target / "status.json"
    if process.returncode == 0 and status.exists():
        found = json.loads(status.read_text())
        commit = json.loads((target / "run.json").read_text())["git"]
        result |= {k: found[k] for k in ("status", "env_steps", "return_final_best")} | {
            "commit": commit and commit["commit"]
        }
    else:
        result["output"] = (process.stdout + process.stderr)[-500:]
    return result


def write(path: pathlib.Path, results: list[dict]) -> None:
    known = runs.facts()
    provenance = {k: known[k] for k in ("gorl", "versions", "device", "python")}
    results = sorted(results, key=lambda r: (r["task"], r["method"]))
    path.write_text(
        json.dumps({"command": "python -m experiments.matrix", "facts": provenance, "results": results}, indent=1)
        + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=methods())
    parser.add_argument("--tasks", nargs="+", default=tasks())
    parser.add_argument(
        "--work", type=pathlib.Path, default=pathlib.Path("runs/matrix"), help="where the runs are kept"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--set", action="append", default=[], dest="bindings", metavar="BINDING", help="a binding for every run"
    )
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    pairs = [(m, t) for t in args.tasks for m in args.methods]
    print(f"{len(args.methods)} methods x {len(args.tasks)} tasks = {len(pairs)} runs", flush=True)
    if args.dry_run:
        return
    results = json.loads(args.out.read_text())["results"] if args.out and args.out.exists() else []
    results = [r for r in results if r["exit"] == 0]
    done = {(r["method"], r["task"]) for r in results}
    with concurrent.futures.ThreadPoolExecutor(args.processes) as pool:
        futures = [
            pool.submit(run, m, t, args.work / f"{pathlib.Path(m).stem}-{t}", args.bindings)
            for m, t in pairs
            if (m, t) not in done
        ]
        for future in concurrent.futures.as_completed(futures):
            results.append(future.result())
            r = results[-1]
            print(
                f"[{len(results)}/{len(pairs)}] {r['method']} {r['task']}: {r.get('status', 'failed')} "
                f"in {r['seconds']:.0f} s",
                flush=True,
            )
            if args.out:
                write(args.out, results)
    print(f"| method | {' | '.join(args.tasks)} |\n|{'---|' * (len(args.tasks) + 1)}")
    found = {(r["method"], r["task"]): "runs" if r["exit"] == 0 else "FAILS" for r in results}
    for m in args.methods:
        print(f"| {m} | {' | '.join(found[m, t] for t in args.tasks)} |")
    sys.exit(any(r["exit"] for r in results))


if __name__ == "__main__":
    main()
