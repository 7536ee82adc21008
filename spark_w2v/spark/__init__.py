"""What runs on Spark: besides ml.py, only this folder imports pyspark."""
