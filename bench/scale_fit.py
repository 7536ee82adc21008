"""The model of bench.scale, fitted to what was measured."""

from collections.abc import Sequence
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np

from bench.costs import (
    Constants,
    Model,
    Parts,
    Sample,
    Trained,
    Training,
    fit,
    fit_kernel,
    kernel_seconds,
    predict,
    spread_of,
    train,
    waiting,
)
from bench.scale_cases import CORES, Case
from bench.singles import DIMENSIONS, Single, single_work, typical
from bench.synthetic import zipf_counts
from bench.work import Work, work_of
from spark_w2v.spark.memory import Need, needed


class Told(NamedTuple):
    """A run, or those of one case, next to what the model says of it; each measured value is a median."""

    case: Case
    work: Work
    runs: list[dict[str, Any]]
    parts: Parts
    predicted: Parts
    training: Training

    def of(self, name: str) -> float:
        """A field of the runs, or of their epoch."""
        return float(median(run[name] if name in run else run["epoch"][name] for run in self.runs))

    @property
    def whole(self) -> float:
        """Seconds of the run that are predicted."""
        return self.predicted["prepare"] + self.training.seconds + self.predicted["rest"]

    @property
    def waits(self) -> float:
        """Seconds that a task waits for parameters and blocks."""
        return self.of("wait_seconds") / self.of("tasks")

    @property
    def predicted_waits(self) -> float:
        """The same, predicted: cores without a task do not count here."""
        t, w = self.training, self.work
        return t.exchange + t.waiting - (t.kernel + t.take) * (w.cores / w.tasks - 1)

    @property
    def need(self) -> Need:
        """Memory that the check of the job asks for."""
        w = self.work
        return needed(w.vocabulary, w.dimensions, w.blocks, "blocks", w.pairs, w.tasks, w.snapshots)


class ToldSingle(NamedTuple):
    """Buckets of one kind, measured and predicted.

    Args:
        seconds: of one, in the mean of all cores.
        spread: standard deviation of a bucket's seconds, as a share of them, in the mean of the cores.
        predicted: seconds of one.
    """

    single: Single
    work: Work
    seconds: float
    spread: float
    predicted: float


def work_of_case(case: Case, counts: list[list[int]] | None) -> Work:
    """Work of a run on this machine."""
    known = (
        zipf_counts(case.words, case.vocabulary) if counts is None else np.repeat(np.array(counts[0]), counts[1])[::-1]
    )
    return work_of(known, case.dimensions, case.blocks, CORES, snapshots=case.snapshots, sweeps=case.sweeps or None)


def parts_of(
    run: dict[str, Any], work: Work, constants: Constants | None = None, spreads: Sequence[tuple[float, float]] = ()
) -> Parts:
    """Return what a run recorded of its parts.

    Args:
        constants: of the kernel and of taking pairs; without them, what tasks wait is not divided.
    """
    epoch = run["epoch"]
    take = epoch["pair_seconds"] - epoch["draw_seconds"]
    tasks = epoch["tasks"]
    waits = epoch["wait_seconds"] / tasks
    if constants is not None:
        # Buckets differ in the simulation, so that what tasks wait for that is no price of the blocks' way.
        waits -= waiting(work, constants, CORES, spread_of(work, constants["kernel"], spreads))
    return {
        "kernel": epoch["kernel_seconds"],
        "take": take,
        "draw": run["drawing_seconds"],
        "start": epoch["seconds"]
        - run["drawing_seconds"] * work.draw_span
        - (epoch["kernel_seconds"] + take + epoch["wait_seconds"]) / tasks,
        "exchange": waits,
        "prepare": run["prepare_seconds"],
        "rest": run["seconds"] - run["prepare_seconds"] - epoch["seconds"],
        "shuffled": run["shuffled_bytes"],
    }


def told(found: dict[str, Any]) -> tuple[list[Told], list[ToldSingle], Model]:
    """The runs by case, the single buckets, and the constants of those that are fitted."""
    cases = list(dict.fromkeys(Case(**run["case"]) for run in found["runs"]))
    mine = [[run for run in found["runs"] if Case(**run["case"]) == case] for case in cases]
    works = [work_of_case(case, some[0]["counts"]) for case, some in zip(cases, mine, strict=True)]
    singles = [
        (Single(**one["single"]), np.array(one["buckets"][0] + one["buckets"][1]), one) for one in found["singles"]
    ]
    of_singles = [typical(single_work(single)) for single, _, _ in singles]
    # The kernels do the same work on a cluster, of which the runs on one machine tell more; all else differs.
    alone: list[tuple[Trained, float]] = [
        (work, float(median(run["epoch"]["kernel_seconds"] for run in some)))
        for case, work, some in zip(cases, works, mine, strict=True)
        if case.fitted and not case.cluster
    ]
    alone += [
        (Sample(each, DIMENSIONS), float(values[:, 1].mean()))
        for (single, values, _), each in zip(singles, of_singles, strict=True)
        if single.fitted
    ]
    kernel = fit_kernel(alone)
    told_singles = [
        ToldSingle(
            single, single_work(single), float(values[:, 1].mean()),
            mean(float(np.std(core, axis=0)[1] / np.mean(core, axis=0)[1]) for core in one["buckets"]),
            kernel_seconds(Sample(each, DIMENSIONS), kernel),
        )
        for (single, values, one), each in zip(singles, of_singles, strict=True)
    ]  # fmt: skip
    spreads = sorted((one.seconds, one.spread) for one in told_singles)
    constants = []
    for cluster in (False, True):
        some = [(c, w, r) for c, w, r in zip(cases, works, mine, strict=True) if c.fitted and c.cluster is cluster]
        # What a task waits for others follows from the other parts, so it is fitted last.
        record = found["record_seconds"] if cluster else 0.0  # in local mode pairs do not go through the shuffle
        first = fit([(work, median_parts(runs, work)) for _, work, runs in some], record)
        first["kernel"] = kernel
        again = fit([(work, median_parts(runs, work, first, spreads)) for _, work, runs in some], record)
        constants.append(again | {"kernel": kernel})
    model = Model(constants[0], constants[1], spreads)
    all_told = []
    for case, work, runs in zip(cases, works, mine, strict=True):
        own = model.cluster if case.cluster else model.machine
        trained = train(work, own, model.spread(work), CORES, 0.0)
        all_told.append(Told(case, work, runs, median_parts(runs, work, own, spreads), predict(work, own), trained))
    return all_told, told_singles, model


def median_parts(
    runs: Sequence[dict[str, Any]],
    work: Work,
    constants: Constants | None = None,
    spreads: Sequence[tuple[float, float]] = (),
) -> Parts:
    parts = [parts_of(run, work, constants, spreads) for run in runs]
    return {part: float(median(one[part] for one in parts)) for part in parts[0]}
