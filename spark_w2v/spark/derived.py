"""Values that a model computes once from its vectors.

V words, D dimensions.
"""

from collections.abc import Iterable

import pyarrow as pa
from pyspark import Broadcast, SparkContext

from spark_w2v.spark.all_neighbors import SentUnits, send_units
from spark_w2v.spark.broadcasts import destroy, send
from spark_w2v.types import Float32Array


class Derived:
    """Shared by the copies of a model, left behind by a pickle and a deep copy.

    Args:
        units: (V, D) the vectors at length 1.
        sent: words and vectors, on the way to the executors of a context.
        sent_units: words and vectors at length 1, on the same way.
    """

    def __init__(self) -> None:
        self.units: Float32Array | None = None
        self.sent: Broadcast[tuple[pa.Array, Float32Array]] | None = None
        self.sent_units: SentUnits | None = None

    def __reduce__(self) -> tuple[type["Derived"], tuple[()]]:
        return Derived, ()

    def is_in(self, context: SparkContext) -> bool:
        """Whether words and vectors have been sent to the executors of a context."""
        sent = self.sent  # once, as another thread may let go of it
        return sent is not None and sent._sc is context

    def vectors_in(
        self, context: SparkContext, words: pa.StringArray, vectors: Float32Array
    ) -> "Broadcast[tuple[pa.Array, Float32Array]]":
        """Return words and vectors, sent once per context, however often they are asked for."""
        sent = self.sent
        if sent is None or sent._sc is not context:
            self.sent = sent = send(context, (words, vectors))
        return sent

    def units_in(
        self, context: SparkContext, words: pa.StringArray, units: Iterable[Float32Array], dimensions: int
    ) -> SentUnits:
        """Return words and vectors at length 1, sent once per context.

        Args:
            units: (V, D), some rows at a time; read where they are sent.
        """
        sent = self.sent_units
        if sent is None or sent.words._sc is not context:
            self.sent_units = sent = send_units(context, words, units, dimensions)
        return sent

    def unpersist(self) -> None:
        """Let go of all values, on the executors and on the driver's disk, too."""
        sent, sent_units = self.sent, self.sent_units
        self.units = self.sent = self.sent_units = None
        if sent is not None:
            destroy(sent)
        if sent_units is not None:
            destroy(sent_units.words)
            for chunk in sent_units.chunks:
                destroy(chunk)
