"""What was read and skipped → lines for a user to read before an hour is spent on it."""

from typing import Any

from spark_w2v.text.bad_lines import BadLine
from spark_w2v.text.counters import BAD_LINES
from spark_w2v.text.messages import counted, some_words

MANY_EMPTY = 0.1  # share of events without a word of which a user is warned


def summary(facts: dict[str, Any]) -> list[str]:
    """Return lines on a corpus, for a user to read before an hour is spent on it.

    Args:
        facts: of EncodedCorpus.
    """
    weighted = f" ({facts['weighted_words']:,} with their weights)" if "weighted_words" in facts else ""
    of_windows = " with the rare words of the earlier run" if facts.get("earlier_windows") else ""
    lines = [
        f"{counted(facts['lines'], 'line')}, {counted(facts['words'], 'word')}{weighted}, "
        f"{facts['distinct_words']:,} distinct{of_windows}",
        f"vocabulary: {counted(facts['vocabulary'], 'word')}, {counted(facts['kept_words'], 'occurrence')} "
        f"({facts['kept_words'] / max(text_words(facts), 1):.1%} of the text)",
        *skipped(facts),
    ]
    if facts.get("absent_words"):
        lines.append(
            f"{counted(facts['absent_words'], 'word')} of vocabulary.words without a vector, such as "
            f"{some_words(facts['first_absent_words'])}: not in the text, stop words, "
            f"{'of weights that add up to less than a half, ' if weighted else ''}or beyond vocabulary.max_words"
        )
    if "earlier_windows" in facts:
        windows, words = counted(facts["earlier_windows"], "window"), counted(facts["earlier_rare_words"], "word")
        lines.append(
            f"rare words: {windows} of {words} of the earlier run count, too; "
            f"{counted(facts['no_longer_rare_words'], 'word')} now in the vocabulary, trained on "
            f"{counted(facts['trained_windows'], 'window')} more"
        )
    if "kept_windows" in facts:
        windows, words = counted(facts["kept_windows"], "window"), counted(facts["kept_rare_words"], "word")
        left_out = f", {facts['dropped_windows']:,} left out" if facts["dropped_windows"] else ""
        lines.append(f"rare words: {windows} of {words} kept for the next run{left_out}")
    return lines


def text_words(facts: dict[str, Any]) -> Any:
    """Return the words of the text as those of the vocabulary are counted: with phrases joined, and with weights.

    Args:
        facts: of EncodedCorpus, or what a file has of them.
    """
    return facts.get("joined_words", facts.get("weighted_words", facts.get("words")))


def skipped(facts: dict[str, Any]) -> list[str]:
    """Return lines on what was skipped or changed when a text was read.

    Args:
        facts: of EncodedCorpus.
    """
    lines = []
    described = ("blank_lines", "wordless_lines", *BAD_LINES, "unspaced_lines", "cut_lines", "long_words", "null_words")
    odd = [f"{facts[name]:,} {name.replace('_', ' ')}" for name in described if facts[name]]
    if odd:
        lines.append("skipped or changed: " + ", ".join(odd))
    for name, places in facts["first_bad_lines"].items():
        lines.append(f"the first {name.replace('_', ' ')}: {', '.join(places)}")
    return lines


def warnings(facts: dict[str, Any], is_of_events: bool) -> list[str]:
    """Return lines on what is probably not as a user wants it.

    Args:
        facts: of EncodedCorpus.
        is_of_events: a row had a word each.
    """
    found = []
    empty, words = facts["null_words"], facts["null_words"] + facts["words"]
    if is_of_events and empty > MANY_EMPTY * words:
        found.append(
            f"{empty:,} of {words:,} rows ({empty / words:.1%}) have no word, and were skipped: corpus.column is empty "
            "in these rows, or absent in some of the files, of which Spark then reads nulls. Where that is as it "
            "should be, leave the rows out with corpus.where."
        )
    clauses, lines = facts["unspaced_lines"], facts["lines_with_words"] + facts["wordless_lines"]
    if clauses > 0.01 * lines:
        found.append(
            f"{clauses:,} of {lines:,} lines ({clauses / lines:.1%}) are written without spaces between the words, as "
            "Chinese, Japanese and Thai are: whole clauses became words. Set corpus.unspaced to bigrams or characters, "
            'or cut the words with a segmenter first and read them with corpus.tokenizer = "whitespace".'
        )
    return found


def shown(bad_lines: dict[str, list[BadLine]]) -> dict[str, list[str]]:
    """Return the first bad lines as run.json has them."""
    return {name: [str(bad) for bad in found] for name, found in bad_lines.items()}
