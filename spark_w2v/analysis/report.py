"""A finished run → report.html: one page that needs no network, for the eyes of whoever trained.

The words come from strangers' text. They go into the page as JSON in which no character can end the element that holds
it, and the page's script puts them in with textContent alone. A content security policy names the two inline pieces by
their hashes, so that nothing else could run.

Letters: V words of the run, N of them on the page, M of those on the map, D dimensions, K neighbours of a word.
"""

import base64
import hashlib
import json
import math
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_w2v.analysis.evaluation_results import Evaluation
from spark_w2v.analysis.neighbors import nearest_rows, unit_vectors
from spark_w2v.analysis.word_map import word_map
from spark_w2v.config import SECTIONS as CONFIGURATION
from spark_w2v.config import Config
from spark_w2v.errors import OutputError, StorageError, UserError
from spark_w2v.runs import embeddings
from spark_w2v.runs.embedding_writer import Rows
from spark_w2v.runs.places import is_local, local_path, run_above, version_of
from spark_w2v.skipgram.one_thread import one_blas_thread
from spark_w2v.storage.files import ABSENT, exists, kind_of, open_file, raise_if_passing, reason, refused
from spark_w2v.text.summary import text_words
from spark_w2v.types import Float32Array, Int64Array

NAME = "report.html"
# How a page begins, and the JSON of an evaluation: what may be replaced by another one.
PAGE = re.compile(
    rb'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" '
    rb"content=\"default-src 'none'; style-src 'sha256-"
)
EVALUATION = re.compile(rb'{\n "restrict":')
NOWHERE = "nothing can be written there; give a file in a directory that may be written to."
CANNOT_BE_WRITTEN = "could not be written"
BEGINNING = 300  # bytes
LARGEST = 2_000_000  # bytes of a page, whatever the words
# What 10,000 words take: 10 neighbours of 2 + 1 bytes, a third more in base64 = 400 kB, and some 150 kB of spellings
# and counts. Ids of two bytes end at 65,536.
WORDS, NEAR, ON_MAP = 10_000, 10, 2000
SPELLINGS = 700_000  # bytes of JSON that the words may take; longer ones leave room for fewer
VALUES = 1 << 23  # N x D at most: 32 MB besides the vectors, and seconds
EPOCHS = 500  # points of a curve
RANKS = 250  # points of the Zipf plot
SQUARE = 4095  # places on the map are whole numbers from 0 to this
TEXT, NAMES = 200, 60  # characters of a path or a setting; of what the evaluation names
DEEPEST = 10  # objects and lists in each other; an evaluation has 6, a run fewer
LIST = 50  # paths that were read, files of an evaluation; what is more is left out
SECTIONS, MOVES = 100, 20  # of an evaluation
LARGEST_EVALUATION = 8 << 20  # bytes


class Finished(NamedTuple):
    """What a page is made of.

    Args:
        words, counts: (V,) by falling count.
        vectors: (V, D), or at least the rows of the most frequent words that a page has room for.
        run, metrics: run.json, metrics.jsonl.
    """

    name: str
    words: pa.Array
    counts: Int64Array
    vectors: Rows
    run: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]


def finished(output: Path) -> Finished:
    """All of a finished output that a page is made of.

    Raises:
        OutputError: it is not finished, or damaged; one sentence.
    """
    found = embeddings.iter_vectors(output)
    vectors = _first_rows(found.chunks, _most_shown(len(found.words), found.dimensions))
    try:
        with open_file(output / "run.json") as file:
            run = _parsed(file.read())
        with open_file(output / "metrics.jsonl") as file:
            metrics = [_parsed(line) for line in file.read().splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError) and error.errno not in ABSENT:
            raise StorageError(f"{output}: run.json or metrics.jsonl could not be read: {reason(error)}.") from None
        why = reason(error) if isinstance(error, OSError) else type(error).__name__
        raise OutputError(f"{output}: run.json or metrics.jsonl cannot be read ({why}).") from None
    if not isinstance(run, dict) or not all(isinstance(one, dict) for one in metrics):
        raise OutputError(f"{output}: run.json or metrics.jsonl is not what a run writes.")
    return Finished(output.name, found.words, found.counts, vectors, run, metrics)


def _first_rows(blocks: Iterator[Float32Array], rows: int) -> Float32Array:
    """The first rows, (n, D), n = rows or all that there are; no more is read than has to be."""
    found = [next(blocks)]
    while sum(map(len, found)) < rows and (more := next(blocks, None)) is not None:
        found.append(more)
    return np.concatenate([*found[:-1], found[-1][: rows - sum(map(len, found[:-1]))]])


def _parsed(content: bytes) -> Any:
    """JSON without NaN and infinities, which json.loads takes and a page cannot have."""

    def finite(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text} is not a number")
        return number

    return json.loads(content, parse_float=finite, parse_constant=finite)


