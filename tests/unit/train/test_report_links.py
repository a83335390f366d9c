"""Links to the pages of drift reports: how long they live, and where their key is."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from rayonnage_train.report_links import KEY_NAME, LINK_LIFE_S, LinkNotValid, ReportLinks

REPORT = "20261121T120000000000Z-0a1b"


class Clock:
    moment = 1_800_000_000.5

    def __call__(self) -> float:
        return self.moment


def opened(links: ReportLinks, url: str) -> None:
    query = parse_qs(urlsplit(url).query)
    links.check(REPORT, int(query["expires"][0]), query["signature"][0])


def test_a_link_lives_five_minutes(tmp_path: Path) -> None:
    clock = Clock()
    links = ReportLinks(tmp_path, clock)
    url = links.create(REPORT).url

    clock.moment += LINK_LIFE_S - 1
    opened(links, url)
    clock.moment += 1
    with pytest.raises(LinkNotValid, match=r"expired.*POST /drift/.*/link"):
        opened(links, url)


def test_replicas_share_the_key_and_it_survives_a_restart(tmp_path: Path) -> None:
    url = ReportLinks(tmp_path).create(REPORT).url

    opened(ReportLinks(tmp_path), url)


def test_only_its_owner_reads_the_key_and_deleting_it_ends_all_links(tmp_path: Path) -> None:
    links = ReportLinks(tmp_path)
    url = links.create(REPORT).url
    key = tmp_path / "drift" / KEY_NAME
    assert key.stat().st_mode & 0o777 == 0o600

    key.unlink()

    with pytest.raises(LinkNotValid, match="altered"):
        opened(links, url)


def test_a_key_that_was_cut_off_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "drift").mkdir()
    (tmp_path / "drift" / KEY_NAME).write_bytes(b"")

    links = ReportLinks(tmp_path)

    opened(links, links.create(REPORT).url)
