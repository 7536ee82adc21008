"""Values that are sent to the executors once."""

import pickle
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from pyspark import Broadcast

if TYPE_CHECKING:
    from pyspark import SparkContext

Value = TypeVar("Value")


def send(context: "SparkContext", value: Value) -> "Broadcast[Value]":
    """Broadcast a value, which may hold arrays of any size."""
    sent: Any = _InBytes(value) if context._encryption_enabled else value
    return context.broadcast(sent)


def values(broadcasts: Iterable["Broadcast[Value]"]) -> Iterator[Value]:
    """The values one after the other; a worker holds one at a time."""
    for sent in broadcasts:
        yield sent.value
        # PySpark keeps what it unpacked, and has no name for letting go of it on a worker. With encryption there is no
        # file to unpack again, and all values were unpacked before the task began.
        if "_path" in vars(sent):
            vars(sent).pop("_value", None)


def destroy(sent: "Broadcast[Any]") -> None:
    """Remove a value from the executors and the driver's disk; a stopped Spark has done so itself."""
    if sent._sc is not None and sent._sc._jsc is not None:
        sent.destroy()


class _InBytes:
    """A value that is pickled as bytes, and unpickled as the value.

    With spark.io.encryption.enabled, PySpark writes broadcasts to a stream that takes bytes alone, and fails on the
    buffers that pickle gives it for an array of more than 64 KB. The bytes take the way of all of Spark's broadcasts
    and closures, which are pickled too, and come from the driver alone.
    """

    def __init__(self, value: Any) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return pickle.loads, (pickle.dumps(self._value, protocol=5),)
