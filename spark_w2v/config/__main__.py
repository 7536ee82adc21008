"""The reference of every key, printed as Markdown."""

from spark_w2v.config import reference

print(reference(), end="")
