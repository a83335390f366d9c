"""The documentation page in a real browser: a newcomer logs in, sends a title and a photo, and sees the prediction.

`make docs-pictures` takes the picture in docs/ anew; otherwise it goes into the test's own folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.platform import Platform
from tests.system.chromium import Browser, Element, chromium

pytestmark = pytest.mark.system

DESIGNATION = "Piscine gonflable ronde 3 m"
OPERATION = "//*[@id='operations-predictions-predict_predict_post']"
FORM_FIELDS = ["designation", "image", "description", "product_identifier", "product_id", "imageid", "top_k"]
ROWS_SCRIPT = """
return [...document.querySelectorAll('[id="operations-predictions-predict_predict_post"] tr[data-property-name]')]
  .map((row) => row.dataset.propertyName)
"""
SENDS_EMPTY_SCRIPT = "return document.querySelectorAll('.parameter__empty_value_toggle input:checked').length"
VISIBLE_INPUTS_SCRIPT = """
return [...document.querySelectorAll('.auth-container input, .auth-container select')]
  .filter((input) => input.offsetParent !== null).map((input) => input.id)
"""
SIZES_SCRIPT = """
return Object.fromEntries(performance.getEntriesByType('resource').map((one) => [
  new URL(one.name).pathname.split('/').pop(), {transferred: one.transferSize, decoded: one.decodedBodySize}]))
