"""Make a finished run's report.html, or renew it: report.py OUTPUT [--to FILE] [--evaluation FILE]. Needs no Spark."""

import sys
from collections.abc import Sequence
from pathlib import Path

try:
    import spark_w2v  # noqa: F401
except ImportError:  # python puts the script's directory on the path, not the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from spark_w2v.command_line import OUTPUT_HELP, TRY_AGAIN, USERS_MISTAKE, Parser, complain, leave, shown
from spark_w2v.stages import report
from spark_w2v.stages.embeddings import OutputError
from spark_w2v.stages.publication import StorageError, UserError, is_local, local_path
from spark_w2v.stages.runs import directory_of

PROGRAM = "report.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the page is written, 2 for a mistake, 75 when the storage refused."""
    parser = Parser(prog=PROGRAM, description="Make a page about a finished run, to look at in a browser.")
    parser.add_argument("output", metavar="OUTPUT", help=OUTPUT_HELP)
    parser.add_argument("--to", metavar="FILE", help=f"where the page goes ({report.NAME} in OUTPUT)")
    parser.add_argument("--evaluation", metavar="FILE", help="what jobs/evaluate.py --json wrote of this run")
    options = parser.parse_args(arguments)
    try:
        for path in filter(None, (options.output, options.to)):
            if not is_local(path):
                raise UserError(f"{path}: is not on this host; copy it, or mount it.")
        output = directory_of(options.output)
        run = report.finished(output)
        target = output / report.NAME if options.to is None else local_path(options.to)
        if target.is_dir() or not target.parent.is_dir():
            raise UserError(f"{target}: no page can be written there; give a file in a directory that exists.")
        evaluation = None
        if options.evaluation is not None:
            evaluation = report.evaluation(Path(options.evaluation), *run.vectors.shape)
        report.write(target, report.page(run, evaluation))
    except (OutputError, UserError) as error:
        complain(PROGRAM, str(error))
        return USERS_MISTAKE
    except StorageError as error:
        complain(PROGRAM, str(error))
        return TRY_AGAIN
    print(f"{shown(str(target))}: {target.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    leave(main)
