"""Text to words, sentences and segments, in NumPy and Arrow alone: nothing here may import Spark."""
