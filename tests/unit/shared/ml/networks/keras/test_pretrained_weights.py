from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ml.networks.keras.pretrained_weights import HubFile, HubUnreachable, WeightsMissing, find_weights
from tests.http_server import serving

CONTENT = b"numbers" * 1000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NOWHERE = HubFile("http://127.0.0.1:9/vgg16.h5", MD5)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that has the file, and what it was asked for."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path != "/vgg16.h5":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

    with serving(Handler) as url:
        yield url, asked


def test_imagenet_is_downloaded_once_and_its_hash_is_recorded(tmp_path: Path, hub: tuple[str, list[str]]) -> None:
    file = HubFile(f"{hub[0]}/vgg16.h5", MD5)
    folder = tmp_path / "pretrained"

    found = [find_weights("imagenet", folder, file, silent) for _ in range(2)]

    assert hub[1] == ["/vgg16.h5"]
    assert found[0].facts() == {"source": "imagenet", "file": "vgg16.h5", "sha256": SHA256}
    assert found[0] == found[1]
    assert [path.name for path in folder.iterdir()] == ["vgg16.h5"]


def test_a_file_that_an_operator_put_there_needs_no_hub(tmp_path: Path) -> None:
    (tmp_path / "vgg16.h5").write_bytes(CONTENT)

    assert find_weights("imagenet", tmp_path, NOWHERE, silent).sha256 == SHA256


def test_something_else_from_the_hub_is_not_kept(tmp_path: Path, hub: tuple[str, list[str]]) -> None:
    with pytest.raises(HubUnreachable, match="is not the one"):
        find_weights("imagenet", tmp_path, HubFile(f"{hub[0]}/vgg16.h5", "0" * 32), silent)

    assert list(tmp_path.iterdir()) == []


def test_the_error_for_an_unreachable_hub_says_what_to_do(tmp_path: Path, hub: tuple[str, list[str]]) -> None:
    for address in (NOWHERE.address, f"{hub[0]}/missing/vgg16.h5"):
        with pytest.raises(HubUnreachable, match="Put the file"):
            find_weights("imagenet", tmp_path, HubFile(address, MD5), silent)

    assert list(tmp_path.iterdir()) == []


def test_a_download_that_takes_too_long_is_given_up(tmp_path: Path, hub: tuple[str, list[str]]) -> None:
    with pytest.raises(HubUnreachable, match="exceeded its limits"):
        find_weights("imagenet", tmp_path, HubFile(f"{hub[0]}/vgg16.h5", MD5, limit_s=-1.0), silent)


def test_a_cancelled_download_leaves_nothing(tmp_path: Path, hub: tuple[str, list[str]]) -> None:
    class Cancelled(Exception):
        pass

    def progress(fraction: float, message: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        find_weights("imagenet", tmp_path, HubFile(f"{hub[0]}/vgg16.h5", MD5), progress)

    assert list(tmp_path.iterdir()) == []


def test_a_named_file_is_found_in_the_folder_only(tmp_path: Path) -> None:
    (tmp_path / "mine.weights.h5").write_bytes(CONTENT)

    found = find_weights("mine.weights.h5", tmp_path, NOWHERE, silent)

    assert found.facts() == {"source": "file", "file": "mine.weights.h5", "sha256": SHA256}
    with pytest.raises(WeightsMissing, match=r"it has: mine\.weights\.h5"):
        find_weights("yours.weights.h5", tmp_path, NOWHERE, silent)


def test_none_needs_no_folder_and_everything_else_does(tmp_path: Path) -> None:
    assert find_weights("none", None, NOWHERE, silent).facts() == {"source": "none"}
    for asked in ("imagenet", "mine.h5"):
        with pytest.raises(WeightsMissing):
            find_weights(asked, None, NOWHERE, silent)
