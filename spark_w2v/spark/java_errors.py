"""Spark's and Hadoop's errors, explained to the user in one sentence."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import unquote

from py4j.protocol import Py4JError, Py4JJavaError, Py4JNetworkError  # type: ignore[import-untyped]
from pyspark import SparkContext
from pyspark.errors import PySparkException

from spark_w2v.errors import SparkLostError, UserError
from spark_w2v.text.messages import path_text


class UnknownWordError(UserError, KeyError, Py4JJavaError):  # type: ignore[misc]  # py4j has no types
    """A word has no vector; a Py4JJavaError, as MLlib raises, and a KeyError, as gensim raises."""

    java_exception = None

    def __init__(self, message: str, hint: Callable[[], str] | None = None) -> None:
        UserError.__init__(self, message)
        self._hint = hint  # the end of the sentence, for which all words are compared

    @property
    def errmsg(self) -> str:
        return str(self)

    def __str__(self) -> str:
        if self._hint is not None:
            UserError.__init__(self, f"{self.args[0]}{self._hint()}")
            self._hint = None
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return UnknownWordError, (str(self),)


MOST_CAUSES = 20  # of an exception

# Packages that workers import.
PACKAGES = ("numpy", "scipy", "pyarrow", "pandas", "threadpoolctl", "spark_w2v")

# Messages of Hadoop, which has no names for its errors, and their meaning to a user; the first that is found counts.
# They may be the cause of an error that has a condition.
HADOOP = (
    (  # of the file itself, or of what would be its checksum
        r"Relative path in absolute URI: (?:\.(?=.*\.crc))?(?P<path>[^|\n]*?)(?:\.crc)?\s*(?:[|\n]|$)",
        "Hadoop takes no colon in a name; rename it.",
    ),
    (
        r"Illegal file pattern: (?P<reason>.+)",
        "--input: is not a glob ({reason}); put a backslash before brackets and braces.",
    ),
    (
        r"Can not create a Path from an? (empty|null) string",
        "an empty path; give a file, a directory or a glob.",
    ),
    (
        r"(?P<reason>No FileSystem for scheme \"[^\"]+\"|Class \S+FileSystem\S* not found)",
        "Spark has no such file system ({reason}); {hint}.",
    ),
)

WHERE_COMPUTED = "in corpus.where, or in the view or DataFrame that is read"
# Conditions of values that an expression of the user's cannot have.
UNCOMPUTED = (
    "ARITHMETIC_OVERFLOW", "BINARY_ARITHMETIC_OVERFLOW", "CANNOT_PARSE_DECIMAL", "CANNOT_PARSE_TIME",
    "CAST_OVERFLOW", "DATETIME_OVERFLOW", "DIVIDE_BY_ZERO", "INVALID_INDEX_OF_ZERO", "INTERVAL_ARITHMETIC_OVERFLOW",
    "INTERVAL_DIVIDED_BY_ZERO", "INVALID_ARRAY_INDEX", "INVALID_FRACTION_OF_SECOND", "NUMERIC_VALUE_OUT_OF_RANGE",
    "REMAINDER_BY_ZERO", "SCALAR_SUBQUERY_TOO_MANY_ROWS", "USER_RAISED_EXCEPTION",
)  # fmt: skip

# Spark's error conditions, by the beginning of their names, and their meaning; the first that fits counts. The braces
# take the parameters of the message.
CONDITIONS = (
    ("PATH_NOT_FOUND", "no such file; give --input paths that exist."),
    (
        "FAILED_READ_FILE.UNSUPPORTED_FILE_SYSTEM",
        "Spark cannot list files there; copy them to a file system that Hadoop lists.",
    ),
    (
        "UNABLE_TO_INFER_SCHEMA",
        "is not what corpus.format says, or damaged; set corpus.format to what it is, or replace it.",
    ),
    (
        "FAILED_READ_FILE.CANNOT_READ_FILE_FOOTER",
        "is not what corpus.format says, or damaged; set corpus.format to what it is, or replace it.",
    ),
    (
        "PARQUET_TYPE_",
        "--input: the Parquet files have a column of a type that Spark does not read ({message}); write it as another, "
        "such as UUIDs as strings.",
    ),
    (
        "COLUMN_ALREADY_EXISTS",
        "--input: the files have two columns {columnName}, as Spark reads names; rename one.",
    ),
    (
        "AMBIGUOUS_REFERENCE_TO_FIELDS",
        "the input has two fields {field}, as Spark reads names; rename one.",
    ),
    (
        "AMBIGUOUS_REFERENCE",
        "the input has two columns {name}, as Spark reads names; rename one.",
    ),
    (
        "FAILED_READ_FILE.PARQUET_COLUMN_DATA_TYPE_MISMATCH",
        "its column {column} is {actualType}, in other files it is {expectedType}; convert it, or leave it out of "
        "--input.",
    ),
    ("FAILED_READ_FILE.FILE_NOT_EXIST", "was removed while it was read; start again."),
    ("FAILED_READ_FILE", "cannot be read to its end ({reason}); replace it, or leave it out of --input."),
    (
        "CAST_INVALID_INPUT",
        f"the value {{expression}} is {{sourceType}}, which cannot be read as {{targetType}}; {WHERE_COMPUTED}, "
        "compare it with a value of its own type, or use try_cast.",
    ),
    *(
        (condition, f"Spark cannot compute a value ({{message}}); {WHERE_COMPUTED}, change the expression.")
        for condition in UNCOMPUTED
    ),
    ("TABLE_OR_VIEW_NOT_FOUND", "the catalog has no {relationName}"),
    (
        "CONFLICTING_",  # DIRECTORY_STRUCTURES, or PARTITION_COLUMN_NAMES
        "--input: has directories such as day=2026-01-31 next to others, so Spark cannot tell which columns they are; "
        "give them in runs of their own, or leave corpus.where and what names such a column out.",
    ),
    ("INVALID_CONF_VALUE", "Spark refuses a setting ({message}); change it, or leave it out."),
)
LOST_NAME = (  # of a file with a character beyond ASCII in its name
    "was removed while it was read, or the workers' locale has no such name; start again, with LC_ALL=C.UTF-8 there."
)
UNREADABLE = "cannot be read ({reason}); give readable files."
DENIED = "permission denied"

# Messages without a condition that are looked for last: the reason of what came before may be among them.
OTHERS = (
    (
        r"requirement failed: (?P<reason>[^\n]*?Please change 'spark\.[\w.]+')\.",
        "Spark refuses a setting ({reason}); change it, or leave it out.",
    ),
    (
        rf"ModuleNotFoundError: No module named '(?P<reason>(?:{'|'.join(PACKAGES)})\b[^']*)'",
        "the Python of Spark's workers has no {reason}, so it is another one than this; set PYSPARK_PYTHON or "
        "spark.pyspark.python before Spark starts, or ship the packages to the executors (make package).",
    ),
    (
        r"PYTHON_VERSION_MISMATCH\] (?P<reason>Python in worker[^\n]*?)[.,]? (?:PySpark|Please|SQLSTATE)",
        "{reason}; set PYSPARK_PYTHON or spark.pyspark.python to one Python before Spark starts.",
    ),
    (r"AccessControlException: (?P<reason>.+)", UNREADABLE),
)

OTHER_NAMES = "its first line has other names than the other files, or another order of them"  # of a file of CSV
REASONS = (
    ("CSV header does not conform", OTHER_NAMES),
    ("EOFException|Unexpected end|unexpected end|ends unexpectedly", "it ends too early: truncated?"),
    (r"Index \d+ out of bounds", "a line has too many fields"),
    ("not a gzip file|incorrect header check", "it is not gzip"),
    ("[Pp]ermission denied", DENIED),
    ("(?i)native zstandard library not available|without zstd support", "this Hadoop reads no zstd"),
    ("(?i)invalid (block|code|distance|stored|literal|bit)|crc|checksum|corrupt|magic", "it is damaged"),
)

# What Spark reads of a store under another scheme than its own tools do.
SCHEMES_OF_SPARK = {"s3": "s3a://", "s3n": "s3a://", "az": "abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/"}


def translate_error(error: BaseException) -> str | None:
    """Return one sentence on an exception of reading, naming the file; None if the input is not at fault."""
    text = text_of(error)
    if (sentence := _by_pattern(HADOOP, text)) is not None:
        return sentence
    for condition, parameters in _conditions(error):
        for name, meaning in CONDITIONS:
            if condition.startswith(name):
                path, reason = path_text(parameters.get("path", "")), reason_of(text).strip()
                if condition.endswith("FILE_NOT_EXIST"):
                    if reason == DENIED:  # Hadoop's local file system says that such a file is not found
                        meaning = UNREADABLE
                    elif not unquote(path).isascii():
                        meaning = LOST_NAME
                parts = {**parameters, "reason": reason}
                parts["column"] = parameters.get("column", "").strip("[]").partition(",")[0]
                return _sentence(path, meaning.format(**parts))
    return _by_pattern(OTHERS, text)


def _by_pattern(meanings: Sequence[tuple[str, str]], text: str) -> str | None:
    for pattern, meaning in meanings:
        found = re.search(pattern, text)
        if found is None:
            continue
        parts = found.groupdict()
        reason = (parts.get("reason") or reason_of(text)).strip()
        hint = "add its jars with --packages, or give local files"
        for scheme, sparks in SCHEMES_OF_SPARK.items():
            if f'"{scheme}"' in reason:
                hint = f"it reads that store as {sparks}, once --packages names the jars"
        path = path_text(parts.get("path") or "")
        return _sentence(path, meaning.format(reason=reason, hint=hint))
    return None


def _sentence(path: str, meaning: str) -> str:
    """What is wrong with a path; of none where it is empty."""
    return f"{path}: {meaning}" if path else meaning


def _conditions(error: BaseException) -> Iterator[tuple[str, dict[str, str]]]:
    """The conditions of Spark in an exception and its causes, the outermost first, each with its parameters.

    Among the parameters is `message`, what Spark makes of them.
    """
    exception = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    jvm = SparkContext._jvm
    for _ in range(MOST_CAUSES):
        if exception is None or jvm is None:
            return
        with contextlib.suppress(Py4JError):  # of another exception than Spark's, which has no condition
            utils = jvm.org.apache.spark.api.python.PythonErrorUtils
            if (condition := utils.getCondition(exception)) is not None:
                parameters = {str(key): str(value) for key, value in utils.getMessageParameters(exception).items()}
                first = str(exception.getMessage()).strip().partition("\n")[0]
                message = re.sub(r"^\[[\w.]+\] | SQLSTATE: \w+.*$", "", first).rstrip(".")
                yield str(condition), {**parameters, "message": message}
        exception = exception.getCause()


def message_of(error: BaseException) -> str | None:
    """Return what Spark says of its own error, in one sentence; None of an error that has no condition."""
    return next((parameters["message"] for _, parameters in _conditions(error)), None)


def parameters_of(error: BaseException, condition: str) -> dict[str, str] | None:
    """Return the parameters of one of Spark's conditions, if it is among those of the error."""
    return next((parameters for name, parameters in _conditions(error) if name == condition), None)


