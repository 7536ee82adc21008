"""Blocks of parameters between processes, for one epoch: NumPy and sockets, without Spark.

`plan` says who owns what, `driver` and `task` are the two parts as state machines without I/O or clock, `node` moves
their messages over TCP. A test drives the two parts over a network that exists only in memory.
"""
