"""Resources that an epoch uses, checked before it begins."""

import subprocess
import sys

import pytest

LIMITS = """
import resource
from spark_w2v.spark.slots import OTHER_FILES, allow_connections
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
hard = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
allow_connections(300 - OTHER_FILES)
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (300, hard), "enough already"
allow_connections(300)
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (300 + OTHER_FILES, hard)
allow_connections(hard)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_the_limit_of_open_files_is_raised_or_the_run_refused() -> None:
    # In a process of its own, as the limit holds for all of it.
    ended = subprocess.run([sys.executable, "-c", LIMITS], capture_output=True, text=True, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert "UserError" in last or "ConfigError" in last, ended.stderr
    assert (
        "the driver has a connection with each of 4,096 tasks, and may have 4,096 open files; raise its limit" in last
    )
