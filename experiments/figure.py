"""Draw the curves of a study's page into a picture for its experiment.

    python experiments/figure.py runs/NAME/report.html experiments/FOLDER/figure.png ARM ...

The arms that are named are left out, such as "pruned only", whose depth flattens all others.
Needs Playwright and Chromium, as the browser tests do.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import sync_playwright


def draw(page: Path, picture: Path, without: Sequence[str]) -> None:
    """Write what the page shows of its curves."""
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        view = browser.new_page(viewport={"width": 1000, "height": 700}, color_scheme="light")
        view.goto(page.resolve().as_uri())
        view.wait_for_selector("#curves .js-plotly-plot")
        for arm in without:
            view.locator("#curves .filter").get_by_label(arm, exact=True).uncheck()
        view.locator("#curves").screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
