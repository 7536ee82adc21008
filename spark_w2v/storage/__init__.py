"""Directories outside of the driver's host, all with the same few operations.

| scheme of the URI | implementation | credentials |
|---|---|---|
| none, `file:` | a directory of the driver's host; no store is needed | |
| `s3:`, `gs:`, `az:` | `objects.ObjectStore`, with obstore | the environment (`AWS_*`, ...), or the machine's role |
| any other: `hdfs:`, `s3a:`, `abfss:`, ... | `hadoop.HadoopStore`, in the running JVM | Hadoop's configuration |
"""
