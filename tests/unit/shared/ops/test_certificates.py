"""`make certs`: who trusts the authority can talk to the server by each of its names."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from rayonnage_shared.ops.certificates import (
    AUTHORITY,
    CHAIN,
    KEY,
    LIFE,
    OF_THIS_MACHINE,
    HostRefused,
    provide_certificate,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def shake_hands(folder: Path, name: str) -> None:
    """Speak TLS with a server that has these files, as `name`. Raises ssl.SSLError."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / CHAIN, folder / KEY)
    client = ssl.create_default_context(cafile=str(folder / AUTHORITY))
    ours, theirs = socket.socketpair()

    def answer() -> None:
        with contextlib.suppress(OSError), server.wrap_socket(theirs, server_side=True) as secured:
            secured.recv(1)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name) as secured:
            secured.send(b"x")
    finally:
        ours.close()
        thread.join()
        theirs.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", [*OF_THIS_MACHINE, "shop.example", "192.0.2.7"])
def test_the_server_is_trusted_by_each_of_its_names(tmp_path: Path, name: str) -> None:
    made = provide_certificate(tmp_path / "certs", ["shop.example", "192.0.2.7"])
    assert made.new and name in made.names
    shake_hands(tmp_path / "certs", name)


def test_it_is_not_trusted_by_another_name(tmp_path: Path) -> None:
    provide_certificate(tmp_path / "certs")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path / "certs", "shop.example")


def test_nginx_may_read_the_files_and_nobody_else_gets_there(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    provide_certificate(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        AUTHORITY: 0o444,
        CHAIN: 0o444,
        KEY: 0o444,
    }


def test_what_is_there_stays_until_it_expires(tmp_path: Path) -> None:
    made = provide_certificate(tmp_path, now=NOW)
    before = contents(tmp_path)
    kept = provide_certificate(tmp_path, ["LOCALHOST"], now=NOW + LIFE - timedelta(hours=1))
    assert not kept.new and (kept.names, kept.expires) == (made.names, made.expires)
    assert contents(tmp_path) == before
    renewed = provide_certificate(tmp_path, now=NOW + LIFE)
    assert renewed.new and renewed.expires == NOW + 2 * LIFE
    assert all(contents(tmp_path)[name] != before[name] for name in before)


def test_a_new_one_keeps_the_names_of_the_old_one(tmp_path: Path) -> None:
    provide_certificate(tmp_path, ["shop.example"])
    assert provide_certificate(tmp_path, ["café.example", "*.shop.example"]).names == (
        *OF_THIS_MACHINE,
        "shop.example",
        "xn--caf-dma.example",
        "*.shop.example",
    )
    assert "shop.example" in provide_certificate(tmp_path, renew=True).names
    assert not provide_certificate(tmp_path, ["CAFÉ.example"]).new


@pytest.mark.parametrize("damage", [AUTHORITY, CHAIN, KEY])
def test_files_that_do_not_belong_together_are_made_anew(tmp_path: Path, damage: str) -> None:
    provide_certificate(tmp_path / "one")
    provide_certificate(tmp_path / "other")
    (tmp_path / "one" / damage).unlink()
    (tmp_path / "one" / damage).write_bytes((tmp_path / "other" / damage).read_bytes())
    assert provide_certificate(tmp_path / "one").new
    shake_hands(tmp_path / "one", "localhost")


def test_a_certificate_of_another_authority_stays(tmp_path: Path) -> None:
    own = trustme.CA(organization_name="A public authority")
    server = own.issue_cert("shop.example", not_after=NOW)
    (tmp_path / CHAIN).write_bytes(server.cert_chain_pems[0].bytes())
    (tmp_path / KEY).write_bytes(server.private_key_pem.bytes())
    before = contents(tmp_path)
    found = provide_certificate(tmp_path, ["else.example"], now=NOW + LIFE)
    assert found.foreign and found.names == ("shop.example",)
    assert contents(tmp_path) == before
    assert provide_certificate(tmp_path, renew=True).new


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"])
def test_a_damaged_file_is_no_certificate(tmp_path: Path, content: bytes | None) -> None:
    provide_certificate(tmp_path)
    (tmp_path / CHAIN).unlink()
    if content is not None:
        (tmp_path / CHAIN).write_bytes(content)
    assert provide_certificate(tmp_path).new


@pytest.mark.parametrize(
    "host", ["", "two words", "me@shop.example", "10.0.0.0/8", "https://shop.example", "a..b", "x" * 64]
)
def test_what_is_no_host_is_refused_and_nothing_is_written(tmp_path: Path, host: str) -> None:
    with pytest.raises(HostRefused):
        provide_certificate(tmp_path / "certs", [host])
    assert not (tmp_path / "certs").exists()