def evaluation(path: Path, words: int, dimensions: int, digest: str) -> Evaluation:
    """What jobs/evaluate.py --json wrote of a run with these numbers of words and dimensions, and these vectors.

    Raises:
        UserError: it is not such a file, or of another run; one sentence.
        StorageError: it could not be read, and may be later.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_EVALUATION + 1)
        if len(content) > LARGEST_EVALUATION:
            raise ValueError("it is larger than 8 MB")
        found = msgspec.json.decode(content, type=Evaluation)
    except (OSError, ValueError, RecursionError) as error:  # msgspec's are ValueErrors
        raise_if_passing(str(path), error)
        raise UserError(f"{path}: is not a report that jobs/evaluate.py --json wrote ({reason(error)}).") from None
    if (found.this.words, found.this.dimensions) != (words, dimensions):
        raise UserError(
            f"{path}: is the evaluation of {found.this.words:,} words of {found.this.dimensions} dimensions, and this "
            f"run has {words:,} of {dimensions}; evaluate this run."
        )
    if found.this.digest not in ("", digest):
        raise UserError(f"{path}: is the evaluation of other vectors, those of {found.this.output}; evaluate this run.")
    return found


def target_of(path: str, kind: re.Pattern[bytes], *outputs: Path) -> Path:
    """The file that is to be written, or replaced.

    Args:
        kind: PAGE or EVALUATION.
        outputs: in which nothing is to be written, nor in those of other finished runs.

    Raises:
        UserError: nothing can be written there, or what is there is not a file, of a run, or not of this kind.
        StorageError: it cannot be known now.
    """
    if not is_local(path):
        raise UserError(f"{path}: is in a store, and this file is written on this host; give a path of it.")
    target = local_path(path)
    run = next((output for output in outputs if output in target.parents), None) or run_above(target)
    if run is not None:
        raise UserError(f"{path}: is inside of {run}, which holds a run and nothing else; give another path.")
    is_taken = os.path.lexists(target) and not target.is_file()  # a directory, /dev/null
    if is_taken or not target.parent.is_dir():
        raise UserError(f"{path}: {NOWHERE}")
    check_target(target, kind)
    return target


def check_target(target: Path, kind: re.Pattern[bytes] = PAGE) -> None:
    """Refuse a file that cannot be written, or replaced, before there is work for it.

    Raises:
        UserError: nothing can be written there, or what is there is not of this kind.
        StorageError: it cannot be known now.
    """
    if target.parent.is_dir() and not os.access(target.parent, os.W_OK | os.X_OK):
        raise UserError(f"{target}: {NOWHERE}")
    _check_replaced(target, kind)
    try:
        exists(_unfinished(target))
    except OSError as error:  # its name, which is longer, may be too long
        raise refused(f"{target}: {CANNOT_BE_WRITTEN}", error) from None


def _unfinished(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")


def _check_replaced(target: Path, kind: re.Pattern[bytes]) -> None:
    """Refuse to replace what is not of this kind."""
    try:
        if not exists(target):
            return
        beginning = None
        if kind_of(os.lstat(target).st_mode) == "a file":
            with open_file(target) as file:
                beginning = file.read(BEGINNING)
    except OSError as error:
        raise refused(f"{target}: cannot be looked at", error) from None
    if beginning is None or (beginning and not kind.match(beginning)):
        what = "a page about a run" if kind is PAGE else "a report of evaluate.py"
        raise UserError(f"{target}: is not {what}, so it is not replaced; move it away, or give another path.")


def write(target: Path, text: str, kind: re.Pattern[bytes] = PAGE) -> None:
    """Write a file in one step: whoever looks meanwhile sees the old one or the new one.

    Args:
        kind: PAGE or EVALUATION, as `target_of` takes it.

    Raises:
        UserError: what stands there is not of this kind, or nothing may be written there.
        StorageError: the storage failed; what stood there is as it was.
    """
    _check_replaced(target, kind)
    unfinished = _unfinished(target)
    try:
        try:
            unfinished.write_text(text, encoding="utf-8")
            os.replace(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise refused(f"{target}: {CANNOT_BE_WRITTEN}", error) from None


def write_into(output: Path, version: tuple[int, ...] | None, text: str) -> None:
    """Write the page of an output, unless that is no longer the one of this version.

    Raises:
        StorageError: it is not.
        UserError, StorageError: as write does.
    """
    if version_of(output) != version:
        raise StorageError(f"{output}: was replaced meanwhile; try again.")
    write(output / NAME, text)


def page(run: Finished, evaluation: Evaluation | None = None) -> str:
    """The page as HTML, of at most LARGEST bytes in UTF-8.

    Takes some seconds for 10,000 words of 100 dimensions, however many the run has.
    """
    shown = _words_shown(run.words, run.vectors.shape[1])
    spellings = run.words[:shown].to_pylist()
    units = unit_vectors(np.asarray(run.vectors[:shown], np.float32))
    near = min(NEAR, max(shown - 1, 0))
    # Most products are too small for threads, which wait for each other on a busy machine.
    with one_blas_thread():
        ids, cosines = nearest_rows(units, np.arange(shown), near)
        places = word_map(units[:ON_MAP])
    data = {
        "name": _cut(run.name),
        "run": _cut_texts(_run_shown(run.run)),
        "metrics": _cut_texts(_thinned(run.metrics, EPOCHS), rows=EPOCHS),
        "vocabulary": len(run.words),
        "words": spellings,
        "counts": run.counts[:shown].tolist(),
        "near": near,
        "neighbors": _base64(ids.astype("<u2")),
        "cosines": _base64(np.rint(np.clip(cosines, -1, 1) * 100 + 100).astype(np.uint8)),  # 1.00 is 200, -1.00 is 0
        "places": np.rint((places + 1) * SQUARE / 2).astype(int).reshape(-1).tolist(),
        "ranks": _ranks(run.counts),
        "meanings": _meanings(),
        "evaluation": None if evaluation is None else _evaluation(evaluation),
    }
    return _filled(data)


def _run_shown(run: Mapping[str, Any]) -> dict[str, Any]:
    """Of run.json what the page shows; its fingerprint may name a million files."""
    names = (
        "configuration", "resolved", "seed", "corpus", "seconds", "prepare_seconds", "versions", "started", "host",
        "spark", "phases", "stopped_early",
    )  # fmt: skip
    fingerprint = run.get("fingerprint")
    paths = fingerprint.get("input", []) if isinstance(fingerprint, dict) else []
    init, corpus = run.get("init"), run.get("corpus")
    computed = {
        "input": paths,
        "held_out_loss_averaged": init.get("held_out_loss_averaged") if isinstance(init, dict) else None,
        "text_words": text_words(corpus) if isinstance(corpus, dict) else None,
    }
    return {name: run[name] for name in names if name in run} | computed


def _meanings() -> dict[str, dict[str, str]]:
    """Of every section of the configuration, what its keys mean; under "" what it is itself."""
    classes = get_type_hints(Config)
    return {
        section: {"": str(classes[section].__doc__), **{name: key.description for name, key in keys.items()}}
        for section, keys in CONFIGURATION.items()
    }


def _most_shown(words: int, dimensions: int) -> int:
    """N, however short the words are."""
    return min(words, WORDS, VALUES // dimensions)


def _words_shown(words: pa.Array, dimensions: int) -> int:
    """N: the most frequent words, as many as the page has room for."""
    most = _most_shown(len(words), dimensions)
    sizes = [len(_json(word).encode()) + 1 for word in words[:most].to_pylist()]
    return int(np.searchsorted(np.cumsum(sizes), SPELLINGS, side="right"))


def _ranks(counts: Int64Array) -> list[list[int]]:
    """[rank from 1, count, occurrences of all words up to it], evenly spread over the logarithm of the rank.

    Words that do not occur have no rank.
    """
    counts = counts[: np.count_nonzero(counts)]
    if not len(counts):
        return []
    chosen = np.unique(np.rint(np.geomspace(1, len(counts), RANKS)).astype(np.int64))
    return np.stack([chosen, counts[chosen - 1], np.cumsum(counts)[chosen - 1]], axis=1).tolist()  # type: ignore[no-any-return]


def _evaluation(found: Evaluation) -> Any:
    for scores in filter(None, (found.this, found.other)):
        del scores.pairs[LIST:], scores.analogies[LIST:]
        for pairs in scores.pairs:
            pairs.file, pairs.missing = Path(pairs.file).name, []
        for questions in scores.analogies:
            questions.file, questions.missing = Path(questions.file).name, []
        for questions in scores.analogies:
            del questions.sections[max(1, SECTIONS // len(scores.analogies)) :]
    if found.moves:
        del found.moves.moved[MOVES:]
        for move in found.moves.moved:
            del move.here[NEAR:], move.there[NEAR:]
    return _cut_texts(msgspec.to_builtins(found), NAMES, SECTIONS)


def _thinned(rows: Sequence[Any], most: int) -> list[Any]:
    """At most `most` rows, evenly spread, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[i] for i in np.rint(np.linspace(0, len(rows) - 1, most)).astype(int)]


def _cut_texts(value: Any, length: int = TEXT, rows: int = LIST, depth: int = DEEPEST) -> Any:
    """Texts, lists and objects cut to what a page has room for."""
    if not depth:
        return "…"
    match value:
        case str():
            return _cut(value, length)
        case Mapping():
            some = islice(value.items(), rows)
            return {_cut(key, length): _cut_texts(one, length, rows, depth - 1) for key, one in some}
        case list() | tuple():
            return [_cut_texts(one, length, rows, depth - 1) for one in value[:rows]]
        case _:
            return value


def _cut(text: str, length: int = TEXT) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _json(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A path that was not UTF-8 has halves of surrogates, which no encoding of a page can hold.
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)


def _filled(data: Mapping[str, Any]) -> str:
    template = resources.files(__package__).joinpath(NAME).read_text(encoding="utf-8")
    for kind in ("style", "script"):
        _, _, rest = template.partition(f"<{kind}>")
        inside, _, _ = rest.partition(f"</{kind}>")
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode("ascii")
        template = template.replace(f"'{kind}-hash'", f"'sha256-{digest}'")
    before, _, after = template.partition("{data}")
    return f"{before}{_json(data)}{after}"
