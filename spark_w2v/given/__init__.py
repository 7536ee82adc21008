"""Files of other origin that a run takes: words, phrases, vectors."""
