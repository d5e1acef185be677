"""Draw the curves of a study's page into a picture for its experiment.

    python experiments/figure.py runs/NAME/report.html experiments/FOLDER/figure.png
    python experiments/figure.py runs/NAME/report.html tickets.png --section tickets

Needs Playwright and Chromium, as the browser tests do.
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright


def draw(given: argparse.Namespace) -> None:
    """Write what the page shows of its curves."""
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        view = browser.new_page(viewport={"width": 1000, "height": 700}, color_scheme="light")
        view.goto(given.page.resolve().as_uri())
        view.wait_for_selector(f"#{given.section} .js-plotly-plot")
        for arm in given.without:
            view.locator("#curves .filter").get_by_label(arm, exact=True).uncheck()
        view.locator(f"#{given.section}").screenshot(path=given.picture)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--section", choices=["curves", "tickets"], default="curves")
    parser.add_argument(
        "--without", nargs="*", default=[], help="arms left out; 'pruned only' flattens all others"
    )
    draw(parser.parse_args())
