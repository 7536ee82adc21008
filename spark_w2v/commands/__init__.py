"""All commands but the training: on a finished run, and on a text before it."""
