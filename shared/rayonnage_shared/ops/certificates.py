"""`make certs`: a certificate for this machine's host names, and its certificate authority."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.core.files import write_mounted

FOLDER = ".certs"
AUTHORITY, CHAIN, KEY = "ca.pem", "server.pem", "server.key"
OF_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
LIFE = timedelta(days=397)  # browsers reject certificates with a much longer lifetime
_MAKER = "Rayonnage"
_CLOCKS_DIFFER = timedelta(days=1)


class HostRefused(BadInput):
    code, title = "host_refused", "The host name is not valid for a certificate"


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate in the folder."""

    names: tuple[str, ...]
    expires: datetime
    new: bool = False
    foreign: bool = False
    """From another authority: never replaced."""

    def covers(self, hosts: Iterable[str], now: datetime) -> bool:
        """Return whether it is valid for all these hosts now."""
        return self.expires > now and set(hosts) <= set(self.names)


def provide_certificate(
    folder: Path, hosts: Iterable[str] = (), *, renew: bool = False, now: datetime | None = None
) -> Certificate:
    """Return the certificate in `folder`, replaced if it is missing, broken, expired, or lacks one of `hosts`.

    One from another authority is kept unless `renew`. A new certificate keeps the names of the old one and has a new
    authority, whose private key is discarded: nothing else can be signed with what people trust. Raises HostRefused.
    """
    now = now or datetime.now(UTC)
    asked = [_normalised(host) for host in hosts]
    present = _read(folder)
    if present is not None and not renew and (present.foreign or present.covers(asked, now)):
        return present
    names = tuple(dict.fromkeys([*OF_THIS_MACHINE, *(present.names if present else ()), *asked]))
    return _make(folder, names, now)


def _normalised(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not host or {"@", "/", ":"} & set(host):
        raise HostRefused(f"{host!r} is neither a host name nor an IP address.")
    try:
        return host.lower().encode("idna").decode()
    except UnicodeError as error:
        raise HostRefused(f"{host!r} is not a valid host name: {error}.") from error


def _read(folder: Path) -> Certificate | None:
    """Return the existing certificate. One created here is valid only with its own authority and key."""
    try:
        server = x509.load_pem_x509_certificate((folder / CHAIN).read_bytes())
        if not any(part.value == _MAKER for part in server.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)):
            return Certificate(_names(server), server.not_valid_after_utc, foreign=True)
        server.verify_directly_issued_by(x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes()))
        key = load_pem_private_key((folder / KEY).read_bytes(), password=None)
    except (OSError, ValueError, TypeError, InvalidSignature):
        return None
    fits = key.public_key() == server.public_key()
    return Certificate(_names(server), server.not_valid_after_utc) if fits else None


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def _make(folder: Path, names: tuple[str, ...], now: datetime) -> Certificate:
    import trustme

    authority = trustme.CA(organization_name=_MAKER, organization_unit_name=f"created {now:%Y-%m-%d}", path_length=0)
    try:
        server = authority.issue_cert(
            *names,
            organization_name=_MAKER,
            organization_unit_name="server",
            not_before=now - _CLOCKS_DIFFER,
            not_after=now + LIFE,
        )
    except UnicodeError as error:
        raise HostRefused(f"One of {', '.join(names)} is not a valid host name: {error}.") from error
    chain = "".join(part.bytes().decode() for part in server.cert_chain_pems)
    write_mounted(folder, KEY, server.private_key_pem.bytes().decode())
    write_mounted(folder, CHAIN, chain)
    write_mounted(folder, AUTHORITY, authority.cert_pem.bytes().decode())
    return Certificate(names, (now + LIFE).replace(microsecond=0), new=True)
