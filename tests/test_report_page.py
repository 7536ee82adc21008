"""report.html in Chromium, as a person uses it: searching, clicking, zooming, in light and dark, on a phone."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from spark_w2v.analysis import report
from tests.support.report_page import CLIPPED, HOSTILE, IN_VIEW, SEARCH, TAP, make_page

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None, reason="needs chromium and chromedriver: apt-get install chromium-driver"
    ),
]
PHONE, DESK = (390, 844, True), (1400, 900, False)


@pytest.fixture(scope="module")
def words() -> list[str]:
    """10,000 words with the hostile ones among the most frequent."""
    return [*(f"word{i}" for i in range(50)), *HOSTILE, *(f"rare{i}" for i in range(9950 - len(HOSTILE)))]


@pytest.fixture(scope="module")
def page(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("page") / "report.html"
    make_page(target, words)
    return target


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    assert CHROMIUM is not None
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "hide-scrollbars",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome, page: Path) -> Iterator[webdriver.Chrome]:
    """The page, just opened on a desk; whatever is on the console at the end is a failure."""
    look(chromium, *DESK)
    chromium.get(page.as_uri())
    yield chromium
    assert chromium.get_log("browser") == []  # type: ignore[no-untyped-call]


def look(
    browser: webdriver.Chrome, width: int, height: int, phone: bool, scheme: str = "light", motion: str = "reduce"
) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": motion},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def run(browser: webdriver.Chrome, script: str, *arguments: Any) -> Any:
    return browser.execute_script(script, *arguments)


def chosen(browser: webdriver.Chrome) -> Any:
    return run(browser, "const h = document.querySelector('#detail h3'); return h && h.textContent")


def labels(browser: webdriver.Chrome) -> list[list[float]]:
    """Left, top, right, bottom of every label of the map."""
    found: list[list[float]] = run(
        browser,
        # A font with marks upon marks has lines that are taller than any ink in them.
        "return [...document.querySelectorAll('#map text')].map(t => t.getBBox()).filter(r => r.height < 24)"
        ".map(r => [r.x, r.y, r.x + r.width, r.y + r.height])",
    )
    return found


def overlaps(boxes: list[list[float]]) -> int:
    """Pairs that share more than a pixel in width and two in height; glyphs do not fill the height of a line."""
    array = np.array(boxes)
    across = np.minimum(array[:, None, 2], array[None, :, 2]) - np.maximum(array[:, None, 0], array[None, :, 0])
    down = np.minimum(array[:, None, 3], array[None, :, 3]) - np.maximum(array[:, None, 1], array[None, :, 1])
    return int((np.triu((across > 1) & (down > 2), 1)).sum())


def settle(browser: webdriver.Chrome) -> None:
    browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))")


def test_every_hostile_word_is_found_and_shown_as_text(browser: webdriver.Chrome) -> None:
    scripts = run(browser, "return document.scripts.length")
    for given in (
        list(HOSTILE),
        [shown or word for word, shown in HOSTILE.items()],
    ):  # pasted, and typed as it is shown
        # An input of one line drops line ends.
        asked = [word for word in given if "\n" not in word]
        found = run(browser, SEARCH, asked)
        expected = {**{w: s or w for w, s in HOSTILE.items()}, **{s: s for s in HOSTILE.values() if s}}
        assert [text for text, _ in found] == [expected[word] for word in asked]
    for shown in (shown or word for word, shown in HOSTILE.items()):
        run(browser, SEARCH, [shown])
        run(browser, "document.querySelector('#found button').click()")
        assert chosen(browser) == shown
        assert len(browser.find_elements(By.CSS_SELECTOR, "#detail .neighbor")) == 10
    assert run(browser, "return [typeof window.hit, document.scripts.length, document.images.length]") == [
        "undefined", scripts, 0,
    ]  # fmt: skip
    assert run(browser, "return performance.getEntriesByType('resource').map(e => e.name)") == []


def test_words_are_found_in_under_100_ms(browser: webdriver.Chrome, words: list[str]) -> None:
    some = [*words[::40], "r", "e", "no such word"]
    found = run(browser, SEARCH, some)
    assert max(ms for _, ms in found) < 100
    plain = [(word, text) for word, (text, _) in zip(some, found, strict=True) if word in words and word not in HOSTILE]
    assert all(word == text for word, text in plain)
    assert found[-1][0] is None
    assert "Not among the 10,000 words" in browser.find_element(By.ID, "found").text


def test_typing_a_word_and_enter_shows_its_neighbours_and_they_lead_on(browser: webdriver.Chrome) -> None:
    browser.find_element(By.ID, "search").send_keys("word7", Keys.ENTER)
    assert chosen(browser) == "word7"
    settle(browser)
    marked = browser.find_elements(By.CSS_SELECTOR, "#map text.mark")
    assert [label.text for label in marked] == ["word7"]
    first = browser.find_element(By.CSS_SELECTOR, "#detail .neighbor bdi")
    name = first.text
    first.click()
    assert chosen(browser) == name != "word7"


def test_the_map_zooms_moves_and_answers_the_pointer(browser: webdriver.Chrome) -> None:
    svg = browser.find_element(By.CSS_SELECTOR, "#map svg")
    run(browser, "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", svg)
    place = "return document.querySelectorAll('#map circle')[0].getAttribute('transform')"
    settle(browser)
    before = run(browser, place)
    at = run(browser, "return (r => [r.x + r.width / 2, r.y + r.height / 2])(arguments[0].getBoundingClientRect())",
             browser.find_element(By.CSS_SELECTOR, "#map circle"))  # fmt: skip
    ActionChains(browser).move_to_element(svg).perform()
    frame = run(
        browser, "return (r => [r.x + r.width / 2, r.y + r.height / 2])(arguments[0].getBoundingClientRect())", svg
    )
    offset = [round(a - b) for a, b in zip(at, frame, strict=True)]
    ActionChains(browser).move_to_element_with_offset(svg, *offset).perform()
    tip = browser.find_element(By.CSS_SELECTOR, "#map .tip")
    assert tip.is_displayed()
    assert tip.text.startswith("word0\n100,000 times\n")
    ActionChains(browser).move_to_element_with_offset(svg, *offset).click().perform()
    assert chosen(browser) == "word0"

    browser.find_element(By.CSS_SELECTOR, "[title='Zoom in']").click()
    browser.find_element(By.CSS_SELECTOR, "[title='Zoom in']").click()
    settle(browser)
    zoomed = run(browser, place)
    assert zoomed != before
    ActionChains(browser).move_to_element(svg).click_and_hold().move_by_offset(60, 40).release().perform()
    settle(browser)
    assert run(browser, place) != zoomed
    browser.find_element(By.CSS_SELECTOR, "[title='Show all']").click()
    settle(browser)
    assert run(browser, place) == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_no_two_labels_overlap_and_nothing_is_wider_than_the_screen(
    browser: webdriver.Chrome, size: tuple[int, int, bool], scheme: str, tmp_path: Path
) -> None:
    look(browser, *size, scheme)
    browser.refresh()
    for step in range(3):
        settle(browser)
        boxes = labels(browser)
        assert len(boxes) > 20
        assert overlaps(boxes) == 0, f"after {step} steps of zoom"
        run(browser, "document.querySelector(\"[title='Zoom in']\").click()")
    run(browser, SEARCH, ["word7"])
    run(browser, "document.querySelector('#found button').click()")
    settle(browser)
    assert overlaps(labels(browser)) == 0
    assert run(browser, "return document.documentElement.scrollWidth <= innerWidth")
    charts = browser.find_elements(By.CSS_SELECTOR, ".chart svg")
    assert len(charts) >= 2
    for chart in charts:
        texts = run(
            browser,
            "return [...arguments[0].querySelectorAll('text')].map(t => t.getBBox())"
            ".map(r => [r.x, r.y, r.x + r.width, r.y + r.height])",
            chart,
        )
        assert len(texts) > 4
        assert overlaps(texts) == 0
    background = run(browser, "return getComputedStyle(document.body).backgroundColor")
    brightness = sum(json.loads(background.replace("rgb(", "[").replace(")", "]")))
    assert brightness > 600 if scheme == "light" else brightness < 150
    picture = tmp_path / "page.png"
    assert browser.save_screenshot(picture)
    assert picture.stat().st_size > 10_000


def test_a_chart_tells_its_numbers(browser: webdriver.Chrome) -> None:
    chart = browser.find_element(By.CSS_SELECTOR, "#training .chart svg")
    ActionChains(browser).move_to_element(chart).perform()
    assert browser.find_element(By.CSS_SELECTOR, "#training .tip").text == "epoch 3\ntraining 2.0000\nheld out 2.1000"


def test_the_sections_say_what_the_run_was(browser: webdriver.Chrome) -> None:
    text = {s: browser.find_element(By.ID, s).text for s in ("glance", "corpus", "evaluation", "settings")}
    assert "10,000\nwords with a vector" in text["glance"]
    assert "lines that are blank 7 0.07 %" in text["corpus"]
    assert "<b>.tsv 353 350 350 0.650" in text["evaluation"]
    assert "<script>window.hit=1</script>" in text["settings"]
    assert browser.title == "<b>run – word vectors"


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_page_of_few_words_opens(chromium: webdriver.Chrome, count: int, tmp_path: Path) -> None:
    make_page(tmp_path / "few.html", [f"w{i}" for i in range(count)])
    chromium.get((tmp_path / "few.html").as_uri())
    WebDriverWait(chromium, 10).until(lambda b: b.find_elements(By.ID, "settings"))
    if count:
        assert run(chromium, SEARCH, ["w0"])[0][0] == "w0"
        run(chromium, "document.querySelector('#found button').click()")
        assert len(chromium.find_elements(By.CSS_SELECTOR, "#detail .neighbor")) == count - 1
    assert chromium.get_log("browser") == []  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("missing", [1, 9])
def test_words_that_do_not_occur_have_dots_on_the_map(chromium: webdriver.Chrome, missing: int, tmp_path: Path) -> None:
    make_page(tmp_path / "missing.html", [f"w{i}" for i in range(9)], missing=missing)
    chromium.get((tmp_path / "missing.html").as_uri())
    WebDriverWait(chromium, 10).until(lambda b: b.find_elements(By.ID, "settings"))
    radii = run(chromium, "return [...document.querySelectorAll('#map circle')].map(c => Number(c.getAttribute('r')))")
    assert len(radii) == 9
    assert all(radius > 0 for radius in radii)
    assert "NaN" not in run(chromium, "return document.querySelector('main').innerHTML")
    assert chromium.get_log("browser") == []  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_on_a_phone_the_neighbours_of_a_tapped_word_come_into_view(browser: webdriver.Chrome, motion: str) -> None:
    look(browser, *PHONE, motion=motion)
    browser.refresh()
    run(browser, "scrollTo({top: document.getElementById('map').offsetTop - 320, behavior: 'instant'})")
    settle(browser)
    assert run(browser, "return document.getElementById('detail').getBoundingClientRect().top > innerHeight - 80")
    run(browser, TAP)
    assert run(browser, IN_VIEW) == (motion == "reduce")  # at once, or smoothly
    WebDriverWait(browser, 5).until(lambda b: run(b, IN_VIEW))

    # A tap on a neighbour, while the heading is above the screen.
    last = run(browser, "return [...document.querySelectorAll('#detail .neighbor bdi')].at(-1).textContent")
    run(browser, "scrollTo({top: document.querySelector('#detail .neighbor').offsetTop + 150, behavior: 'instant'})")
    assert not run(browser, IN_VIEW)
    run(browser, "[...document.querySelectorAll('#detail .neighbor')].at(-1).click()")
    assert chosen(browser) == last
    WebDriverWait(browser, 5).until(lambda b: run(b, IN_VIEW))

    # What was searched for: its field is above the map.
    run(browser, "scrollTo({top: document.getElementById('search').offsetTop, behavior: 'instant'})")
    assert not run(browser, IN_VIEW)
    run(browser, SEARCH, ["word7"])
    run(browser, "document.querySelector('#found button').click()")
    WebDriverWait(browser, 5).until(lambda b: run(b, IN_VIEW))


def test_on_a_desk_choosing_a_word_does_not_move_the_page(browser: webdriver.Chrome) -> None:
    look(browser, 1400, 640, phone=False)  # the panel is as high as the map, and ends below the window
    run(browser, "document.getElementById('words').scrollIntoView({block: 'start'})")
    before = run(browser, "return scrollY")
    run(browser, "document.querySelector('#detail .chips button').click()")
    assert run(browser, "return scrollY") == before > 0


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_no_focus_ring_is_clipped(browser: webdriver.Chrome, size: tuple[int, int, bool]) -> None:
    look(browser, *size)
    run(browser, "document.querySelectorAll('details').forEach(d => d.open = true)")
    chips, clipped = run(browser, CLIPPED)
    assert clipped == []
    run(browser, "document.querySelector('#detail .chips button').click()")
    run(browser, SEARCH, ["word1"])
    looked, clipped = run(browser, CLIPPED)
    assert clipped == []
    assert looked > chips > 10, "neighbours and what was found have no ring"


def test_the_page_says_when_where_and_for_how_long(browser: webdriver.Chrome) -> None:
    settings = browser.find_element(By.ID, "settings").text
    for said in (
        "host <b>host", "Spark 4.3.0", "Spark's master local[2]", "cores 2", "spark_w2v 0.2.0.dev0", "commit abc1234",
        "partitions used 2", "ended early after epoch 5: <u>", "total time 1 h 6 min",
    ):  # fmt: skip
        assert said in settings
    lead = browser.find_element(By.ID, "lead").text
    assert "on <b>host. The training ended early, after epoch 5: <u>." in lead
    for moment in browser.find_elements(By.TAG_NAME, "time"):
        assert moment.get_attribute("datetime") == "2026-11-26T20:15:00.000Z"
        assert moment.get_attribute("title") == "2026-11-26 20:15:00 UTC"
        assert "2026" in moment.text
    phases = browser.find_element(By.ID, "phases").text.split("\n")
    assert phases[2:] == ["starting Spark", "4.5", "reading the text", "60.3", "training", "3900.0"]
    bars = run(
        browser, "return [...document.querySelectorAll('#phases .bar i')].map(i => i.getBoundingClientRect().width)"
    )
    assert bars[0] * 5 < bars[1] < bars[2] / 5


def test_no_key_of_a_file_is_shown_as_a_name(browser: webdriver.Chrome) -> None:
    run(browser, "document.querySelectorAll('details').forEach(d => d.open = true)")
    text = browser.find_element(By.TAG_NAME, "main").text
    # Keys of the configuration are what a user writes: section.key.
    assert set(re.findall(r"\S*[a-z]_[a-z]\S*", text)) <= {
        "spark_w2v",
        "vocabulary.min_count",
        "corpus.max_bad_fraction",
    }
    header = browser.find_element(By.CSS_SELECTOR, "#training thead").text
    assert header.startswith("epoch training loss held-out loss learning rate words pairs time, s words per s")
    assert "words per s per core" in header


def test_the_configuration_is_shown_in_groups_that_say_what_they_are(browser: webdriver.Chrome) -> None:
    groups = {
        group.text.split("\n")[0]: group.text for group in browser.find_elements(By.CSS_SELECTOR, ".groups .card")
    }
    assert list(groups) == ["[training]", "[corpus]"]
    assert "How the vectors are learned, and how the work is divided." in groups["[training]"]
    assert "training.negatives\nNoise words per pair.\n5" in groups["[training]"]
    assert "corpus.pattern\nRE2 regular expression" in groups["[corpus]"]
    assert groups["[corpus]"].endswith("<b>")


EARLIER: list[dict[str, Any]] = [
    {}, {"started": None, "host": None, "spark": None, "phases": None, "stopped_early": None, "versions": None},
    {"started": "<b>never", "host": 7, "spark": {}, "phases": {"x": "<b>"}, "stopped_early": "", "versions": {}},
]  # fmt: skip


@pytest.mark.parametrize("facts", EARLIER)
def test_a_page_of_an_earlier_run_opens(chromium: webdriver.Chrome, facts: dict[str, Any], tmp_path: Path) -> None:
    finished = report.Finished(
        "run", pa.array(["a", "b"]), np.array([9, 5]), np.eye(2, dtype=np.float32), facts, [{"epoch": 1, "loss": 2.0}]
    )
    report.write(tmp_path / "earlier.html", report.page(finished))
    chromium.get((tmp_path / "earlier.html").as_uri())
    WebDriverWait(chromium, 10).until(lambda b: b.find_elements(By.ID, "foot"))
    assert chromium.find_element(By.ID, "settings").is_displayed()
    assert chromium.find_elements(By.ID, "phases") == []
    assert ("<b>never" in chromium.find_element(By.ID, "lead").text) == (facts.get("started") is not None)
    assert chromium.find_element(By.ID, "foot").text != ""
    assert chromium.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_words_without_a_vector_are_those_of_the_text(chromium: webdriver.Chrome, tmp_path: Path) -> None:
    """Of 99 distinct words without one, and 12 with one that are not in it: a vocabulary keeps them from earlier."""
    make_page(tmp_path / "kept.html", [f"w{i}" for i in range(20)], missing=12, vocabulary={"stop_words": "/x"})
    chromium.get((tmp_path / "kept.html").as_uri())
    WebDriverWait(chromium, 10).until(lambda b: b.find_elements(By.ID, "foot"))
    said = chromium.find_element(By.ID, "corpus").text
    assert "111 distinct: rarer than vocabulary.min_count or in vocabulary.stop_words" in said
    assert "most frequent words are half of the text's words with a vector." in said
    assert chromium.get_log("browser") == []  # type: ignore[no-untyped-call]
