"""The commands other than the training."""
