"""Names of what runs write: nothing else is ever removed or overwritten."""

import re
from pathlib import Path

from spark_w2v.runs import parameter_files

# Files of an output, also of jobs/report.py, as files.strangers takes them. Parts of earlier versions had no tag.
OUTPUT = re.compile(
    r"_SUCCESS|run\.json|metrics\.jsonl|report\.html|\.report\.html\.[0-9a-f]{8}"
    r"|(?:embeddings|context|vocabulary|phrases|rare_windows)/(?:part-[0-9]{5}(?:-[0-9a-f]{16})?\.parquet)?"
)
# Likewise into a working directory.
WORKING = re.compile(
    r"lock|metrics\.jsonl"
    rf"|checkpoints/(?:(?:[0-9]{{8}}|\.[^/]+\.unfinished)/(?:{parameter_files.WRITTEN.pattern})?)?"
    rf"|(?:staged(?:\.[0-9a-f]{{32}})?|replaced)/(?:{OUTPUT.pattern})?"
)
# Files that were removed while somebody had them open, as NFS and FUSE name them until they are closed.
STILL_OPEN = re.compile(r"(?:.*/)?\.(?:nfs|fuse_hidden)[0-9a-f]+")
ANY_CHECKPOINT = re.compile(r"checkpoints/[0-9]{8}/[^/]+")  # another version's may have other files
# Names that every file system, shell and reader accepts: Spark accepts no colon in a path, and Hadoop hides files whose
# names begin with a dot or an underscore.
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
PENDING = ".pending"  # ends the names of files that say that current has yet to be moved to a run
FINISHED = {"_SUCCESS", "run.json"}  # what every finished output has


def is_later(run_id: str, than: str) -> bool:
    """Whether a run id is a later date than another: of the same form, and sorts after it.

    A letter after the last digit, as of a date that is trained again, is not part of the form.
    """
    one, other = (re.sub("[0-9]", "0", re.sub("(?<=[0-9])[A-Za-z]$", "", name)) for name in (run_id, than))
    return one == other and run_id > than


def marker_of(run: Path) -> Path:
    """The file that says that current has yet to be moved to a run."""
    return run.with_name(f".{run.name}{PENDING}")