def text_of(error: BaseException) -> str:
    """Return the text of an exception, with the causes of Java's, which PySpark and py4j keep."""
    origin = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    return f"{error}\n{_java_trace(origin)}" if origin is not None else str(error)


def _java_trace(exception: Any) -> str:
    lines: list[str] = []
    while exception is not None and len(lines) < MOST_CAUSES:
        lines.append(f"Caused by: {exception.toString()}")
        exception = exception.getCause()
    return "\n".join(lines)


def reason_of(text: str) -> str:
    """The known reason, or what the innermost exception says."""
    said = re.sub(r"\b[a-z][a-z0-9+.-]*:/[^\n]*?(?=: |$)", "", text, flags=re.MULTILINE)  # a path's words are no reason
    for pattern, reason in REASONS:
        if re.search(pattern, said):
            return reason
    return _innermost(text)[:200]


def cause_of(error: BaseException) -> str:
    """What the innermost exception says, without the names of Spark's conditions."""
    text = re.sub(r"java\.net\.UnknownHostException: (?=[\w.-]+$)", "unknown host ", text_of(error), flags=re.MULTILINE)
    return re.sub(r"^\[[\w.]+\] | SQLSTATE: \w+.*$", "", _innermost(text)).rstrip(".")


def _innermost(text: str) -> str:
    causes = re.findall(r"^Caused by: (?:[\w.$]+: )?(.+)$", text, re.MULTILINE)
    return str(causes[-1]) if causes else "no reason given"


