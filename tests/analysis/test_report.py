"""report.html without a browser: what it holds, that nothing in it gets out of its element, its size and its time."""

import base64
import errno
import hashlib
import html.parser
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from spark_w2v.analysis import report
from spark_w2v.analysis.evaluation_results import Evaluation
from spark_w2v.analysis.neighbors import nearest, unit_vectors
from spark_w2v.analysis.report import Finished, page
from spark_w2v.analysis.word_map import principal_axes, word_map
from spark_w2v.config import KEYS
from spark_w2v.errors import StorageError, UserError
from spark_w2v.runs import embedding_files, embedding_writer, embeddings
from spark_w2v.runs.parameter_files import ByWord, ParameterFiles
from spark_w2v.text.counters import COUNTERS

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = [
    "</script><script>alert(1)</script>", "<!--", "-->", "<img src=x onerror=alert(1)>", "&lt;b&gt;", '"', "'",
    "\\u003c", "{data}", "script-hash", "'style-hash'", "מילה", "كلمة", "\u202egnirts", "हिन्दी", "\u2028", "\x00",
    "👩\u200d👩\u200d👧", "🏳️\u200d🌈", "\r\n", "\ufeffbom", "a" * 300, "𝔘𝔫𝔦", "e\u0301", "\u200b",
]  # fmt: skip
PAIRS = {"file": "a/p.tsv", "pairs": 9, "used": 8, "unknown": 1, "bad_lines": 0, "spearman": 0.5, "pearson": None}
SCORES: dict[str, Any] = {"output": "<b>", "words": 3, "dimensions": 2, "pairs": [PAIRS], "analogies": []}


