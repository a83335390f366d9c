"""Zips that are not trusted."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from rayonnage_shared.ml.catalogue.ingestion.photo_sources import PhotoTooBig, UnsafeArchive, open_photos
from tests.unit.shared.ml.catalogue.catalogues import write_zip


def test_a_photo_is_found_by_ids_in_any_folder_and_else_by_name(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "i.zip", {"a/b/image_2_product_1.jpg": b"x", "c/Lampe.PNG": b"y", "notes.txt": b"z"})
    with open_photos(path) as photos:
        assert photos.find("1", "2", "") == "a/b/image_2_product_1.jpg"
        assert photos.find("9", "9", "photos/Lampe.PNG") == "c/Lampe.PNG"
        assert photos.find("", "", "notes.txt") is None
        assert photos.find("1", "", "") is None


def test_a_folder_is_searched_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"x")
    (tmp_path / "secret.jpg").write_bytes(b"s")
    (tmp_path / "in" / "b.jpg").symlink_to(tmp_path / "secret.jpg")
    with open_photos(tmp_path / "in") as photos:
        assert photos.find("", "", "b.jpg") is None
        member = photos.find("", "", "a.jpg")
        assert member is not None
        assert photos.read(member, 10) == b"x"


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "a/../../b.jpg", "C:\\a.jpg", "..\\a.jpg"])
def test_names_that_point_out_of_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "i.zip", {name: b"x"})
    with pytest.raises(UnsafeArchive, match="points out"), open_photos(path):
        pass


def test_links_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "i.zip", "w") as archive:
        entry = zipfile.ZipInfo("a.jpg")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(UnsafeArchive, match="is a link"), open_photos(tmp_path / "i.zip"):
        pass


def test_encrypted_archives_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "i.zip", {"a.jpg": b"x"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UnsafeArchive, match="encrypted"), open_photos(path):
        pass


def test_what_unpacks_a_thousandfold_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "i.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", b"\0" * 20_000_000)
    with pytest.raises(UnsafeArchive, match="100 times"), open_photos(tmp_path / "i.zip"):
        pass


def test_reading_stops_at_the_limit_whatever_the_header_says(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "i.zip", {"a.jpg": b"x" * 1000})
    with open_photos(path) as photos, pytest.raises(PhotoTooBig):
        photos.read("a.jpg", 999)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x05\x06" + b"\0" * 10])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "i.zip").write_bytes(data)
    with pytest.raises(UnsafeArchive), open_photos(tmp_path / "i.zip"):
        pass
