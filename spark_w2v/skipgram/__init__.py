"""The algorithm, in NumPy and SciPy alone: nothing here may import Spark."""
