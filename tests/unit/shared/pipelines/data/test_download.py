"""Downloads: bounded, atomic, and from public addresses only unless a setting allows others."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from rayonnage_shared.pipelines.data import addresses
from rayonnage_shared.pipelines.data.addresses import DownloadFailed, DownloadRefused, allowed_address, is_public
from rayonnage_shared.pipelines.data.download import download
from rayonnage_shared.pipelines.data.settings import DataStageSettings
from tests.http_server import serving

CONTENT = b"designation,prdtypecode\nPiscine,2583\n"
LISTING = (
    '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false'
    "</IsTruncated>%s</ListBucketResult>"
)
OBJECTS = {"raw/X_train.csv": CONTENT, "raw/images.zip": b"zip", "raw/deeper/other.csv": b"x", "rawer.csv": b"y"}


class Shop(BaseHTTPRequestHandler):
    """Raw files over HTTP, good and bad ones, and a bucket of S3."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        routes: dict[str, Callable[[], None]] = {
            "/X_train.csv": lambda: self.give(CONTENT),
            "/nothing.csv": lambda: self.give(b"", 404),
            "/moved": lambda: self.give(b"", 302, Location="/X_train.csv"),
            "/inside": lambda: self.give(b"", 302, Location="http://169.254.169.254/latest/meta-data"),
            "/file": lambda: self.give(b"", 302, Location="file:///etc/passwd"),
            "/round.csv": lambda: self.give(b"", 302, Location="/round.csv"),
            "/cut.csv": lambda: self.give(CONTENT, announced=len(CONTENT) + 5),
            "/endless.csv": self.endless,
            "/shop": self.bucket,
        }
        routes.get(path, lambda: self.give(OBJECTS.get(path.removeprefix("/shop/"), b"")))()

    def give(self, content: bytes, status: int = 200, announced: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if announced is None else announced))
        self.end_headers()
        self.wfile.write(content)

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(100_000))
        except OSError:  # the caller has enough
            self.close_connection = True

    def bucket(self) -> None:
        prefix = parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]
        keys = [key for key in OBJECTS if key.startswith(prefix)]
        self.give((LISTING % "".join(f"<Contents><Key>{key}</Key></Contents>" for key in keys)).encode())


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    with serving(Shop) as url:
        yield url


def settings(folder: Path, **values: Any) -> DataStageSettings:
    chosen = {"dataset_private_addresses": True, **values}
    return DataStageSettings(_env_file=None, data_path=folder, **chosen)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "raw").iterdir())


def test_files_appear_under_their_names_and_replace_earlier_ones(shop: str, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "X_train.csv").write_text("old")
    found = download(settings(tmp_path, dataset_url=f"{shop}/X_train.csv?token=1"))
    assert [path.read_bytes() for path in found] == [CONTENT]
    assert left(tmp_path) == ["X_train.csv"]


def test_a_redirect_is_followed(shop: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadRefused, match="does not end with a file name"):
        download(settings(tmp_path), f"{shop}/")
    (found,) = download(settings(tmp_path), f"{shop}/moved")
    assert (found.name, found.read_bytes()) == ("moved", CONTENT)


