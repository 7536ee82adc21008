"""The results of an evaluation, as jobs/evaluate.py --json writes them and the report reads them.

Fields with a default may be missing in a file.
"""

import msgspec


class Similarity(msgspec.Struct):
    """One file of word pairs. Without at least two different values a correlation is None."""

    file: str
    pairs: int
    used: int
    spearman: float | None
    pearson: float | None
    unknown: int = 0  # pairs with a word that has no vector
    bad_lines: int = 0
    missing: list[str] = []  # the words that have no vector, where they are asked for


class Section(msgspec.Struct):
    """Analogies under one heading; right by 3CosAdd (Mikolov et al. 2013) and 3CosMul (Levy and Goldberg 2014)."""

    section: str
    questions: int
    used: int
    add: float | None  # share of `used` that is right
    mul: float | None
    unknown: int = 0
    right_add: int = 0
    right_mul: int = 0


class Analogies(msgspec.Struct):
    """One file of analogies."""

    file: str
    sections: list[Section]
    total: Section
    bad_lines: int = 0
    missing: list[str] = []


class Move(msgspec.Struct):
    """A word, how many of its nearest words both runs share, and the nearest ones in each."""

    word: str
    shared: int
    here: list[str]
    there: list[str]


class NeighbourhoodDrift(msgspec.Struct):
    """Neighbourhoods of `among` words in two runs; mean_shared of `near` neighbours are the same."""

    among: int
    near: int
    mean_shared: float | None
    moved: list[Move]
    common_words: int = 0
    only_here: int = 0
    only_there: int = 0


class Scores(msgspec.Struct):
    """The evaluation of one run."""

    output: str
    words: int
    dimensions: int
    pairs: list[Similarity]
    analogies: list[Analogies]
    digest: str = ""  # of the vectors; empty where their run is of an earlier version


class Evaluation(msgspec.Struct, omit_defaults=True):
    """The evaluation of a run, and of another one that it is compared with."""

    restrict: int
    this: Scores
    other: Scores | None = None
    moves: NeighbourhoodDrift | None = None
