"""The words that open a question or an answer, as data, and the places in a line where they may stand.

A label is read without knowing yet whether it counts: ``kinds_in`` decides that for the text as a whole,
because a single letter means something only in the company of its partner.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["question", "answer"]
Kinds: TypeAlias = Mapping[str, Kind]

_KINDS: tuple[Kind, Kind] = ("question", "answer")

# Labels wherever they open a line: (for questions, for answers).
_WORDS = (
    ("question", "answer|ans|correct answer"),
    ("问|问题|提问|题目|問|問題|提問|題目", "答|答案|回答|解答|正确答案|正確答案|参考答案|參考答案"),
    ("質問|問い", "回答|答え|応答"),
    ("질문|문제|문", "답변|답|정답|대답"),
    ("question", "réponse|reponse"),
    ("frage", "antwort"),
    ("pregunta", "respuesta"),
    ("pergunta|questão", "resposta"),
    ("domanda", "risposta"),
    ("вопрос|питання|запитання", "ответ|відповідь"),
    ("سؤال|السؤال|س", "جواب|الجواب|إجابة|الإجابة|ج"),
    ("سوال|پرسش", "جواب|پاسخ"),
    ("प्रश्न|सवाल|প্রশ্ন", "उत्तर|जवाब|উত্তর"),
    ("câu hỏi|hỏi|câu", "trả lời|câu trả lời|đáp án|đáp"),
    ("soru", "cevap|yanıt"),
    ("pytanie|otázka", "odpowiedź|odpověď"),
    ("vraag|fråga|spørgsmål|spørsmål", "antwoord|svar"),
    ("pertanyaan|soalan", "jawaban|jawapan"),
    ("คำถาม|ถาม|שאלה|ερώτηση|întrebare", "คำตอบ|ตอบ|תשובה|απάντηση|răspuns"),
    ("kysymys|kérdés|въпрос|pitanje", "vastaus|válasz|отговор|odgovor"),
)

# Letters are labels only as a pair that the text uses: "R:" opens an answer beside "P:" or a French "Q :",
# but is a colour beside "G:" and "B:". Of pairs that fit equally well the first wins.
_LETTERS = tuple(
    tuple(pair.split())
    for pair in ("q a", "q r", "p r", "f a", "d r", "в о", "s c", "p o", "h đ", "ש ת", "ｑ ａ")
)

# Who speaks, where nothing else in the text is a label: what a picture shows may well be a chat.
_SPEAKERS = tuple(tuple(pair.split()) for pair in ("user assistant", "human assistant", "human gpt"))


def _folded(label: str) -> str:
    return unicodedata.normalize("NFC", label).casefold()


def _word_kinds() -> Iterator[tuple[str, Kind]]:
    for questions, answers in _WORDS:
        yield from ((_folded(word), "question") for word in questions.split("|"))
        yield from ((_folded(word), "answer") for word in answers.split("|"))


WORD_KINDS: Kinds = dict(_word_kinds())
"""Every label word, folded, with what it opens."""

KEY_KINDS: Kinds = {**WORD_KINDS, "q": "question", "a": "answer"}
"""The same with Q and A, for places where a name stands by itself: keys, headers of columns."""

_UNDOUBTED = (WORD_KINDS.keys() - {name for pair in (*_LETTERS, *_SPEAKERS) for name in pair}) | {"q", "a"}
"""Names that in each other's company open nothing else than they do by themselves."""


def _any_of(words: Iterable[str]) -> str:
    # Longest first, so that no label is taken for a shorter one; accents composed and decomposed.
    forms = {unicodedata.normalize(form, word) for word in words for form in ("NFC", "NFD")}
    return "|".join(re.escape(word) for word in sorted(forms, key=lambda word: (-len(word), word)))


GAP = r"[\s\u200b\u200e\u200f\ufeff]*+"
"""White space of any width, and the invisible marks that stand around right-to-left text."""

