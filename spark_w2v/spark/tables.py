"""The tables that pass between steps on Spark, with their invariants."""

import pyarrow as pa
import pyspark.sql.types as T
from pyspark import StorageLevel
from pyspark.sql import DataFrame as DataFrame

ID_TYPE = "id_type"

# The first bad lines of a split, of each kind.
BAD = T.StructType(
    [
        T.StructField("place", T.IntegerType()),  # of the kind among COUNTERS
        T.StructField("line", T.LongType()),  # number within the split, from 0
        T.StructField("beginning", T.BinaryType()),  # of the line; empty where it is nothing that could be shown
    ]
)

# The corpus, one row a segment: at most tokenizer.SEGMENT_WORDS words of one split of one file, in whole sentences.
# (file, start, segment) is the segment's identity. It follows from the files and the configuration alone, never from
# cores, partitions or batches, so whatever is drawn at random for a segment is seeded by it. The last one of a split
# carries all of the split's counters and its first bad lines, and may have no words.
SEGMENTS = T.StructType(
    [
        T.StructField("file", T.IntegerType()),  # place of the file in the sorted paths of those with content
        T.StructField("start", T.LongType()),  # byte of the file where the split starts
        T.StructField("segment", T.IntegerType()),  # number within the split, from 0
        # The distinct words in order of first appearance, packed: Spark took longer to pass each on than Python to read
        # the text. `words` is their UTF-8, one after the other; `ends`, int32, little-endian, says where each ends.
        T.StructField("words", T.BinaryType()),
        T.StructField("ends", T.BinaryType()),
        # int64, little-endian: occurrences of each word in the segment, all > 0; of a weighted corpus the sum of
        # weights, in units.
        T.StructField("counts", T.BinaryType()),
        # int32, little-endian: every word in text order, by its place among the distinct ones.
        T.StructField("codes", T.BinaryType()),
        T.StructField("lengths", T.BinaryType()),  # int32, little-endian: words of each sentence, all > 0
        # int32, little-endian: weight of each sentence in units (weights.py); nothing where the corpus has no weights.
        T.StructField("weights", T.BinaryType()),
        T.StructField("counters", T.ArrayType(T.LongType())),  # in the order of COUNTERS
        T.StructField("bad", T.ArrayType(BAD)),
    ]
)


def segments_with(id_type: str | None) -> T.StructType:
    """SEGMENTS whose words are numbers of a type, which the schema says; None: they are not, or it is not known."""
    if id_type is None:
        return SEGMENTS
    marked = [
        T.StructField(field.name, field.dataType, metadata={ID_TYPE: id_type}) if field.name == "words" else field
        for field in SEGMENTS
    ]
    return T.StructType(marked)


def id_type_of(segments: DataFrame) -> str | None:
    """The type of the numbers that the words of SEGMENTS are."""
    found: str | None = segments.schema["words"].metadata.get(ID_TYPE)
    return found


# SEGMENTS in word ids: what is left of each sentence without the words outside the vocabulary. Pieces without words are
# not in it. Windows of an earlier run are sentences of it too, under a number that no file of the text has.
WINDOWS_FILE = 2**31 - 1
ENCODED = T.StructType(
    [
        T.StructField("file", T.IntegerType()),
        T.StructField("start", T.LongType()),
        T.StructField("segment", T.IntegerType()),
        T.StructField("ids", T.BinaryType()),  # int32, little-endian: word ids in text order
        T.StructField("lengths", T.BinaryType()),  # int32, little-endian: words of each sentence, all > 0
        T.StructField("weights", T.BinaryType()),  # as in SEGMENTS
    ]
)
ENCODED_ARROW = pa.schema(
    [
        ("file", pa.int32()),
        ("start", pa.int64()),
        ("segment", pa.int32()),
        ("ids", pa.binary()),
        ("lengths", pa.binary()),
        ("weights", pa.binary()),
    ]
)

SEGMENTS_LEVEL = StorageLevel.MEMORY_AND_DISK
ENCODED_LEVEL = StorageLevel.MEMORY_AND_DISK_DESER
