"""One epoch from the vectors of another system, against one from nothing: python -m bench.pretrained --corpus PATH ...

gensim trains Word2Vec and FastText on the text, and writes the binary and text formats of word2vec and the text format
of fastText, plain and gzipped. Then the job in local mode trains one epoch on the same text, from nothing and with
--init of each file.
"""

import argparse
import gzip
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import measure, quality, text
from bench.systems import DIMENSIONS, MIN_COUNT, NEGATIVES, SUBSAMPLE, WINDOW, train_command
from spark_w2v.runs import embeddings

SETTINGS: dict[str, object] = {"training.partitions": 2, "training.dimensions": DIMENSIONS, "training.epochs": 1}
FILES = {
    "word2vec binary": "v.bin",
    "word2vec text": "v.txt",
    "fastText text": "v.vec",
    "fastText text, gzip": "v.vec.gz",
}


def by_gensim(path: str, folder: Path, epochs: int, fasttext_epochs: int) -> None:
    """Train with gensim and write the files; in a process of its own."""
    from gensim.models import FastText, Word2Vec

    settings: dict[str, Any] = {
        "sg": 1, "vector_size": DIMENSIONS, "window": WINDOW, "negative": NEGATIVES, "sample": SUBSAMPLE,
        "min_count": MIN_COUNT, "workers": 2, "corpus_file": path,
    }  # fmt: skip
    model = Word2Vec(epochs=epochs, **settings)
    model.wv.save_word2vec_format(folder / "v.bin", binary=True)
    model.wv.save_word2vec_format(folder / "v.txt", binary=False)
    FastText(epochs=fasttext_epochs, **settings).wv.save_word2vec_format(folder / "v.vec", binary=False)
    with (folder / "v.vec").open("rb") as file, gzip.open(folder / "v.vec.gz", "wb", compresslevel=1) as zipped:
        shutil.copyfileobj(file, zipped)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pretrained", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, nargs="+", metavar="PATH", help="text, plain or .gz")
    parser.add_argument("--epochs", type=int, default=5, help="of gensim's Word2Vec")
    parser.add_argument("--fasttext-epochs", type=int, default=1, help="of gensim's FastText, which is slower")
    parser.add_argument("--seeds", type=int, default=1, help="of our runs")
    parser.add_argument("--gensim", nargs=2, metavar=("FILE", "DIR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.gensim:
        by_gensim(options.gensim[0], Path(options.gensim[1]), options.epochs, options.fasttext_epochs)
        return 0
    variables = measure.environment()
    with tempfile.TemporaryDirectory(prefix="spark_w2v-bench-") as scratch:
        folder = Path(scratch)
        words = text.write(options.corpus or text.default_corpus(), "", None, folder / "text.txt")

        def run(command: list[str]) -> None:
            if measure.run(command, variables, folder / "log").code:
                raise SystemExit((folder / "log").read_text(errors="replace")[-3000:])

        run([
            sys.executable, "-m", "bench.pretrained", "--gensim", str(words.path), str(folder),
            "--epochs", str(options.epochs), "--fasttext-epochs", str(options.fasttext_epochs),
        ])  # fmt: skip
        for seed in range(1, options.seeds + 1):
            for name, file in {"nothing": "", **FILES}.items():
                output = folder / "output"
                command = train_command([], words.path, output, {**SETTINGS, "training.seed": seed})
                run([*command, "--overwrite", *(["--init", str(folder / file)] if file else [])])
                found = embeddings.read(output)
                result = quality.evaluate((found.words.to_pylist(), found.vectors), words.counts)
                print(json.dumps({"seed": seed, "from": name, **result._asdict()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
