"""A page to look at in Chromium, and what is run in it."""

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from spark_w2v.analysis import report
from spark_w2v.analysis.evaluation_results import Evaluation

# Each as it has to be shown: as itself, or, where it would be invisible or turn its line around, as its codes.
HOSTILE = {
    "</script><script>window.hit=1</script>": None, "<img src=x onerror=window.hit=1>": None, "<!--": None, "-->": None,
    '"onload="window.hit=1': None, "'": None, "&lt;b&gt;": None, "${1+1}": None, "{data}": None, "__proto__": None,
    "constructor": None, "\\u003cb": None, "javascript:window.hit=1": None, "data:text/html,<b>": None,
    "שלום": None, "مرحبا": None, "नमस्ते": None, "日本語": None, "ไทย": None, "e\u0301": None,
    "\U0001d518\U0001d52b": None, "👩\u200d👩\u200d👧": None, "🏳️\u200d🌈": None, "Z\u0351\u036b\u0343\u036a": None,
    "x" * 180: None, "\u202egnirts": "\\u{202e}gnirts", "\u200b": "\\u{200b}", "\u2028": "\\u{2028}", "\x00": "\\u{0}",
    "\u200d": "\\u{200d}", "\r\n": "\\u{d}\\u{a}", "\ufeffbom": "\\u{feff}bom", " lead": "␣lead", "\u00a0": "\\u{a0}",
    "a\u2067b": "a\\u{2067}b", "\u001b[31mred": "\\u{1b}[31mred",
}  # fmt: skip
# For each word the first that is found, and the milliseconds that it took.
SEARCH = """
const input = document.getElementById("search"), button = () => document.querySelector("#found button");
return arguments[0].map(word => {
  let least = Infinity;
  for (let i = 0; i < 3; i++) {
    input.value = word;
    const start = performance.now();
    input.dispatchEvent(new Event("input"));
    least = Math.min(least, performance.now() - start);
  }
  return [button() && button().querySelector("bdi").textContent, least];
});
"""
TAP = """
const label = document.querySelector("#map text[data-id]"), box = label.getBoundingClientRect();
const svg = document.querySelector("#map svg"), x = box.left + box.width / 2, y = box.top + box.height / 2;
const touch = {clientX: x, clientY: y, pointerId: 1, pointerType: "touch", bubbles: true};
svg.setPointerCapture = () => {};
svg.dispatchEvent(new PointerEvent("pointerdown", touch));
svg.dispatchEvent(new PointerEvent("pointerup", touch));
"""
# The heading, and the last neighbour, of ten.
IN_VIEW = """
const boxes = ["#detail h3", "#detail .neighbor:nth-of-type(10)"].map(s => document.querySelector(s));
return boxes.every(b => b && b.getBoundingClientRect().top >= 0 && b.getBoundingClientRect().bottom <= innerHeight);
"""
# How many elements take the focus, and what is wrong with the rings of some.
CLIPPED = """
const found = [];
let looked = 0;
for (const one of document.querySelectorAll("a, button, input, summary, [tabindex]")) {
  one.focus({focusVisible: true});
  if (document.activeElement !== one) { found.push("takes no focus: " + one.outerHTML.slice(0, 80)); continue; }
  looked++;
  const style = getComputedStyle(one);
  if (style.outlineStyle === "none") { found.push("no ring: " + one.outerHTML.slice(0, 80)); continue; }
  const out = parseFloat(style.outlineWidth) + parseFloat(style.outlineOffset), r = one.getBoundingClientRect();
  const ring = [r.left - out, r.top - out, r.right + out, r.bottom + out];
  for (let up = one.parentElement; up !== document.documentElement; up = up.parentElement) {
    if (getComputedStyle(up).overflow === "visible") continue;
    const c = up.getBoundingClientRect();
    if (ring[0] < c.left || ring[1] < c.top || ring[2] > c.right || ring[3] > c.bottom)
      found.push(one.outerHTML.slice(0, 80) + " in " + up.className);
  }
  if (ring[0] < 0 || ring[1] < 0 || ring[2] > document.documentElement.clientWidth || ring[3] > innerHeight)
    found.push("beyond the window: " + one.outerHTML.slice(0, 80) + ring);
}
return [looked, found];
"""


def make_page(
    target: Path, words: list[str], dimensions: int = 20, missing: int = 0, vocabulary: dict[str, str] | None = None
) -> None:
    """A run whose words are of 40 groups, with curves and an evaluation; some words do not occur in the text."""
    rng = np.random.default_rng(1)
    group = np.arange(len(words)) % 40
    vectors = rng.normal(size=(40, dimensions))[group] + rng.normal(size=(len(words), dimensions)) * 0.5
    counts = np.maximum(5, 100_000 // np.arange(1, len(words) + 1)).astype(np.int64)
    counts[len(words) - missing :] = 0
    metrics = [
        {
            "epoch": e, "loss": 3 / e + 1, "held_out_loss": 3 / e + 1.1, "learning_rate": 0.05 * (1 - e / 5),
            "pairs": 10**7, "words": 10**6, "seconds": 12.3, "words_per_second": 80_000 + e,
            "words_per_second_per_core": 41_000 + e,
        }
        for e in range(1, 6)
    ]  # fmt: skip
    run = {
        "configuration": {
            "training": {"dimensions": dimensions, "negatives": 5}, "corpus": {"pattern": "<b>"},
            **({} if vocabulary is None else {"vocabulary": vocabulary}),
        },
        "corpus": {
            "lines": 10_000, "words": int(counts.sum()) + 99, "kept_words": int(counts.sum()), "vocabulary": len(words),
            "distinct_words": len(words) + 99, "sentences": 9000, "blank_lines": 7, "long_words": 3,
        },
        "resolved": {"partitions_used": 2, "scheme": "blocks"}, "seconds": 4000, "prepare_seconds": 60, "seed": 1,
        "started": "2026-11-26T20:15:00+00:00", "host": "<b>host",
        "spark": {"version": "4.3.0", "master": "local[2]", "cores": 2},
        "phases": {"starting Spark": 4.5, "reading the text": 60.25, "training": 3900.0},
        "stopped_early": "after epoch 5: <u>",
        "versions": {"spark_w2v": "0.2.0.dev0", "commit": "abc1234", "python": "3.11.7", "numpy": "2.4.6"},
        "fingerprint": {"input": ["<script>window.hit=1</script>"]},
    }  # fmt: skip
    section = {"section": "<i>capital", "questions": 10, "used": 9, "add": 0.5, "mul": None}
    scores = {
        "output": "o", "words": len(words), "dimensions": dimensions,
        "pairs": [{"file": "/x/<b>.tsv", "pairs": 353, "used": 350, "spearman": 0.65, "pearson": 0.6}],
        "analogies": [{"file": "/x/questions.txt", "sections": [section], "total": section | {"section": "total"}}],
    }  # fmt: skip
    move = {"word": "<u>", "shared": 3, "here": ["<a>"], "there": ["b"]}
    moves = {"among": 10, "near": 10, "mean_shared": 5.5, "moved": [move]}
    evaluation = msgspec.convert({"restrict": 300_000, "this": scores, "other": scores, "moves": moves}, Evaluation)
    finished = report.Finished("<b>run", pa.array(words), counts, np.asarray(vectors, np.float32), run, metrics)
    report.write(target, report.page(finished, evaluation))
