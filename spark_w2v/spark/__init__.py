"""Steps on Spark; besides ml.py, api.py and storage/hadoop.py, only this folder imports pyspark."""
