"""Who may look at the live page: whoever was given its address, which holds a secret.

The page is served on the loopback alone. That leaves other users of this machine and pages of strangers in
its browsers: the first lack the secret, and the second can neither read it nor, by a name of theirs that they
let point here, pass for it, since only our own names are answered.
"""

from __future__ import annotations

import hmac
import secrets
from urllib.parse import urlsplit

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Of every reply: nothing is kept, told on, guessed at or framed."""

_OWN_NAMES = ("127.0.0.1", "localhost")


class Doorman:
    """Knows the secret of one page, and the port at which it is asked for."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(24)
        self.port = 0

    def is_us(self, host: str) -> bool:
        """Whether a Host header means this page, by a name of this machine."""
        try:
            parts = urlsplit(f"//{host}")
            return parts.hostname in _OWN_NAMES and parts.port == self.port and "@" not in host
        except ValueError:
            return False

    def knows(self, token: str) -> bool:
        """Whether ``token`` is the secret, told in a time that does not depend on how much of it is right."""
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())