_MARK = r"[*_]{1,3}"
_COLON = r"[:：﹕︰]"
_NUMBER = r"\d{1,4}"
# A number must touch a letter: "A 16:9 screen" holds no label.
_NAME = (
    rf"(?:(?P<word>{_any_of(WORD_KINDS)})"
    rf"(?>(?:{GAP}[#№(（]?{GAP}(?P<word_number>{_NUMBER}|[一二三四五六七八九十]{{1,3}})[)）]?)?)"
    rf"|(?P<letter>{_any_of({letter for pair in (*_LETTERS, *_SPEAKERS) for letter in pair})})"
    rf"(?>(?:[#._-]?(?P<letter_number>{_NUMBER}))?))"
)
_SIGN = r"[❓❔🤔✅☑✔💡💬🔹🔸🔍📌👉▶➤→]\ufe0f?"  # decoration that chat models are fond of
_DECORATION = (
    rf"(?P<listed>[-*+•‣◦▪●–—]\s|[(\[]?{_NUMBER}[.)\]、．])|\#{{1,6}}|\*\*{_NUMBER}[.)]?\*\*\s|{_SIGN}"
)
# Groups are repeated in atomic groups and nowhere possessively, which is the same: the first releases of
# Python 3.11 lose their place where such a group fails half way, and track of groups inside of it, and raise
# SystemError over that (cpython issue 101955). That way each repetition takes memory, so nine must do.
_OPENING = re.compile(
    rf"{GAP}(?>(?:>{GAP}){{0,99}})(?>(?:(?:{_DECORATION}){GAP}){{0,9}})"
    rf"(?>(?P<mark>{_MARK})?)(?>(?:{_NUMBER}[.)、．]{GAP})?)(?>(?P<bracket>[\[【「〔])?)"
    rf"{_NAME}(?>(?:{GAP}[(（][^()（）]{{1,60}}+[)）])?)(?>(?P<bracket_end>[\]】」〕])?)"
    rf"{GAP}(?>(?P<close>{_MARK})?)",
    re.IGNORECASE,
)
_AFTER_COLON = re.compile(rf"{GAP}{_COLON}{GAP}")
_AFTER_NUMBER = re.compile(r"\s*+(?:[.)．](?=\s|$|[*_]{1,3}(?:\s|$))|、|[-–—](?=\s))\s*+")
_AFTER_LETTER = re.compile(r"[.．](?=\s|[*_]{1,3}\s)\s*+")
# Within a line an answer opens only after the end of a sentence, so that "Option A: red" stays whole.
_INLINE = re.compile(
    r"(?P<end>[?.!;…؟][\"'”’»)]*+(?=[\s*_])|[？。！；][\"'”’»」』）)]*+)[\s*_|/→–—-]*+"
    rf"{_NAME}{GAP}(?>(?:{_MARK})?){GAP}{_COLON}(?>(?:{_MARK})?)",
    re.IGNORECASE,
)
_CHOICE = re.compile(
    rf"{GAP}(?>(?:[-*+•]\s)?){GAP}(?>(?:{_MARK})?)(?P<letter>[A-F])(?>(?:{_MARK})?)"
    rf"(?P<end>{_COLON}|\.(?=\s))",
    re.IGNORECASE,
)
_NEXT_CHOICE = re.compile(rf"\sB{_COLON}")


@dataclass(frozen=True, slots=True)
class Label:
    """What opens a part: its folded name, its number ("" without one) and the text beside it.

    ``dotted`` says that it is a letter with a full stop, ``A. Smith``, which counts only in company.
    """

    name: str
    number: str
    text: str
    indent: int = 0
    listed: bool = False
    dotted: bool = False


def labels_in(lines: Sequence[str]) -> list[Label | None]:
    """The label that opens each line, None for lines without one."""
    choices = _choice_lines(lines)
    labels = [None if at in choices else _label(line) for at, line in enumerate(lines)]
    dotted = {label.name for label in labels if label and label.dotted}
    if not dotted or "q" in dotted:
        return labels
    return [None if label and label.dotted else label for label in labels]


def kinds_in(lines: Iterable[str], labels: Iterable[Label | None]) -> Kinds:
    """What each label name opens in this text: all the words, and the pair of letters that it uses most."""
    names = [label.name for label in labels if label]
    names += [
        _folded(found["letter"]) for line in lines for found in _INLINE.finditer(line) if found["letter"]
    ]
    if _UNDOUBTED.issuperset(names):
        return KEY_KINDS
    used = Counter(names)
    by_word = Counter(WORD_KINDS[name] for name in used.elements() if name in WORD_KINDS)

    def balance(letters: Iterable[str]) -> int:  # words count too: "Frage: ..." may be answered by "A: ..."
        return min(by_word[kind] + used[letter] for kind, letter in zip(_KINDS, letters, strict=True))

    best = max(_LETTERS, key=balance)
    if not balance(best):
        best = max((best, *_SPEAKERS), key=balance)
    return {**WORD_KINDS, **dict(zip(best, _KINDS, strict=True))}