@pytest.mark.parametrize(
    ("path", "error", "reason"),
    [
        ("/nothing.csv", DownloadFailed, "answers 404"),
        ("/round.csv", DownloadFailed, "redirects"),
        ("/cut.csv", DownloadFailed, "ended after 37 of 42 bytes|IncompleteRead"),
        ("/file", DownloadRefused, "is not an http"),
    ],
)
def test_what_does_not_arrive_whole_leaves_nothing(
    shop: str, tmp_path: Path, path: str, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        download(settings(tmp_path), f"{shop}{path}")
    assert left(tmp_path) == []


@pytest.mark.parametrize("path", ["/endless.csv", "/X_train.csv"])
def test_the_size_is_bounded_whether_announced_or_not(shop: str, tmp_path: Path, path: str) -> None:
    with pytest.raises(DownloadRefused, match="DATASET_MAX_BYTES"):
        download(settings(tmp_path, dataset_max_bytes=len(CONTENT) - 1), f"{shop}{path}")
    assert left(tmp_path) == []


def test_the_size_is_that_of_all_files_together(shop: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadRefused, match="DATASET_MAX_BYTES"):
        download(settings(tmp_path, dataset_max_bytes=len(CONTENT) + 1), f"{shop}/X_train.csv {shop}/moved")
    assert left(tmp_path) == ["X_train.csv"]


def test_the_time_is_bounded(shop: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="DATASET_TIMEOUT_S"):
        download(settings(tmp_path, dataset_timeout_s=0.2), f"{shop}/endless.csv")
    assert left(tmp_path) == []


def test_private_addresses_are_refused_before_anything_is_sent(shop: str, tmp_path: Path) -> None:
    guarded = settings(tmp_path, dataset_private_addresses=False)
    for address in (f"{shop}/X_train.csv", "http://localhost:1/x.csv", "http://[::1]/x.csv", "http://2130706433/x.csv"):
        with pytest.raises(DownloadRefused, match="DATASET_PRIVATE_ADDRESSES"):
            download(guarded, address)
    with pytest.raises(DownloadRefused, match="DATASET_PRIVATE_ADDRESSES"):
        download(guarded.model_copy(update={"dataset_endpoint_url": shop}), "s3://shop/raw")


def test_each_redirect_is_checked_too(shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = urlsplit(shop).port
    original = addresses.connect

    def first_is_public(host: str, number: int, **options: Any) -> Any:
        return original(host, number, **options | {"allow_private": (host, number) == ("127.0.0.1", port)})

    monkeypatch.setattr("rayonnage_shared.pipelines.data.download.connect", first_is_public)
    with pytest.raises(DownloadRefused, match=r"169\.254\.169\.254, which is not public"):
        download(settings(tmp_path), f"{shop}/inside")


def test_one_private_address_among_several_refuses_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET, 1, 6, "", (address, 80)) for address in ("93.184.215.14", "10.0.0.1")]
    monkeypatch.setattr("rayonnage_shared.pipelines.data.addresses.socket.getaddrinfo", lambda *_a, **_k: both)
    with pytest.raises(DownloadRefused, match=r"10\.0\.0\.1"):
        allowed_address("shop.example", 80, allow_private=False)
    assert allowed_address("shop.example", 80, allow_private=True) == "93.184.215.14"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
    ],
)
def test_a_public_address_is_one_that_the_whole_internet_reaches(address: str, expected: bool) -> None:
    assert is_public(address) is expected


@pytest.mark.parametrize(
    "address", ["ftp://x/y.csv", "y.csv", "http://", "https://x:99999/y.csv", "file:///etc/passwd"]
)
def test_other_addresses_are_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(DownloadRefused):
        download(settings(tmp_path), address)


def test_without_an_address_the_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(DownloadRefused, match="DATASET_URL"):
        download(settings(tmp_path))


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("s3://shop/raw", ["X_train.csv", "images.zip"]),
        ("s3://shop/raw/", ["X_train.csv", "images.zip"]),
        ("s3://shop/raw/X_train.csv", ["X_train.csv"]),
    ],
)
def test_objects_of_a_bucket_are_downloaded_without_folders_below(
    shop: str, tmp_path: Path, source: str, names: list[str]
) -> None:
    keys = {"dataset_access_key_id": "key", "dataset_secret_access_key": "secret", "dataset_endpoint_url": shop}
    found = download(settings(tmp_path, **keys), source)
    assert sorted(path.name for path in found) == left(tmp_path) == names
    assert (tmp_path / "raw" / "X_train.csv").read_bytes() == CONTENT


def test_an_empty_prefix_of_a_bucket_is_named(shop: str, tmp_path: Path) -> None:
    keys = {"dataset_access_key_id": "key", "dataset_secret_access_key": "secret", "dataset_endpoint_url": shop}
    with pytest.raises(DownloadFailed, match="nothing at s3://shop/none"):
        download(settings(tmp_path, **keys), "s3://shop/none")
