"""The request of a run: its options, the files that it names, and its fingerprint."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from spark_w2v import config as configuration
from spark_w2v.callbacks import EpochCallback
from spark_w2v.config import Config
from spark_w2v.given.phrase_lists import read_phrases
from spark_w2v.given.word_lists import read_words, warn_of_impossible
from spark_w2v.pipeline import ResolvedConfig
from spark_w2v.runs.places import check_password, is_local
from spark_w2v.spark.vocabulary import WordLists

if TYPE_CHECKING:
    from spark_w2v.spark.tables import DataFrame


@dataclass
class Request:
    """Request of a run; the options of jobs/train.py.

    Args:
        input: paths, or a DataFrame with the column `corpus.column`.
        callbacks: called after each epoch with its metrics; the run ends after an epoch for which one returns true.
        in_memory: whether the driver reads the vectors of the run into memory once it has ended.
        begun: set once the output is open, so a store has let the run write to it.
    """

    settings: Config
    input: "Sequence[str] | DataFrame"
    output: str
    init: str | None = None
    resume: bool = False
    tolerates_changes: bool = False
    overwrite: bool = False
    run_id: str | None = None
    publish: bool = True
    tensorboard: str | None = None
    mlflow: bool = False
    callbacks: Sequence[EpochCallback] = ()
    in_memory: bool = False
    begun: bool = field(default=False, init=False)

    @property
    def paths(self) -> list[str]:
        """The paths of the input; none of a DataFrame."""
        return list(self.input) if isinstance(self.input, Sequence) else []

    @cached_property
    def word_lists(self) -> WordLists:
        """The words of the files that the configuration names.

        Raises:
            UserError: one cannot be read.
        """
        vocabulary = self.settings.vocabulary
        return WordLists(
            given=self._read_words("vocabulary.words", vocabulary.words),
            stop=self._read_words("vocabulary.stop_words", vocabulary.stop_words),
        )

    def _read_words(self, key: str, path: str) -> pa.StringArray | None:
        if not path:
            return None
        corpus, phrases = self.settings.corpus, self.settings.phrases
        words = others = read_words(path, key, is_composed=corpus.tokenizer != "none")
        if self.phrases is not None:  # which may be spelled in any way
            others = words.filter(pc.invert(pc.is_in(words, value_set=self.phrases["phrase"].combine_chunks())))
        warn_of_impossible(others, key, corpus, phrases.delimiter if phrases.passes else "")
        return words

    @cached_property
    def phrases(self) -> pa.Table | None:
        """The phrases of the list that the configuration names.

        Raises:
            UserError: it cannot be read.
        """
        path = self.settings.phrases.list
        if not path:
            return None
        found = read_phrases(path)
        parts = pa.chunked_array([*found["first"].chunks, *found["second"].chunks], pa.string()).unique()
        # In a later pass a part may be a phrase of the one before, spelled in any way.
        parts = parts.filter(pc.invert(pc.is_in(parts, value_set=found["phrase"].combine_chunks())))
        warn_of_impossible(parts, "phrases.list", self.settings.corpus)
        return found

    def check_passwords(self) -> None:
        """Refuse paths with a password, as they are logged and kept in run.json.

        Raises:
            UserError: one has a password in it.
        """
        vocabulary = self.settings.vocabulary
        lists = vocabulary.words, vocabulary.stop_words, self.settings.phrases.list
        for path in [*self.paths, self.output, self.init or "", *lists]:
            check_password(path)

    def parameters(self) -> dict[str, Any]:
        """Return what the run is configured by, one name per key."""
        sections = configuration.as_dict(self.settings)
        keys = {f"{section}.{key}": value for section, found in sections.items() for key, value in found.items()}
        return {"input": " ".join(self.paths) or "a DataFrame", "output": self.output, **keys}

    def fingerprint(self, resolved: ResolvedConfig, init: str | None) -> dict[str, Any]:
        """Return what has to be the same for a resumed run to have the same result, as far as it is known at the start.

        Args:
            init: digest of the vectors that the run starts from; None without.
        """
        decisive = configuration.as_dict(self.settings)
        del decisive["exchange"], decisive["output"]["keep_runs"], decisive["output"]["table"]
        for name, words in (("words", self.word_lists.given), ("stop_words", self.word_lists.stop)):
            decisive["vocabulary"][name] = "" if words is None else _digest(words)
        decisive["phrases"]["list"] = "" if self.phrases is None else _digest(*self.phrases.columns)
        # "init" is there without --init too, so that a run without it does not resume one with it.
        given = {} if init is None else {"digest": init}
        inputs = list(map(_spelled, self.paths)) if isinstance(self.input, Sequence) else ["a DataFrame"]
        return {"input": inputs, **decisive, "resolved": resolved.facts(), "init": given}


def _spelled(path: str) -> str:
    """A path as everybody would spell it: my-text for ./my-text/."""
    return os.path.normpath(path) if is_local(path) and path and not path.startswith("file:") else path.rstrip("/")


def _digest(*columns: pa.Array) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update("\n".join(map(str, column.to_pylist())).encode() + b"\0")
    return digest.hexdigest()[:16]
