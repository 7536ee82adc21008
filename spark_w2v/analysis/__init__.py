"""Analyses of a finished run."""
