"""HTTP connections that reach only public addresses, unless private ones are allowed."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl

from rayonnage_shared.core.errors import BadInput, DependencyDown

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that stand for IPv4 ones (RFC 6052)."""


class DownloadRefused(BadInput):
    code, title = "download_refused", "The download is refused"


class DownloadFailed(DependencyDown):
    code, title = "download_failed", "The download failed"


def allowed_address(host: str, port: int, *, allow_private: bool) -> str:
    """Return an address of `host` that may be reached. Raises DownloadRefused or DownloadFailed.

    One forbidden address among several refuses the host.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DownloadFailed(f"The host {host} cannot be resolved: {error}") from error
    addresses = [str(one[4][0]) for one in found]
    for address in addresses:
        if not allow_private and not is_public(address):
            raise DownloadRefused(
                f"{host} has the address {address}, which is not public; DATASET_PRIVATE_ADDRESSES=true allows it."
            )
    return addresses[0]


def is_public(address: str) -> bool:
    """Return whether an address is reachable from the whole Internet: not private, loopback, link-local or reserved."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if embedded is not None:
            ip = embedded
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_global and not ip.is_multicast


def connect(host: str, port: int, *, tls: bool, timeout_s: float, allow_private: bool) -> http.client.HTTPConnection:
    """Return a connection to `host` at the very address that was checked: a second look-up could give another.

    Raises DownloadRefused, DownloadFailed or OSError.
    """
    address = allowed_address(host, port, allow_private=allow_private)
    opened = socket.create_connection((address, port), timeout=timeout_s)
    if tls:
        try:
            opened = ssl.create_default_context().wrap_socket(opened, server_hostname=host)
        except OSError:
            opened.close()
            raise
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    connection.sock = opened
    return connection
