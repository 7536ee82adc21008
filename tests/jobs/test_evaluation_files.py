"""Files of an evaluation that no layout fits."""

from pathlib import Path

import numpy as np

from spark_w2v.analysis import evaluation
from tests.support.evaluation import space_of


def test_a_carriage_return_inside_of_a_quoted_line_is_not_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "pairs"
    path.write_bytes(b'a,b,1\n"a"\rx,"b",2\n')
    found = evaluation.similarity(space_of(["a", "b"], np.eye(2, dtype=np.float32)), path)
    assert (found.pairs, found.used) == (2, 1)
