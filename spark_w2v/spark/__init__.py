"""Steps on Spark; besides ml.py and api.py, only this folder imports pyspark."""
