"""The life of a run: its lock, its checkpoints, its publication."""
