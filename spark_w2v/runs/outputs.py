"""The place that a run writes to: a directory of this host, or of a store."""

from spark_w2v.runs import ids
from spark_w2v.runs.local import LocalOutput
from spark_w2v.runs.places import is_local, local_path
from spark_w2v.runs.stored import StoredOutput

Output = LocalOutput | StoredOutput


def output_of(output: str, run_id: str | None = None, *, move_pointer: bool = True, keep_runs: int = 0) -> Output:
    """Return the place that a run writes to.

    Args:
        output: a path or a URI.
        run_id: of the run, in a directory of runs.
        move_pointer: whether readers get it, for an output in a store.
        keep_runs: finished runs that stay there when it is published; 0 for all with an id.
    """
    if is_local(output):
        path = output if run_id is None else ids.output_of(output, run_id)
        return LocalOutput(path, local_path(path))
    if run_id is not None:
        ids.check_run_id(run_id)
    return StoredOutput(output, run_id, move_pointer=move_pointer, keep_runs=keep_runs)
