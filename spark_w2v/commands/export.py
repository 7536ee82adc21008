"""Write a run's vectors for other tools: export.py OUTPUT --format FORMAT --to PATH. Needs no Spark."""

from collections.abc import Sequence

from spark_w2v.command_line import OUTPUT_HELP, Parser, with_exit_codes, without_passwords
from spark_w2v.errors import printable
from spark_w2v.runs.embeddings import iter_vectors
from spark_w2v.runs.export import VECTORS, export, target_of
from spark_w2v.runs.export_formats import FILES
from spark_w2v.runs.ids import directory_of


@with_exit_codes
@without_passwords
def main(arguments: Sequence[str] | None = None, program: str = "export.py") -> int:
    """0 when the target is complete, 2 for a mistake, 75 when the storage refused."""
    parser = Parser(prog=program, description="Write the vectors of a finished run for other tools.")
    parser.add_argument("output", metavar="OUTPUT", help=OUTPUT_HELP)
    parser.add_argument("--format", required=True, choices=list(FILES), help="what is to read it")
    parser.add_argument(
        "--to", required=True, metavar="PATH", help="where it goes: a file for the word2vec formats, else a directory"
    )
    parser.add_argument(
        "--vectors", default="center", choices=VECTORS, help="which matrix, or the sum of both (center)"
    )
    parser.add_argument(
        "--white-space",
        default="refuse",
        choices=("refuse", "replace"),
        help="for words with white space that the format cannot hold: stop, or write _ for it (refuse)",
    )
    parser.add_argument(
        "--counts", metavar="FILE", help="for the word2vec formats: write the words' counts there (gensim's fvocab)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier export wrote there")
    options = parser.parse_args(arguments)
    target = target_of(options.to)
    counts = None if options.counts is None else target_of(options.counts)
    output = directory_of(options.output)
    done = export(
        lambda: iter_vectors(output, options.vectors),
        output,
        target,
        options.format,
        overwrite=options.overwrite,
        replace=options.white_space == "replace",
        counts=counts,
        tell=lambda line: print(f"{printable(options.to)}: {line}", flush=True),
    )
    print(f"{printable(options.to)}: {done.words:,} words of {done.dimensions} dimensions, {options.format}")
    if done.replaced:
        print(f"words with _ in place of white space: {done.replaced:,}")
    return 0
