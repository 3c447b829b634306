"""Forecasts of sweeps: the runs, environment steps, shared phases and estimated time."""

import dataclasses
import pathlib
from collections.abc import Iterator

from gorl.cli.clock import clock
from gorl.config import Configuration
from gorl.reuse.explain import Estimator
from gorl.reuse.identity import identities
from gorl.reuse.store import PhaseStore, default_store
from gorl.studies.plan import Plan


@dataclasses.dataclass
class _Count:
    """Totals over the phases of one variant's jobs, or of all jobs."""

    env_steps: int = 0  # environment steps without any reuse
    computed: int = 0  # environment steps that will be taken
    phases: int = 0
    shared: int = 0  # phases that another run of the study computes
    stored: int = 0  # phases that an earlier run has computed
    seconds: float = 0.0
    unknown: int = 0  # phases to compute whose time is unknown

    def add(self, other: "_Count") -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


def lines(plan: Plan, path: pathlib.Path, reuse: bool) -> Iterator[str]:
    """Yields the lines of the forecast. Trains nothing, but starts the device, on whose kind reuse depends."""
    store = default_store()
    estimator = Estimator(store.entries())
    groups = [plan.seeds] if plan.seeds_together else [(seed,) for seed in plan.seeds]
    seen: set[str] = set()
    rows, total = [("variant", "stages", "env steps a seed", "to compute", "phases", "shared", "stored")], _Count()
    for variant, program in ((v, p) for p in plan.programs for v in p):
        count, is_alone = _Count(), len(program) == 1
        for seeds in groups if is_alone else [plan.seeds]:
            reusable = store if reuse and is_alone else None
            times = estimator if is_alone else Estimator([])
            count.add(_count_job(variant.configuration, seeds, reusable, times, seen))
        total.add(count)
        stages = str(len(variant.configuration.experiment.stages))
        env_steps, computed = f"{variant.configuration.experiment.env_steps():,}", f"{count.computed:,}"
        reused = (str(count.phases), str(count.shared), str(count.stored))
        rows.append((variant.name, stages, env_steps, computed, *reused))
    runs, seeds = len(plan.variants) * len(plan.seeds), len(plan.seeds)
    together = " in one program" if plan.seeds_together and seeds > 1 else ""
    yield (
        f"study {plan.name}: {len(plan.variants)} variants x {seeds} seed{'s' * (seeds > 1)}{together}"
        f" = {runs} runs, in {path}"
    )
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        yield "  " + "  ".join(f"{cell:{'<' if i == 0 else '>'}{widths[i]}}" for i, cell in enumerate(row)).rstrip()
    for names in (", ".join(v.name for v in p) for p in plan.programs if len(p) > 1):
        yield f"in one program, with all seeds: {names}"
    yield f"env steps: {total.computed:,} to compute of {total.env_steps:,}" + (
        "" if reuse else " (nothing is shared: --no-reuse)"
    )
    yield _time(total)
    if any(v.configuration.experiment.may_take_fewer for v in plan.variants):
        yield "rules and budgets may end stages early, so steps and time are at most these."
    halving = plan.sweep.halving
    if halving is not None:
        after = ", ".join(map(str, halving.after))
        yield (
            f"successive halving: after {after} stages the best {halving.keep:.0%} by {halving.score} continue,"
            " so this is the most that will run."
        )


def _count_job(
    configuration: Configuration,
    seeds: tuple[int, ...],
    store: PhaseStore | None,
    estimator: Estimator,
    seen: set[str],
) -> _Count:
    """Returns the totals of one job, and adds the keys of the phases that it computes to `seen`.

    `store`: None if the job reuses nothing.
    """
    count, experiment = _Count(), configuration.experiment
    left = experiment.env_steps()  # less than the phases' sum if there is a budget
    for planned, identity in zip(experiment.planned_phases(), identities(configuration, seeds), strict=True):
        taken = min(left, sum(unit.env_steps for unit in experiment.units(planned)))
        left, steps = left - taken, taken * len(seeds)
        count.env_steps += steps
        count.phases += 1
        if store is not None and store.has(identity.key):
            count.stored += 1
        elif store is not None and identity.key in seen:
            count.shared += 1
        else:
            seen.add(identity.key)
            count.computed += steps
            seconds = estimator.seconds(identity, steps // len(seeds))
            count.unknown += seconds is None
            count.seconds += seconds or 0.0
    return count


def _time(total: _Count) -> str:
    computed = total.phases - total.shared - total.stored
    if total.unknown == computed:
        return "estimated time: " + (
            "none, everything is stored"
            if computed == 0
            else "unknown, no such phase has been measured on this machine"
        )
    rest = f", and {total.unknown} of {computed} phases of which none has been measured" if total.unknown else ""
    return f"estimated time: {clock(total.seconds)} of one worker{rest}"
