"""The pages about training: light and dark, on a desk and on a phone. The pictures lie in the target folder, to look at."""

import subprocess

import pytest

from program import PROGRAM


def program(*arguments):
    subprocess.run([PROGRAM, *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Two short runs: the report of the first, one of its plots, and their comparison."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [folder / "one", folder / "two"]
    for run, rate in zip(runs, ["3e-2", "1e-2"]):
        program("train", "--max-steps", 12, "--batch-size", 4, "--exact-match-rows", 2, "--eval-fraction", 0.01, "--gate", "head",
                "--samples", 2, "--lr", rate, "--output", run)
    compare = folder / "compare.html"
    program("compare", *runs, "--html", compare)
    return {"report": runs[0] / "report.html", "plot": runs[0] / "plots" / "loss.svg", "compare": compare}


@pytest.fixture
def open_page(browser):
    contexts, errors = [], []

    def open_page(path, theme, width):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: request.url.startswith("file:") or errors.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors, errors


@pytest.mark.parametrize("width", [1100, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["report", "compare"])
def test_a_page_fits_its_window_and_has_the_system_theme(pages, open_page, screenshots, name, theme, width):
    page = open_page(pages[name], theme, width)
    page.screenshot(path=screenshots / f"{name}-{theme}-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == (theme == "dark"), background
    # Of each plot the picture for this width is shown, and its text can be read.
    for plot in page.locator("figure").all():
        shown = plot.locator("svg.plot:visible")
        assert shown.count() == 1
        sizes = shown.locator("text").evaluate_all("texts => texts.map(text => text.getBoundingClientRect().height)")
        assert min(sizes) > 8, sizes


def test_the_button_changes_the_theme(pages, open_page):
    page = open_page(pages["report"], "light", 1100)
    color = "getComputedStyle(document.querySelector('svg.plot:not([hidden]) text')).fill"
    light = page.evaluate(color)
    page.click("#theme")
    assert page.evaluate(color) != light
    page.click("#theme")
    assert page.evaluate(color) == light


def test_the_numbers_of_a_plot_open(pages, open_page):
    page = open_page(pages["report"], "light", 1100)
    page.locator("#loss summary").click()
    assert page.locator("#loss table").is_visible()
    assert page.locator("#loss th").first.inner_text() == "step"


def test_a_plot_as_a_file_is_legible_in_light_and_dark(pages, open_page):
    def colors(theme):
        page = open_page(pages["plot"], theme, 1100)
        return page.evaluate("['rect', 'text'].map(tag => getComputedStyle(document.querySelector(tag)).fill)")

    assert colors("light") == ["rgb(255, 255, 255)", "rgb(27, 29, 35)"]
    assert colors("dark") == ["rgb(23, 26, 32)", "rgb(236, 238, 242)"]
