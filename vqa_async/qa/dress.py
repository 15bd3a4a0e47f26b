"""What stands around an answer and is none of it: thinking aloud, marks of chat templates, escapes, tags.

``undressed`` takes off what nobody could want to keep. ``redressed`` reads a text in which no pairs were
found as what it may be besides: one long escaped line, or HTML.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator

_REASONING = re.compile(r"\s*+<(think|thinking|thought|reasoning|reflection|analysis)>", re.IGNORECASE)
_STRAY_END = re.compile(r"^</(?:think|thinking|thought|reasoning)>", re.IGNORECASE | re.MULTILINE)
_END_MARK = re.compile(r"<\|(?:im_end|eot_id|endoftext|end_of_text|end|eos)\|>|<end_of_turn>|</s>|<eos>")
_BOX_MARK = re.compile(r"<\|(?:begin|end)_of_box\|>")
_OUTER = re.compile(r"\s*+<(answer|response|output)>", re.IGNORECASE)
_OUTER_END = re.compile(r"</(?:answer|response|output)>\s*+\Z", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:quot|apos|amp|lt|gt|#\d{1,7}|#x[0-9a-f]{1,6});", re.IGNORECASE)
_BARE = re.compile(r"[<>\"]|&(?!(?:\w{2,8}|#\d{1,7}|#x[0-9a-f]{1,6});)", re.IGNORECASE)
_TAG = re.compile(r"<(/?)([a-z][a-z0-9]{0,9})\b[^<>]{0,300}+>", re.IGNORECASE)
_BOLD_TAGS = frozenset(("b", "strong"))
_BLOCK_TAGS = frozenset(("br", "p", "li", "div", "tr", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6"))
_INLINE_TAGS = frozenset(("i", "em", "u", "span", "code", "font", "html", "body", "section", "td", "table"))


def undressed(text: str) -> str:
    """``text`` with plain line ends, without reasoning, marks of chat templates and escapes of HTML."""
    body = text.replace("\r\n", "\n").replace("\r", "\n")
    if "◁" in body:
        body = body.replace("◁think▷", "<think>").replace("◁/think▷", "</think>")
    if "<" in body:
        body = _without_marks(_without_reasoning(body))
    if "&" in body and _ENTITY.search(body) and not _BARE.search(body):
        body = html.unescape(body)  # escaped as a whole: nothing that HTML reserves stands there bare
    return body


def redressed(text: str) -> Iterator[str]:
    """What else ``text`` may be."""
    if "\\" in text and "\n" not in text.strip():
        yield _unescaped(text.strip())
    if any(found[2].lower() in _BLOCK_TAGS | _BOLD_TAGS for found in _TAG.finditer(text)):
        yield html.unescape(_TAG.sub(_as_text, text))


def _without_reasoning(text: str) -> str:
    at = 0
    while opened := _REASONING.match(text, at):
        closed = re.compile(f"</{opened[1]}>", re.IGNORECASE).search(text, opened.end())
        if closed is None:
            return ""  # cut off while still thinking: what is there is a draft
        at = closed.end()
    if not at and (stray := _STRAY_END.search(text)):
        at = stray.end()  # some chat templates open the block themselves, so only its end is in the reply
    return text[at:]


def _without_marks(text: str) -> str:
    text = _BOX_MARK.sub("", text)
    if end := _END_MARK.search(text):
        text = text[: end.start()]  # what follows is a turn that the model has made up
    outer = _OUTER.match(text)
    if outer and "<question" not in text.lower():
        text = _OUTER_END.sub("", text[outer.end() :].rstrip())
    return text


def _unescaped(line: str) -> str:
    quoted = line if len(line) > 1 and line[0] == line[-1] == '"' else f'"{line}"'
    try:
        text = json.loads(quoted, strict=False)
    except ValueError:  # quotes in it are bare
        text = line.replace("\\n", "\n")
    return text if isinstance(text, str) else line


def _as_text(tag: re.Match[str]) -> str:
    name = tag[2].lower()
    if name in _BLOCK_TAGS:
        return "\n"
    if name in _BOLD_TAGS:
        return "**"
    return "" if name in _INLINE_TAGS else tag[0]