def run_of(words: list[str], vectors: Any, **run: Any) -> Finished:
    counts = np.maximum(1, 10_000 // np.arange(1, len(words) + 1)).astype(np.int64)
    metrics = [{"epoch": 1, "loss": 2.5, "held_out_loss": None, "learning_rate": 0.01, "words_per_second": 7}]
    return Finished("run", pa.array(words, pa.string()), counts, np.asarray(vectors, np.float32), run, metrics)


def random_run(words: int, dimensions: int, seed: int = 1) -> Finished:
    rng = np.random.default_rng(seed)
    return run_of([f"word{i}" for i in range(words)], rng.standard_normal((words, dimensions), np.float32))


class Elements(html.parser.HTMLParser):
    """What a browser would make of the page: its tags, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.comments: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.tags[-1][0] if self.tags else "", data))

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def data_of(text: str) -> Any:
    _, _, rest = text.partition('<script type="application/json" id="data">')
    return json.loads(rest.partition("</script>")[0])


def test_no_word_gets_out_of_the_data() -> None:
    rng = np.random.default_rng(1)
    hostile = page(run_of(HOSTILE, rng.normal(size=(len(HOSTILE), 4)), configuration={"corpus": {"pattern": "<svg>"}}))
    tame = page(run_of([f"w{i}" for i in range(len(HOSTILE))], rng.normal(size=(len(HOSTILE), 4))))
    assert data_of(hostile)["words"] == HOSTILE
    assert Elements(hostile).tags == Elements(tame).tags
    assert Elements(hostile).comments == []
    assert hostile.encode().count(b"\0") == 0
    assert page(run_of(["a\udc80"[:1], "b"], rng.normal(size=(2, 2)), seed="\udc80")).encode()


def test_the_policy_names_the_hash_of_every_inline_piece_and_lets_nothing_else_in() -> None:
    text = page(random_run(20, 4))
    policy = next(a["content"] for tag, a in Elements(text).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        inside = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        assert len(inside) == 1
        digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    assert "innerHTML" not in text
    assert "style=" not in text  # the policy would refuse it


def test_the_neighbours_are_those_that_the_neighbors_command_finds() -> None:
    run = random_run(300, 8)
    data = data_of(page(run))
    ids = np.frombuffer(base64.b64decode(data["neighbors"]), "<u2").reshape(300, data["near"])
    cosines = np.frombuffer(base64.b64decode(data["cosines"]), np.uint8).reshape(ids.shape) / 100 - 1
    units = unit_vectors(np.asarray(run.vectors[:]))
    for word in (0, 17, 299):
        expected = nearest(units, units[word], [word], 10)
        assert ids[word].tolist() == [i for i, _ in expected]
        assert cosines[word] == pytest.approx([c for _, c in expected], abs=0.0051)


@pytest.mark.slow
def test_a_page_of_70000_words_is_small_and_soon_made() -> None:
    run = random_run(70_000, 100)
    started = time.process_time()
    text = page(run)
    assert time.process_time() - started < 10
    assert len(text.encode()) < 2_000_000
    data = data_of(text)
    assert len(data["words"]) == 10_000
    assert data["vocabulary"] == 70_000
    assert data["ranks"][-1] == [70_000, int(run.counts[-1]), int(run.counts.sum())]


@pytest.mark.slow
def test_a_page_of_the_longest_words_metrics_and_evaluation_stays_under_2_mb() -> None:
    rng = np.random.default_rng(1)
    words = ["\u0001" * 100 + f"𝔘{i}" for i in range(12_000)]
    run = run_of(
        words,
        rng.normal(size=(12_000, 4)),
        configuration={"corpus": {f"k{i}": "𝔘" * 5000 for i in range(40)}},
        fingerprint={"input": ["𝔘" * 5000] * 10_000},
        started="𝔘" * 5000,
        host="𝔘" * 10**6,
        stopped_early="𝔘" * 10**6,
        spark={"master": "𝔘" * 10**6},
        phases={f"{i}" + "𝔘" * 500: 1.5 for i in range(10_000)},
        versions={f"{i}" + "𝔘" * 500: "𝔘" * 500 for i in range(10_000)},
    )
    metrics = [{**run.metrics[0], "epoch": i, "pairs": 10**12} for i in range(20_000)]
    section = {"section": "<" * 1000, "questions": 10**9, "used": 10**9, "add": 0.123456789, "mul": None}
    scores = SCORES | {"analogies": [{"file": "f", "sections": [section] * 5000, "total": section}] * 3}
    move = {"word": "<" * 1000, "shared": 1, "here": ["<" * 1000] * 10, "there": ["<" * 1000] * 10}
    moves = {"among": 1, "near": 10, "mean_shared": 1.0, "moved": [move] * 20}
    found = msgspec.convert({"restrict": 9, "this": scores, "other": scores, "moves": moves}, Evaluation)
    text = page(run._replace(metrics=metrics), found)
    assert len(text.encode()) <= report.LARGEST
    data = data_of(text)
    assert 1000 < len(data["words"]) < 10_000
    assert data["words"] == words[: len(data["words"])]
    assert [data["metrics"][i]["epoch"] for i in (0, -1)] == [0, 19_999]
    assert [len(data["run"][name]) for name in ("host", "stopped_early")] == [report.TEXT, report.TEXT]
    assert [len(data["run"][name]) for name in ("phases", "versions")] == [report.LIST, report.LIST]


def test_the_page_knows_the_loss_of_the_averaged_vectors() -> None:
    words, vectors = ["a", "b"], np.eye(2)
    for init, loss in (({"held_out_loss_averaged": 2.5}, 2.5), ({"held_out_loss": 3.0}, None), (None, None)):
        assert data_of(page(run_of(words, vectors, init=init)))["run"]["held_out_loss_averaged"] == loss
    assert "run.held_out_loss_averaged ?? last.held_out_loss" in page(run_of(words, vectors))


@pytest.mark.parametrize(
    ("corpus", "text"),
    [
        ({"words": 1000, "kept_words": 990}, 1000),
        ({"words": 1000, "weighted_words": 5000, "kept_words": 4950}, 5000),
        ({"words": 1000, "joined_words": 800, "kept_words": 800}, 800),
        ({"words": 1000, "weighted_words": 80, "joined_words": 80, "kept_words": 80}, 80),
        ({}, None),
        (None, None),
        ("damaged", None),
    ],
)
def test_shares_of_the_text_are_of_the_words_as_the_vocabulary_counts_them(corpus: Any, text: int | None) -> None:
    made = page(run_of(["a", "b"], np.eye(2), corpus=corpus))
    assert data_of(made)["run"]["text_words"] == text
    shares = re.findall(r"(\w+\.kept_words|covered|outside), (\w+\.\w+)\)", made)
    assert shares == [(name, "run.text_words") for name in ("covered", "outside", "corpus.kept_words")]
    assert "outside = run.text_words - corpus.kept_words" in made


def test_the_page_tells_of_all_that_was_skipped_or_changed() -> None:
    _, _, rest = page(random_run(3, 2)).partition("const described = {")
    described = re.findall(r'(\w+): "', rest.partition("};")[0])
    assert set(described) == set(COUNTERS) - {"lines", "words", "sentences", "lines_with_words"}


def test_the_page_explains_every_key_of_the_configuration() -> None:
    meanings = data_of(page(random_run(3, 2)))["meanings"]
    assert meanings["training"]["negatives"] == KEYS["training.negatives"].description
    assert {f"{section}.{name}" for section, keys in meanings.items() for name in keys if name} == KEYS.keys()
    assert meanings["vocabulary"][""].startswith("Which words get a vector")


@pytest.mark.parametrize("words", [0, 1, 2, 3, 4, 24, 25, 30, 200])
@pytest.mark.parametrize("dimensions", [1, 2, 50])
def test_a_page_of_few_words_is_made(words: int, dimensions: int) -> None:
    data = data_of(page(random_run(words, dimensions)))
    assert len(data["places"]) == 2 * words
    assert all(0 <= place <= report.SQUARE for place in data["places"])


def test_words_of_all_the_same_vector_are_laid_out() -> None:
    for vectors in (np.zeros((50, 4)), np.ones((50, 4)), np.eye(50, 4)):
        assert len(data_of(page(run_of([f"w{i}" for i in range(50)], vectors)))["places"]) == 100


@pytest.mark.slow
def test_the_map_keeps_groups_together_and_is_the_same_twice() -> None:
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(40), 33)  # 1,320 words: some find their places beside others
    group = rng.permutation(group)
    units = unit_vectors(np.asarray(rng.normal(size=(40, 50))[group] + rng.normal(size=(1320, 50)) * 0.5, np.float32))
    places = word_map(units)
    assert np.array_equal(places, word_map(units))
    assert np.abs(places).max() == pytest.approx(1)

    def alike(where: Any) -> float:
        """The share of the five nearest on the map that are of the same group."""
        distances = ((where[:, None] - where[None]) ** 2).sum(axis=2)
        np.fill_diagonal(distances, np.inf)
        near = np.argpartition(distances, 5, axis=1)[:, :5]
        return float((group[near] == group[:, None]).mean())

    assert alike(places) > 0.95
    assert alike(principal_axes(units)) < 0.5, "two dimensions of PCA would not do"


def test_principal_axes_are_those_of_a_singular_value_decomposition() -> None:
    rng = np.random.default_rng(1)
    for shape in ((30, 5), (5, 30)):
        units = unit_vectors(np.asarray(rng.normal(size=shape), np.float32))
        left, sizes, _ = np.linalg.svd(units - units.mean(axis=0), full_matrices=False)
        expected = np.abs(left[:, :2] * sizes[:2])
        assert np.abs(principal_axes(units)) == pytest.approx(expected, abs=1e-5)


def test_an_evaluation_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text(json.dumps({"restrict": 300_000, "this": SCORES}))
    found = report.evaluation(path, 3, 2, "")
    assert isinstance(found, Evaluation)
    assert found.this.pairs[0].spearman == 0.5
    with pytest.raises(UserError, match=r"3 words of 2 dimensions, and this run has 4 of 2"):
        report.evaluation(path, 4, 2, "")
    path.write_text(json.dumps({"restrict": 300_000, "this": SCORES | {"digest": "aa"}}))
    assert report.evaluation(path, 3, 2, "aa").this.digest == "aa"
    with pytest.raises(UserError, match=r"is the evaluation of other vectors, those of .*; evaluate this run"):
        report.evaluation(path, 3, 2, "bb")
    for content in ("", "[]", '{"restrict": 1}', '{"restrict": 1, "this": {"output": 3}}', "\xff", "[" * 100_000):
        path.write_text(content, encoding="latin-1")
        with pytest.raises(UserError, match="not a report that"):
            report.evaluation(path, 3, 2, "")
    with pytest.raises(UserError, match="not a report that"):
        report.evaluation(tmp_path / "none", 3, 2, "")


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "found.json"
    old, new = (f'{{\n "restrict": "{text}"\n}}\n' for text in ("old", "new"))
    report.write(target, old, report.EVALUATION)

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(StorageError, match="the disk is full"):
        report.write(target, new, report.EVALUATION)
    assert target.read_text() == old
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_what_a_user_has_to_allow_is_a_users_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(UserError, match=r"could not be written \(Permission denied\); give another path, or the perm"):
        report.write(tmp_path / "page.html", "")
    (tmp_path / "page.html").touch()
    monkeypatch.setattr(report, "open_file", refuse)
    with pytest.raises(UserError, match=r"cannot be looked at \(Permission denied\)"):
        report.write(tmp_path / "page.html", "")


def test_the_template_is_read_from_a_zip(tmp_path: Path) -> None:
    """As executors and --py-files have the package."""
    packed = tmp_path / "spark_w2v.zip"
    import zipfile

    with zipfile.ZipFile(packed, "w") as archive:
        for path in (ROOT / "spark_w2v").rglob("*"):
            if path.suffix in (".py", ".html"):
                archive.write(path, path.relative_to(ROOT))
    program = (
        f"import sys; sys.path.insert(0, {str(packed)!r})\n"
        "from spark_w2v.analysis import report\n"
        f"assert report.__file__.startswith({str(packed)!r}), report.__file__\n"
        "print(len(report._filled({'words': []})))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10_000


def test_the_wheel_takes_the_template_along() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "analysis/report.html" in settings["tool"]["setuptools"]["package-data"]["spark_w2v"]


def test_text_and_curves_stand_out_in_light_and_in_dark() -> None:
    """WCAG 2: 4.5 for text, 3 for the parts of a drawing."""
    template = (ROOT / "spark_w2v" / "analysis" / "report.html").read_text(encoding="utf-8")
    modes = re.findall(r":root \{(.*?)\}", template, re.DOTALL)
    assert len(modes) == 2

    def luminance(color: str) -> float:
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for mode in modes:
        colors = dict(re.findall(r"--(\w+): (#\w{6});", mode))
        for ground in ("page", "card", "faint"):
            for text in ("ink", "soft", "one", "two", "mark", "near"):
                assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground, colors)
        assert contrast(colors["dot"], colors["card"]) >= 3


def test_of_the_vectors_only_the_rows_of_a_page_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_writer, "ROW_GROUP_BYTES", 10 * 3 * 4)
    monkeypatch.setattr(report, "WORDS", 25)
    run = random_run(100, 3)
    vectors = np.asarray(run.vectors[:])
    embedding_writer.write(tmp_path / "run", run.words, run.counts, vectors, vectors, {})
    for name, content in (("run.json", "{}"), ("metrics.jsonl", ""), ("_SUCCESS", "")):
        (tmp_path / "run" / name).write_text(content)
    read, rows = embedding_files.checked_batches, []

    def counted(*given: Any) -> Any:
        for batch in read(*given):
            rows.append(len(batch[0]))
            yield batch

    monkeypatch.setattr(embeddings, "checked_batches", counted)
    found = report.finished(tmp_path / "run")
    assert rows == [10, 10, 10]
    assert np.array_equal(found.vectors[:], vectors[:25])
    assert page(found._replace(metrics=run.metrics)) == page(run._replace(run={}))


def test_of_a_matrix_in_files_a_page_takes_the_rows_that_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "WORDS", 25)
    run = random_run(100, 3)
    places = np.random.default_rng(3).permutation(100).astype(np.int32)
    made = ParameterFiles.create(tmp_path / "made", 100, 3)
    made.center[places] = run.vectors[:]
    taken: list[slice] = []

    class Watched(ByWord):
        def __getitem__(self, word_ids: slice) -> Any:
            taken.append(word_ids)
            return super().__getitem__(word_ids)

    assert page(run._replace(vectors=Watched(made.center, places))) == page(run)
    assert taken == [slice(None, 25)]


def test_words_that_do_not_occur_have_no_rank() -> None:
    words = run_of(["a", "b", "c"], np.eye(3))
    assert data_of(page(words._replace(counts=np.array([7, 2, 0]))))["ranks"] == [[1, 7, 7], [2, 2, 9]]
    assert data_of(page(words._replace(counts=np.zeros(3, np.int64))))["ranks"] == []