def split_inline(line: str, kinds: Kinds) -> list[tuple[Kind, str, str]]:
    """A line of a question as (kind, number, text), cut where an answer, the next question and so on open."""
    pieces: list[tuple[Kind, str, str]] = []
    kind, number, start = "question", "", 0
    for found in _INLINE.finditer(line):
        opened = kinds.get(_name(found))
        if opened and opened != kind and not _is_choice(found):
            pieces.append((kind, number, line[start : found.end("end")]))  # type: ignore[arg-type]
            kind, number, start = opened, _number(found), found.end()
    return [*pieces, (kind, number, line[start:])]  # type: ignore[list-item]


def _label(line: str) -> Label | None:
    found = _OPENING.match(line)
    if found is None:
        return None
    text, dotted = _text_beside(found), False
    if text is None and (text := _text_after_letter(found)) is not None:
        dotted = True
    if text is None:
        return None
    indent = len(line) - len(line.lstrip(" \t"))
    return Label(_name(found), _number(found), text.rstrip(" \t"), indent, bool(found["listed"]), dotted)


def _text_after_letter(found: re.Match[str]) -> str | None:
    """What follows "Q." or "A."; None where neither stands there."""
    if _number(found) or _name(found) not in ("q", "a"):
        return None
    after = _AFTER_LETTER.match(found.string, found.end())
    return _unmarked(found.string[after.end() :], found["mark"] or "") if after else None


def _text_beside(found: re.Match[str]) -> str | None:
    """What follows the label in its line; None where the match is the beginning of a sentence instead."""
    line, mark = found.string, found["mark"] or ""
    if found["bracket"] or found["bracket_end"]:
        if not (found["bracket"] and found["bracket_end"]):
            return None
        after = _AFTER_COLON.match(line, found.end())
        return _unmarked(line[after.end() if after else found.end() :].lstrip(), mark)
    if after := _AFTER_COLON.match(line, found.end()):
        rest = line[after.end() :]
        return rest if not mark or found["close"] else _unmarked(rest, mark)
    if _number(found) and (after := _AFTER_NUMBER.match(line, found.end())):
        return _unmarked(line[after.end() :], mark)
    rest = line[found.end() :].strip()
    closed = bool(mark and found["close"] and _number(found))  # "**Question 1** What is it?"
    alone = not rest and bool(
        found["word"] or _number(found)
    )  # "Question 1", or "Answer", on a line of its own
    return rest if closed or alone else None


def _unmarked(text: str, mark: str) -> str:
    """``text`` without the emphasis that was opened before its label: ``**Q:** x``, ``**Q: x**``."""
    if text.startswith(mark):
        return text[len(mark) :].lstrip()
    return text.rstrip().removesuffix(mark)


def _name(found: re.Match[str]) -> str:
    return _folded(found["word"] or found["letter"])


def _number(found: re.Match[str]) -> str:
    number = found["word_number"] or found["letter_number"] or ""
    return str(int(number)) if number.isdecimal() else number


def _is_choice(found: re.Match[str]) -> bool:
    # "Which? A: red B: blue"; the window keeps many labels in one long line from being quadratic.
    return found["letter"] in ("A", "a") and bool(
        _NEXT_CHOICE.search(found.string, found.end(), found.end() + 200)
    )


def _choice_lines(lines: Sequence[str]) -> set[int]:
    """Lines that are choices of a multiple choice (A: red, B: blue, ...): there "A:" is no answer."""
    return {at for pair in _neighbouring_choices(lines) for at in pair}


def _neighbouring_choices(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    last: tuple[int, str, str] = (-1, "", "")
    for at, line in enumerate(lines):
        if line.strip():
            found = _CHOICE.match(line)
            letter, end = (found["letter"].upper(), found["end"]) if found else ("", "")
            if letter and last[1] and ord(letter) == ord(last[1]) + 1 and end == last[2]:
                yield last[0], at
            last = at, letter, end
