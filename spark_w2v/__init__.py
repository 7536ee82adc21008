"""Word2vec on Apache Spark: Spark partitions the skip-gram pairs, NumPy trains them inside the executors."""