"""
RESPONSE = f"{OPERATION}//*[contains(@class, 'live-responses-table')]//tr[@class='response']"


@pytest.fixture
def browser(platform: Platform, tmp_path: Path) -> Iterator[Browser]:
    folder = tmp_path / "chromium"
    folder.mkdir()
    with chromium(folder, width=1100, height=1900) as opened:
        yield opened


def test_a_newcomer_logs_in_sends_a_title_and_a_photo_and_sees_the_prediction(
    platform: Platform, browser: Browser, sample: Path, tmp_path: Path
) -> None:
    browser.open(f"{platform.base_url}/docs")
    log_in(browser, *platform.admin)
    open_predict(browser)
    choose(browser, "multipart/form-data")
    assert browser.run(ROWS_SCRIPT) == FORM_FIELDS, "title, photo and description come first"
    assert browser.run(SENDS_EMPTY_SCRIPT) == 0, "no empty value is sent"
    assert field(browser, "designation").value == DESIGNATION
    field(browser, "image").type(str(sample / "exemple.jpg"))

    status, answer = execute(browser)

    take_picture(browser, tmp_path)
    assert status == 200, answer
    assert answer["modalities"]["text"]["used"] and answer["modalities"]["image"]["used"]
    assert answer["product_identifier"] is None
    assert len(answer["predictions"]) == 3
    with platform.client(platform.admin_token()) as client:
        photo = {"image": ("exemple.jpg", (sample / "exemple.jpg").read_bytes(), "image/jpeg")}
        product = {name: field(browser, name).value for name in ("designation", "description")}
        same = client.post("/predict", data=product, files=photo, headers={"Accept-Language": "en-US,en;q=0.9"}).json()
    assert (answer["label"], answer["confidence"]) == (same["label"], same["confidence"])
    assert answer["label"].startswith("Swimming pool > "), "the browser asks for English"
    assert all_from(platform, browser.requested())


def test_a_wrong_password_is_refused_in_words_by_a_form_that_asks_for_name_and_password_only(
    platform: Platform, browser: Browser
) -> None:
    browser.open(f"{platform.base_url}/docs")
    open_login(browser)
    shown = browser.run(VISIBLE_INPUTS_SCRIPT)

    enter_login(browser, platform.admin[0], "not the password")

    refusal = browser.find("//*[contains(@class, 'auth-container')]//*[contains(@class, 'errors')]").text
    assert shown == ["oauth_username", "oauth_password"]
    with platform.client() as client:
        login = {"username": platform.admin[0], "password": "not the password"}
        assert client.post("/token", data=login).json()["detail"] in refusal


def test_schemas_are_folded_and_scripts_come_compressed_and_then_from_the_cache(
    platform: Platform, browser: Browser
) -> None:
    browser.open(f"{platform.base_url}/docs")
    browser.find(f"{OPERATION}//*[@data-path='/predict']")

    sizes = browser.run(SIZES_SCRIPT)
    assert sizes["swagger-ui-bundle.js"]["transferred"] < sizes["swagger-ui-bundle.js"]["decoded"] / 2, "compressed"
    assert browser.run("return document.querySelectorAll('section.models').length") == 1
    assert browser.run("return document.querySelectorAll('section.models .model-container').length") == 0, "folded"
    browser.open(f"{platform.base_url}/docs")
    browser.find(f"{OPERATION}//*[@data-path='/predict']")
    assert browser.run(SIZES_SCRIPT)["swagger-ui-bundle.js"]["transferred"] == 0, "from the browser's cache"


def test_the_json_example_is_answered_as_it_stands(platform: Platform, browser: Browser) -> None:
    browser.open(f"{platform.base_url}/docs")
    log_in(browser, *platform.admin)
    open_predict(browser)
    choose(browser, "application/json")

    status, answer = execute(browser)

    assert status == 200, answer
    assert answer["modalities"]["text"]["used"] and answer["modalities"]["image"]["used"]


def test_redoc_shows_the_routes_without_asking_anybody_else(platform: Platform, browser: Browser) -> None:
    browser.open(f"{platform.base_url}/redoc")

    browser.find("//h1[starts-with(., 'Rayonnage')]")
    browser.find("//*[text()='/predict']")
    assert all_from(platform, browser.requested())


def log_in(browser: Browser, username: str, password: str) -> None:
    open_login(browser)
    enter_login(browser, username, password)
    browser.find("//button[contains(@class, 'modal-btn')][contains(., 'Logout')]")
    browser.find("//button[contains(@class, 'btn-done')]").click()


def open_login(browser: Browser) -> None:
    browser.find("//button[contains(@class, 'authorize')][contains(., 'Authorize')]").click()
    browser.find("//input[@id='oauth_username']")


def enter_login(browser: Browser, username: str, password: str) -> None:
    browser.find("//input[@id='oauth_username']").type(username)
    browser.find("//input[@id='oauth_password']").type(password)
    browser.find("//button[contains(@class, 'modal-btn')][contains(., 'Authorize')]").click()


def open_predict(browser: Browser) -> None:
    browser.find(f"{OPERATION}//*[@data-path='/predict']").click()
    browser.find(f"{OPERATION}//button[contains(., 'Try it out')]").click()


def choose(browser: Browser, media_type: str) -> None:
    browser.find(f"{OPERATION}//*[@aria-label='Request content type']/option[.='{media_type}']").click()


def field(browser: Browser, name: str) -> Element:
    return browser.find(f"{OPERATION}//tr[@data-property-name='{name}']//input[not(@type='checkbox')]")


def execute(browser: Browser) -> tuple[int, Any]:
    """Press Execute and return the status and the JSON that the page shows."""
    browser.find(f"{OPERATION}//button[.='Execute']").click()
    status = browser.find(f"{RESPONSE}//*[contains(@class, 'response-col_status')]").text.split()[0]
    body = browser.find(f"{RESPONSE}//*[contains(@class, 'highlight-code')]//code").text
    return int(status), json.loads(body)


def take_picture(browser: Browser, folder: Path) -> None:
    browser.scroll_to(browser.find(f"{OPERATION}//*[contains(@class, 'request-body')]"), "start")
    path = Path(os.environ.get("DOCS_PICTURE") or folder / "swagger-predict.png")
    path.write_bytes(browser.screenshot())


def all_from(platform: Platform, addresses: list[str]) -> bool:
    """Return whether a page was loaded whole, and from the gateway alone.

    data: and blob: are in the page itself, chrome: in the browser, which begins with a page of its own.
    """
    asked = [address for address in addresses if not address.startswith(("data:", "blob:", "chrome:"))]
    elsewhere = [address for address in asked if not address.startswith(f"{platform.base_url}/")]
    assert elsewhere == []
    return f"{platform.base_url}/openapi.json" in asked
