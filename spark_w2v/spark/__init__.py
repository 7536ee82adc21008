"""Steps on Spark; besides model.py, ml.py, api.py and storage/hadoop.py, only this folder imports pyspark."""