CANCELLED = "a job was cancelled, or a stage of it, by a program or on Spark's page"
DISK_FULL = "a disk of Spark's is full (spark.local.dir, or what the cluster has in its place)"
# What Spark says when it was not the job that failed.
LOST = (
    (r"SparkContext was shut down|stopped SparkContext|SparkContext has been shutdown", "Spark was shut down"),
    (r"SparkEnv\$?\.get\(\)\"? is null", "Spark was shut down"),  # giving back a broadcast or a cached table then
    ("SPARK_JOB_CANCELLED", CANCELLED),
    ("Python worker exited unexpectedly", "a Python worker was killed or crashed, mostly for want of memory"),
    (r"ExecutorLostFailure", "executors were lost as often as spark.task.maxFailures allows"),
    (r"No space left on device|Disk quota exceeded", DISK_FULL),
    (r"Answer from Java side is empty|An error occurred while trying to connect to the Java server", "Spark is gone"),
)

# What Spark says where its master does not answer.
UNREACHABLE = re.compile(r"Failed to connect|Connection refused|UnknownHost|timed out|on a stopped SparkContext")


def start_error(error: BaseException) -> Exception:
    """Return the error to raise where Spark does not start: of its settings, or of a master that does not answer."""
    reason = cause_of(error)
    if UNREACHABLE.search(text_of(error)):
        return SparkLostError(f"Spark does not start: its master does not answer ({reason})")
    return UserError(f"Spark does not start ({reason}); change the settings that spark-submit is given.")


def is_interruption(error: BaseException | None) -> bool:
    """Whether an error came while an interruption was handled: what cleans up then may find no JVM."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def lost(error: BaseException) -> str | None:
    """How Spark or its storage was lost, if it was; None where trying again would end in the same way."""
    text = str(error)
    for pattern, meaning in LOST:
        if re.search(pattern, text):
            return meaning
    return "the connection to Spark broke" if isinstance(error, Py4JNetworkError | ConnectionError) else None


def lost_error(error: Exception) -> SparkLostError | None:
    """The error to raise where Spark was lost; None of other errors, among them those of a callback's connections."""
    trace, module = error.__traceback__, ""
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    is_sparks = isinstance(error, Py4JError | PySparkException) or module.partition(".")[0] in ("py4j", "pyspark")
    if not is_sparks or is_interruption(error) or (reason := lost(error)) is None:
        return None
    return SparkLostError(reason)
