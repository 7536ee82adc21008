"""Give readers another run: publish.py DIR RUN_ID moves DIR/current to DIR/runs/RUN_ID in one step. Needs no Spark."""

from collections.abc import Sequence

from spark_w2v.command_line import EXIT_CODES, Parser, whole_number, with_exit_codes, without_passwords
from spark_w2v.config import LARGEST_INT
from spark_w2v.errors import printable
from spark_w2v.runs import stored
from spark_w2v.runs.ids import CURRENT, move_current
from spark_w2v.runs.names import is_later
from spark_w2v.runs.places import is_local


@with_exit_codes
@without_passwords
def main(arguments: Sequence[str] | None = None, program: str = "publish.py") -> int:
    """The exit code, as EXIT_CODES describes it."""
    parser = Parser(
        prog=program, description="Move DIR/current to a finished run, a new one or an earlier one.", epilog=EXIT_CODES
    )
    parser.add_argument("directory", metavar="DIR", help="what was --output of jobs/train.py with --run-id")
    parser.add_argument("run_id", metavar="RUN_ID", help="a run that has finished")
    parser.add_argument(
        "--keep-runs",
        metavar="N",
        type=whole_number(LARGEST_INT, least=0),
        default=0,
        help="then remove all finished runs but the N newest and the current one, and what died before those; 0: none",
    )
    parser.add_argument(
        "--if-later",
        action="store_true",
        help="leave DIR/current where its run has a later date, an id of the same form that sorts after RUN_ID",
    )
    options = parser.parse_args(arguments)
    link = f"{printable(options.directory)}/{CURRENT if is_local(options.directory) else stored.CURRENT}"
    before = move_current(options.directory, options.run_id, options.keep_runs, options.if_later)
    if options.if_later and before is not None and is_later(before, options.run_id):
        print(f"{link} is left as it was: {before}, which is later than {options.run_id}")
        return 0
    was = "already" if before == options.run_id else f"it was {before or 'none'}"
    print(f"{link} is run {options.run_id}, {was}")
    return 0
