"""Pictures of the running pages for the documentation: `paeplatform ui` in one terminal, this in another.

Needs Debian's packages `chromium` and `chromium-driver`, and `pip install selenium` (not among our requirements).
Writes docs/img/dagster.png and docs/img/mlflow.png, and docs/img/report.png where a report is given.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "img"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def browser(profile: str) -> webdriver.Chrome:
    """A headless Chromium with an empty profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))


def click_all(driver: webdriver.Chrome, xpath: str) -> None:
    """Clicks whatever matches now; what cannot be clicked is left alone."""
    for element in driver.find_elements(By.XPATH, xpath):
        try:
            driver.execute_script("arguments[0].click()", element)
            time.sleep(0.5)
        except WebDriverException:
            continue


def take(
    driver: webdriver.Chrome, url: str, path: Path, size: tuple[int, int], seconds: float, *xpaths: str
) -> None:
    """Writes a PNG of `url`, after `seconds` and a click on everything each of `xpaths` matches."""
    driver.set_window_size(*size)
    driver.get(url)
    time.sleep(seconds)
    for xpath in xpaths:
        click_all(driver, xpath)
        driver.get(driver.current_url)  # what was opened stays open; a reload fits it into the window again
        time.sleep(4.0)
    driver.save_screenshot(str(path))
    print(path)


def main() -> None:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dagster", default="http://127.0.0.1:3000", help="address of Dagster")
    parser.add_argument("--mlflow", default="http://127.0.0.1:5000", help="address of MLflow")
    parser.add_argument("--report", type=Path, help="var/report/<release>/index.html")
    parser.add_argument("--out", type=Path, default=IMAGES)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        driver = browser(profile)
        try:
            lineage = f"{chosen.dagster}/locations/__repository__@paeplatform/asset-groups/models/lineage"
            take(driver, lineage, chosen.out / "dagster.png", (1900, 1500), 12.0)
            popup = "//button[contains(., 'Try it now')]", "//*[@aria-label='Close']"
            take(driver, f"{chosen.mlflow}/#/models", chosen.out / "mlflow.png", (1400, 620), 8.0, *popup)
            if chosen.report:
                take(driver, chosen.report.resolve().as_uri(), chosen.out / "report.png", (1200, 1500), 2.0)
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
