"""Many epochs in one session: memory stays flat, and nothing is left behind.

SOAK_EPOCHS in the environment sets how many (40); `make test-faults` trains 100.
"""

import gc
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pyspark.sql import SparkSession

from spark_w2v.spark.training_state import Settings
from tests.support.planted import made, rows_of_text

EPOCHS = int(os.environ.get("SOAK_EPOCHS", "40"))
WARM = 10  # epochs after which nothing new has to be loaded
GROWTH = 1.05


class Footprint:
    """Resources of a session: bytes of its Python processes and of its JVM's living objects, files, cached blocks."""

    def __init__(self, spark: SparkSession) -> None:
        context = spark.sparkContext
        jvm = context._jvm
        assert jvm is not None
        # The JVM removes shuffles, broadcasts and cached blocks when it finds that nobody holds them any more.
        for _ in range(3):
            gc.collect()
            jvm.java.lang.System.gc()
            time.sleep(0.5)
        runtime = jvm.java.lang.Runtime.getRuntime()
        self.heap = runtime.totalMemory() - runtime.freeMemory()
        self.driver = psutil.Process().memory_full_info().uss
        gateway: Any = context._gateway
        java = psutil.Process(gateway.proc.pid)  # other tests of this process may have started more of them
        # spark-class leaves the process that made its command line, which nobody waits for.
        living = [child for child in java.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
        workers = [child for child in living if "pyspark.worker" in child.cmdline()]
        self.workers = max(worker.memory_full_info().uss for worker in workers)
        self.worker_count = len(workers)
        self.files = files_of(Path(str(context._temp_dir))) | files_of(
            Path(context.getConf().get("spark.local.dir", ""))
        )
        infos = context._jsc.sc().getRDDStorageInfo()
        self.cached = len(infos)


def files_of(directory: Path) -> set[str]:
    return {os.path.join(root, name) for root, _, names in os.walk(directory) for name in names}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scheme", ["blocks", "replicas"])
def test_many_epochs_leave_memory_flat_and_nothing_behind(spark: SparkSession, tmp_path: Path, scheme: str) -> None:
    rows = rows_of_text(segments=4, sentences=200)
    settings: dict[str, Any] = {
        "scheme": scheme, "partitions": 2, "dimensions": 100, "window": 2, "negatives": 2, "epochs": 1000,
        "learning_rate": 0.05, "slices": 2, "subsample": 0.0, "noise_exponent": 0.75, "damping": 0.1, "seed": 1,
        "held_out_words": 0,
    }  # fmt: skip
    training = made(spark, tmp_path, Settings(**settings), 2, rows)
    before: Footprint | None = None
    feet: list[Footprint] = []
    run = training.run()
    for number, progress in enumerate((progress for progress in run if progress.metrics), 1):
        assert np.isfinite(progress.loss or 0.0)
        if number in (WARM, EPOCHS) or number % 25 == 0:
            feet.append(Footprint(spark))
            before = before or feet[0]
            print(number, vars(feet[-1]) | {"files": len(feet[-1].files)})
        if number == EPOCHS:
            break
    run.close()  # type: ignore[attr-defined]
    assert before is not None
    last = feet[-1]
    assert last.driver <= before.driver * GROWTH
    assert last.workers <= before.workers * GROWTH
    assert last.heap <= before.heap * GROWTH
    assert last.worker_count <= before.worker_count
    # Shuffles of the epoch that is going on; those before are gone.
    assert len(last.files) <= len(before.files) + 2
    assert last.cached <= before.cached
    left = Footprint(spark)
    assert len(left.files) <= len(before.files)
