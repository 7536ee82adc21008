"""Files of other origin that a run takes: lists of words and of phrases, vectors of other programs."""
