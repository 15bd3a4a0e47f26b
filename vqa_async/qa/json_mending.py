"""An object that is nearly JSON as JSON: comments, single or curly quotes, bare keys, forgotten commas.

Token by token, in one pass; nothing is guessed from what a text might mean.
"""

from __future__ import annotations

import json
import re

_MEND = re.compile(
    r'(?P<string>"[^"\\]*+(?>(?:\\.[^"\\]*+)*)")'
    r"|(?P<single>'[^'\\]*+(?>(?:\\.[^'\\]*+)*)')"
    r"|“(?P<curly>[^“”]*+)”"
    r"|(?P<comment>//[^\n]*+|\#[^\n]*+)"
    r"|(?P<mark>[\[\]{}:,：，])"
    r"|(?P<word>[^\s\[\]{}:,：，\"'“]++)",
    re.DOTALL,
)
_MARKS = {"：": ":", "，": ","}
_WORDS = {"True": "true", "False": "false", "None": "null"}
_PLAIN_WORD = re.compile(r"(?:true|false|null|-?\d[\d.eE+-]*+)\Z")


def mended_json(text: str) -> str:
    """``text`` as it would be if whoever wrote it knew JSON; it may still be none."""
    pieces: list[str] = []
    after_value = False
    for found in _MEND.finditer(text):
        kind = found.lastgroup
        if kind == "comment":
            continue
        if kind == "mark":
            mark = _MARKS.get(found[0], found[0])
            if mark in "}]" and pieces and pieces[-1] == ",":
                pieces.pop()
            pieces += [","] if after_value and mark in "{[" else []
            pieces.append(mark)
            after_value = mark in "}]"
        else:
            pieces += [",", _value(found)] if after_value else [_value(found)]
            after_value = True
    return " ".join(pieces)


def _value(found: re.Match[str]) -> str:
    if found["string"]:
        return found["string"]
    if found["single"]:
        return _quoted(found["single"][1:-1].replace("\\'", "'"))
    if found["word"]:
        word = _WORDS.get(found["word"], found["word"])
        return word if _PLAIN_WORD.match(word) else json.dumps(word)
    return json.dumps(found["curly"])


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(?<!\\)"', r"\"", text) + '"'
