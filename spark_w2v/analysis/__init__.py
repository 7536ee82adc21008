"""What reads a finished run."""
