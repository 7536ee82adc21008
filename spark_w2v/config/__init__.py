"""The configuration of a run: the keys with their ranges, and how a configuration is read and checked.

Configuration stays on the driver. Steps on Spark put plain numbers and strings in their closures, so executors need
neither this package nor msgspec. A file is TOML and nothing in it is executed; every mistake in it is one sentence
(`UserError`, here also `ConfigError`) that names the place and the key.

`python -m spark_w2v.config` prints the reference of every key, which is stored as docs/configuration.md.
"""

from spark_w2v.config.keys import KEYS, SECTIONS, reference
from spark_w2v.config.reading import as_dict, from_dict, load
from spark_w2v.config.sections import Config, Exchange, Output, Training
from spark_w2v.config.text_sections import LARGEST_INT, Corpus, Phrases, Vocabulary
from spark_w2v.errors import ConfigError

__all__ = [
    "KEYS",
    "LARGEST_INT",
    "SECTIONS",
    "Config",
    "ConfigError",
    "Corpus",
    "Exchange",
    "Output",
    "Phrases",
    "Training",
    "Vocabulary",
    "as_dict",
    "from_dict",
    "load",
    "reference",
]
