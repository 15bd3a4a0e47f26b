"""The page: templates, style and scripts put together, under a policy that lets nothing in or out.

The policy names the digest of each script and of the style, so that nothing else can run whatever a record
holds, and allows no request at all but for images: as data, and beside the page where they stand there.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any

from vqa_async.report.safe import visible

_STYLES = ("colours.css", "frame.css", "figures.css", "gallery.css")
_THEME = ("theme.js",)
_GALLERY = ("page.js", "store.js", "decisions.js", "filters.js", "list.js", "detail.js", "gallery.js")
_LIVE = ("page.js", "live.js")


def render(template: str, **values: Any) -> str:
    """A template of this room, with what it shows escaped."""
    text: str = _environment().get_template(template).render(**values)
    return text


def report_page(part: str, *, beside: bool = False, **values: Any) -> str:
    """``head`` or ``tail`` of a report; between them stand its records.

    Args:
        beside: whether images stand in files beside the page.
    """
    images = "data: 'self'" if beside else "data:"
    return render(f"report_{part}.html", **_frame(_GALLERY, f"img-src {images}"), **values)


def live_page(**values: Any) -> str:
    """The page that shows a run while it goes on."""
    return render("live.html", **_frame(_LIVE, "img-src data:; connect-src 'self'"), **values)


def _frame(scripts: Sequence[str], allowed: str) -> dict[str, str]:
    style, theme, script = _joined(_STYLES), _joined(_THEME), _joined(scripts, is_script=True)
    policy = (
        f"default-src 'none'; script-src {_digest(theme)} {_digest(script)}; style-src {_digest(style)}; "
        f"{allowed}; base-uri 'none'; form-action 'none'"
    )
    return {"policy": policy, "style": style, "theme": theme, "script": script}


@cache
def _joined(names: Sequence[str], *, is_script: bool = False) -> str:
    """Files of the room as one; scripts in a scope of their own."""
    folder = resources.files(__package__) / "templates"
    text = "\n".join((folder / name).read_text(encoding="utf-8") for name in names)
    return f'"use strict";\n(() => {{\n{text}}})();\n' if is_script else text


@cache
def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("vqa_async.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["visible"] = visible
    return made
