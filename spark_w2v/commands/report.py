"""Make a finished run's report.html, or renew it: report.py OUTPUT [--to FILE] [--evaluation FILE]. Needs no Spark."""

from collections.abc import Sequence
from pathlib import Path

from spark_w2v.analysis import report
from spark_w2v.command_line import OUTPUT_HELP, Parser, with_exit_codes, without_passwords
from spark_w2v.errors import printable
from spark_w2v.runs.embeddings import center_digest
from spark_w2v.runs.ids import add_file, directory_of
from spark_w2v.runs.places import is_local, local_path, version_of


@with_exit_codes
@without_passwords
def main(arguments: Sequence[str] | None = None, program: str = "report.py") -> int:
    """0 when the page is written, 2 for a mistake, 75 when the storage refused."""
    parser = Parser(prog=program, description="Make a page about a finished run, to look at in a browser.")
    parser.add_argument("output", metavar="OUTPUT", help=OUTPUT_HELP)
    parser.add_argument("--to", metavar="FILE", help=f"where the page goes ({report.NAME} in OUTPUT)")
    parser.add_argument("--evaluation", metavar="FILE", help="what jobs/evaluate.py --json wrote of this run")
    options = parser.parse_args(arguments)
    output = directory_of(options.output)
    version = version_of(output)
    target = output / report.NAME
    if options.to is not None and local_path(options.to) != target:
        target = report.target_of(options.to, report.PAGE, output)
    else:
        report.check_target(target)
    run = report.finished(output)
    evaluation = None
    if options.evaluation is not None:
        size = len(run.words), run.vectors.shape[1]
        evaluation = report.evaluation(Path(options.evaluation), *size, center_digest(output))
    text, place = report.page(run, evaluation), str(target)
    if target.parent != output:
        report.write(target, text)
    else:
        report.write_into(output, version, text)
        if not is_local(options.output):  # a copy
            place = add_file(options.output, target)
    print(f"{printable(place)}: {target.stat().st_size / 1e6:.1f} MB")
    return 0
