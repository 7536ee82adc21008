"""One Spark step per file: a table in, a table out, and no arithmetic."""
