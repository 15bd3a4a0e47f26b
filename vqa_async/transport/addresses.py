"""Which addresses may be connected to, and through which proxy."""

from __future__ import annotations

import ipaddress
import socket
import urllib.request
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

from vqa_async.transport.failures import PrivateAddress


class Proxies:
    """The proxies that the environment named when the transport was made."""

    def __init__(self) -> None:
        self._by_scheme = urllib.request.getproxies()
        self._known: dict[str, str | None] = {}

    def proxy_for(self, url: str) -> str | None:
        """The proxy for ``url``; None for loopback addresses and for what NO_PROXY names."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._known:
            self._known[origin] = self._look_up(parts.scheme, parts.hostname or "", parts.netloc)
        return self._known[origin]

    def _look_up(self, scheme: str, host: str, netloc: str) -> str | None:
        proxy = self._by_scheme.get(scheme)
        if proxy is None or _is_loopback(host) or urllib.request.proxy_bypass(netloc):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


OPENED: ContextVar[list[bool]] = ContextVar("vqa_opened")
"""One entry for each socket opened for this request; none, where an idle connection was taken up again."""


def any_socket(addr_info: Any) -> socket.socket:
    """Make the socket for a connection, and let the request know that it got a new one."""
    family, kind, proto, _, _ = addr_info
    OPENED.get([]).append(True)
    return socket.socket(family=family, type=kind, proto=proto)


def public_socket(addr_info: Any) -> socket.socket:
    """Make the socket for a connection, unless it would reach this machine or a private network."""
    ip = ipaddress.ip_address(addr_info[4][0].partition("%")[0])
    if not all(address.is_global for address in _reached(ip)):
        # The same text for each address of a name: of errors that read alike, one is raised as it is.
        raise PrivateAddress("its address is private; --allow-private-urls permits that")
    return any_socket(addr_info)


def _reached(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]:
    """The addresses that a connection to ``ip`` may end at: an IPv4 address can hide in an IPv6 one."""
    if isinstance(ip, ipaddress.IPv4Address):
        return (ip,)
    if ip.ipv4_mapped is not None:
        return (ip.ipv4_mapped,)
    hidden = [ip.sixtofour, ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None]
    return (ip, *(address for address in hidden if address is not None))
