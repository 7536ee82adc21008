"""The commands on a finished run: evaluate, export, neighbors, publish, report."""
