"""The report in a real browser, at the width of a desk and of a phone: whole, quiet, and no text of the data acts."""

import pytest

from dawgen_jax.results.report import write_report
from tests.results import browser
from tests.results.invented import write_run

pytestmark = pytest.mark.skipif(browser.EXECUTABLE is None, reason="no chromium or google-chrome here")

HOSTILE = ("</style></title></script><script>window.acted = 1</script><img src=x onerror='window.acted = 1'>"
           "<svg onload='window.acted = 1'>\" onmouseover=\"window.acted = 1\" autofocus onfocus='window.acted = 1' & "
           + 200 * "w")
WIDTHS = (1280, 390)
SECTIONS = ["Results", "Wrong examples", "Synthetic data", "Prompt tuning", "Generator tuning", "Token weights", "Time",
            "Settings"]
# Elements that reach out of the window, but for those in a box that scrolls or is cut by intent.
OUTSIDE = """[...document.querySelectorAll('main *')].filter(one => !one.closest('.scroll, pre')
  && one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1)
  .map(one => one.outerHTML.slice(0, 80))"""
CUT = """[...document.querySelectorAll('.scroll')].filter(one => one.querySelector('.wide') && one.checkVisibility()
  && one.scrollWidth > one.clientWidth).length"""


# For each group of panels: whether the plots of each of its rows end on one line.
ALIGNED = """[...document.querySelectorAll('.panels')].map(one =>
  new Set([...one.querySelectorAll('img')].map(plot => Math.round(plot.getBoundingClientRect().bottom))).size
  == Math.ceil(one.children.length / getComputedStyle(one).gridTemplateColumns.split(' ').length))"""


# The bands of 600 pixels whose right half has neither text nor an image.
EMPTY = """(() => {
  const shown = [...document.images].filter(one => one.checkVisibility()).map(one => one.getBoundingClientRect());
  const texts = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(texts.currentNode);
    if (texts.currentNode.textContent.trim()) shown.push(...range.getClientRects());
  }
  const filled = new Set();
  for (const one of shown.filter(one => one.right > 720))
    for (let band = Math.floor(one.top / 600); band <= Math.floor(one.bottom / 600); band++) filled.add(band);
  const bands = Math.floor(document.documentElement.scrollHeight / 600);
  return [...Array(bands).keys()].filter(band => !filled.has(band));
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory, make_row):
    root = tmp_path_factory.mktemp("browser")
    opened = browser.Browser(root / "profile")
    opened.file = write_report(write_run(root / "run", make_row, HOSTILE))
    yield opened
    opened.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_is_whole_and_loads_nothing(page, width):
    page.open(page.file, width)
    assert page.evaluate("innerWidth") == width
    assert page.evaluate("[...document.querySelectorAll('section h2')].filter(one => one.offsetHeight)"
                         ".map(one => one.textContent)") == SECTIONS
    requests = [told["request"]["url"] for told in page.told("Network.requestWillBeSent")]
    assert [url for url in requests if not url.startswith("data:image/svg+xml,")] == [page.file.resolve().as_uri()]
    assert page.told("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown") == []


def test_no_half_of_a_wide_page_is_empty(page, tmp_path, make_row):
    page.open(write_report(write_run(tmp_path / "plain", make_row, "neutral")), WIDTHS[0])
    empty = page.evaluate(EMPTY)
    assert empty == [], empty


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_reaches_out_of_the_window(page, width):
    page.open(page.file, width)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate("document.querySelectorAll('.wide').length") >= 3
    assert width > 390 or page.evaluate(CUT) == 0  # on a phone a wide table is a list
    # No plot is crushed, and a caption of two lines shifts none.
    assert page.evaluate("Math.min(...[...document.querySelectorAll('figure img')].map(one => one.clientWidth))") > 240
    assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    assert set(page.evaluate(ALIGNED)) == {True}


def test_text_of_the_data_is_text(page):
    page.open(page.file, WIDTHS[0])
    page.evaluate("document.querySelectorAll('label, summary, span, td').forEach(one => { one.click();"
                  " one.dispatchEvent(new MouseEvent('mouseover', {bubbles: true})) })")
    assert page.evaluate("window.acted") is None
    assert page.evaluate("document.querySelectorAll("
                         "'script, img:not(.plot), [onload], [onmouseover], [onfocus]').length") == 0
    assert f"run mini {HOSTILE}" in page.evaluate("document.title")
    assert page.told("Log.entryAdded", "Runtime.exceptionThrown") == []  # nothing was even tried


def test_pairs_are_paged_without_a_script(page):
    page.open(page.file, WIDTHS[1])
    shown = """[...document.querySelectorAll('.pager .pager .page')].filter(one => one.checkVisibility())
      .map(one => one.querySelector('li').value)"""
    before = page.evaluate(shown)
    page.evaluate("[...document.querySelectorAll('label')].find(one => one.textContent == '11–20').click()")
    after = page.evaluate(shown)
    assert len(after) == len(before) == 2 and [one != other for one, other in zip(before, after, strict=True)] == [
        True, False]
