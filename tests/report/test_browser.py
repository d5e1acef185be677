"""The pages in a browser: what a reader clicks, and that nothing is asked of the network."""

import shutil

import pytest

import benched
from prunus.report import write_bench, write_federation, write_report, write_study
from studied import document, row

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        # Only files of our own are opened, and as root Chromium refuses its sandbox.
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Open a page that a function writes; at the end it has asked for nothing and met no error."""
    path = tmp_path / "report.html"
    asked, errors = [], []
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(20_000)
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))

    def record(route):
        asked.append(route.request.url)
        if route.request.url == path.as_uri():
            route.continue_()
        else:
            route.abort()

    page.route("**/*", record)

    def go(write, found):
        write(found, path)
        page.goto(path.as_uri())
        return page

    yield go
    page.close()
    assert [url for url in asked if url != path.as_uri()] == []
    assert errors == []


def drawn(page, chart):
    """Return how many curves with points are drawn in a chart."""
    return page.locator(f"{chart} .scatterlayer .trace:has(path)").count()


def test_arms_of_a_study_are_chosen_in_curves_and_table(visit):
    arms = ("fine-tuned", "scratch-E, <b>bold</b> & more")
    rows = [row("", "unpruned", None)]
    rows += [
        row(method, arm, {"metric": "macs", "value": share}, macs=1e6 * share)
        for method in ("l1", "taylor")
        for arm in arms
        for share in (0.3, 0.5)
    ]
    page = visit(write_study, document(rows))
    assert drawn(page, "#chart") == 5
    assert page.locator("tbody tr[data-arm]:visible").count() == 9
    assert page.locator("b", has_text="bold").count() == 0

    page.locator("#curves .filter").get_by_label("fine-tuned").uncheck()
    assert drawn(page, "#chart") == 3
    assert page.locator("tbody tr[data-arm]:visible").count() == 5
    assert not page.locator("#arms .filter").get_by_label("fine-tuned").is_checked()

    page.get_by_label("taylor").check()
    assert drawn(page, "#chart") == 2
    page.locator("#arms .filter").get_by_label(arms[1]).uncheck()
    assert drawn(page, "#chart") == 1
    page.locator("#arms .filter").get_by_label("unpruned").uncheck()
    assert drawn(page, "#chart") == 0

    page.locator("#arms .filter").get_by_label("fine-tuned").check()
    page.get_by_label("Parameters").check()
    page.get_by_label("logarithmic").check()
    assert drawn(page, "#chart") == 1
    assert page.locator("#chart .xtitle").text_content() == "Parameters"
    value = page.locator("tr[data-arm='fine-tuned']:visible b").first
    assert value.inner_text() == "90.00 ± 1.00 %"


def test_a_point_of_a_study_tells_its_value(visit):
    page = visit(
        write_study, document([row("l1", "fine-tuned", test={"mean": 0.8125, "margin": None})])
    )
    page.locator("#chart").scroll_into_view_if_needed()
    box = page.locator("#chart .scatterlayer path.point").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    told = page.locator("#chart .hoverlayer .hovertext").first
    told.wait_for()
    assert "l1 MACs 0.5" in told.text_content()
    assert "81.25" in told.text_content()


def test_one_size_has_an_axis_and_a_narrow_window_its_legend_below(visit):
    sizes = [row("l1", "fine-tuned", macs=134815), row("l1", "scratch-E", macs=134817)]
    page = visit(write_study, document(sizes))
    ticks = page.locator("#chart .xaxislayer-above text").all_text_contents()
    assert len(ticks) > 2
    assert len({*ticks}) == len(ticks)
    assert all(len(tick) <= len("110k") for tick in ticks)
    chart, legend = (page.locator(name).bounding_box() for name in ("#chart", "#chart .legend"))
    assert legend["x"] > chart["x"] + chart["width"] / 2
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(500)
    plot, legend = (
        page.locator(f"#chart {name}").bounding_box() for name in (".bglayer", ".legend")
    )
    assert legend["y"] > plot["y"] + plot["height"] / 2


def test_arms_of_a_run_are_chosen_in_table_and_curves(visit, resnet20):
    page = visit(write_report, resnet20)
    assert drawn(page, "[data-chart=accuracy]") == 4
    page.locator("#arms .filter").get_by_label("scratch-B").uncheck()
    assert drawn(page, "[data-chart=accuracy]") == drawn(page, "[data-chart=loss]") == 3
    shown = page.locator("#arms tbody tr:visible td:first-child")
    assert shown.all_inner_texts() == ["dense", "fine-tuned", "scratch-E"]
    page.locator("#curves .filter").get_by_label("scratch-B").check()
    assert drawn(page, "[data-chart=loss]") == 4
    assert "91.41 %" in page.locator("tr[data-arm='scratch-B']").inner_text()
    page.get_by_text("As a table").click()
    assert page.locator("#widths details td", has_text="layer1.0.conv2").first.is_visible()


def test_a_comparison_is_drawn(visit):
    page = visit(write_bench, benched.document())
    assert page.locator("[data-chart=latency] .point").count() == 3


def test_a_federation_is_drawn(visit):
    rounds = [
        {
            "round": k, "accuracy": 0.1 + 0.2 * k, "simulated_seconds": 5.0 * k, "down": 900 * k,
            "up": 800 * k, "train_loss": 2.0 - 0.3 * k if k else None, "density": 1 / (k + 1),
            "layers": {"fc1": 1 / (k + 1), "fc2": 0.9},
        }
        for k in range(4)
    ]  # fmt: skip
    reached = [
        {"share": s, "accuracy": s * 0.7, "round": 3, "simulated_seconds": 15.0, "bytes": 5100}
        for s in (0.5, 0.8, 0.9, 0.95, 1.0)
    ]
    found = {
        "title": "a federation", "method": "prunefl", "accuracy": 0.7, "density": 0.25,
        "rounds": rounds, "time_to_accuracy": reached, "recipe": {}, "environment": {},
        "fairness": {"clients": 3, "mean": 0.6}, "report": {"verification": None},
        "traffic": {
            "down": 2700, "up": 2400, "refused": {}, "lost": 0, "late": 0,
            "structures asked for": 0,
        },
    }  # fmt: skip
    page = visit(write_federation, found)
    drawn_ = {name: drawn(page, f"[data-chart={name}]") for name in ("time", "bytes", "loss")}
    assert drawn_ == {"time": 1, "bytes": 1, "loss": 1}
    assert drawn(page, "[data-chart=density]") == 2
