"""Text of strangers, made fit to stand in a page: as data that scripts read, and as text between tags.

The template engine escapes what stands between tags; what is here is what that leaves: a script element ends
at the first ``</script`` in it, controls have no place in a page, and half of a surrogate pair none in UTF-8.
"""

from __future__ import annotations

import re
from typing import Any

from vqa_async.journal.json_text import to_json

_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_TO_ESCAPE = re.compile("[<>&\u2028\u2029]")

# C0 and C1 controls but for tab and line feed, bidirectional overrides and isolates, surrogates, and what is
# no character.
_UNSHOWN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def script_json(value: Any) -> str:
    """``value`` as JSON that can stand in a script element, whatever texts it holds."""
    text = to_json(value).decode()
    return _TO_ESCAPE.sub(lambda found: _ESCAPES[found[0]], text)


def visible(value: object) -> str:
    """``value`` as text that can neither turn what stands around it nor break the page's encoding."""
    return _UNSHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", str(value))
