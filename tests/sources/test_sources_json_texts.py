"""Lines and array items out of chunks: the same however the bytes are cut, and no error but InputError."""

import json

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vqa_async.config import Columns
from vqa_async.errors import InputError
from vqa_async.models import Failure, Record
from vqa_async.sources import RowReader
from vqa_async.sources.json_values import JsonValues, ValueSplitter
from vqa_async.sources.jsonl import JsonLines, LineSplitter
from vqa_async.sources.pieces import Oversize

# What these tests assert holds at any speed; a busy machine is no counterexample.
untimed = settings(deadline=None)

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
TOKENS = [*(bytes([byte]) for byte in b'{}[]"\\,:1 \n\xff'), b"tru", b'{"a":1}', b'{"a":[{"b":"}]"}]},']
NOISE = st.lists(st.sampled_from(TOKENS)).map(b"".join)


def cut(data, sizes):
    at, chunks = 0, []
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    return [chunk for chunk in [*chunks, data[at:]] if chunk]


def split(splitter, chunks):
    """All texts, and the error that ended them if one did."""
    texts = []
    try:
        for chunk in chunks:
            texts.extend(iter_into(splitter.feed(chunk), texts))
        texts.extend(iter_into(splitter.end(), texts))
    except InputError as error:
        return texts, error.message
    return texts, None


def iter_into(texts, collected):
    for text in texts:
        collected.append(text)
    return []


def array(*items):
    return b"[" + b",".join(items) + b"]"


def results(parser, data):
    return [*parser.feed(data), *parser.end()]


@untimed
@given(st.lists(JSON, max_size=6), st.lists(st.integers(0, 9)), st.sampled_from([None, 2]), st.booleans())
def test_array_items_come_out_whole_however_the_bytes_are_cut(values, sizes, indent, escape):
    """Each item's text parses to the value that went in, compact or indented, with escapes or without."""
    data = json.dumps(values, indent=indent, ensure_ascii=escape).encode("utf-8", "surrogatepass")
    texts, error = split(ValueSplitter("in.json", array=True), cut(data, sizes))
    assert error is None
    assert [json.loads(text) for text in texts] == values


@untimed
@given(st.lists(JSON, max_size=6), st.lists(st.integers(0, 9)))
def test_values_one_after_the_other_come_out_whole(values, sizes):
    """Pretty-printed values that follow each other, with white space between."""
    data = "\n".join(json.dumps(value, indent=1) for value in values).encode()
    texts, error = split(ValueSplitter("in.json", array=False), cut(data, sizes))
    assert error is None
    assert [json.loads(text) for text in texts] == values


@untimed
@given(st.binary() | NOISE, st.lists(st.integers(0, 9)), st.booleans())
@example(b'[{"a":[1}]', [], True)
def test_any_bytes_are_split_or_refused_the_same_however_they_are_cut(data, sizes, in_array):
    """Only InputError leaves the splitter, and where the chunks end changes neither texts nor error."""
    whole = split(ValueSplitter("in.json", array=in_array), [data] if data else [])
    assert split(ValueSplitter("in.json", array=in_array), cut(data, sizes)) == whole


@untimed
@given(st.binary() | NOISE, st.lists(st.integers(0, 9)))
def test_any_bytes_are_lines(data, sizes):
    """Lines end at LF alone, as if the whole had been split at once, and reading them raises nothing."""
    chunks = cut(data, sizes)
    splitter = LineSplitter()
    lines = [line for chunk in chunks for line in splitter.feed(chunk)] + list(splitter.end())
    assert lines == (data.split(b"\n")[:-1] if data.endswith(b"\n") or not data else data.split(b"\n"))
    assert all(isinstance(result, Record | Failure) for result in results(lines_parser(), data))


@untimed
@given(st.binary() | NOISE)
def test_what_python_reads_as_a_list_gives_that_many_rows(data):
    """Wherever a strict parser accepts the array, no item is lost, joined or invented."""
    try:
        values = orjson.loads(array(data))
    except orjson.JSONDecodeError:
        return
    texts, error = split(ValueSplitter("in.json", array=True), [array(data)])
    assert error is None
    assert [orjson.loads(text) for text in texts] == values


@untimed
@given(
    st.lists(st.dictionaries(st.sampled_from(["image", "conversation", "id", "x"]), JSON) | JSON, max_size=6)
)
def test_an_array_and_lines_of_the_same_rows_give_the_same_ids(rows):
    """The form of the file is no part of who a record is."""
    lines = results(lines_parser(), b"".join(orjson.dumps(row) + b"\n" for row in rows))
    items = results(values_parser(), json.dumps(rows, indent=2).encode("utf-8", "surrogatepass"))
    assert [result.id for result in items] == [result.id for result in lines]


def lines_parser(**options):
    return JsonLines("in.jsonl", RowReader(Columns(), prompt="What?"), **options)


def values_parser(**options):
    return JsonValues("in.json", RowReader(Columns(), prompt="What?"), array=True, **options)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\n\n \t\r\n"])
def test_line_endings_make_no_difference(ending):
    """CRLF, blank lines and a missing last end give the records that LF gives."""
    rows = [b'{"image": "a"}', '{"image": "b\u2028c"}'.encode(), b'{"image": "d"}']
    got = results(lines_parser(), ending.join(rows))
    assert [result.row["image"] for result in got] == ["a", "b\u2028c", "d"]
    assert [result.index for result in got] == [0, 1, 2]


def test_line_numbers_count_blank_lines():
    """The number in a message is the one that an editor shows; the index counts rows."""
    failure = results(lines_parser(), b'{"image": "a"}\n\n\n{"image"\n{"image": "b"}')[1]
    assert failure.error.message.startswith("in.jsonl line 4: not JSON: ")
    assert failure.record.index == 1


def test_one_bad_line_costs_one_record():
    """The lines after it go on."""
    got = results(lines_parser(), b'{"image": "a"}\n{"image": NaN}\n{"image": "b"}\n')
    assert [result.ok if isinstance(result, Failure) else True for result in got] == [True, False, True]


def test_one_bad_item_costs_one_record():
    """An item that is whole but not valid does not end the array."""
    got = results(values_parser(), b'[{"image": "a"}, {"image": NaN}, {"image": 1e999}, {"image": "b"}]')
    assert [isinstance(result, Record) for result in got] == [True, False, False, True]
    assert got[1].error.message.startswith("in.json item 1: not JSON: ")


@pytest.mark.parametrize(
    ("data", "count", "said"),
    [
        (b'[{"a":1} {"a":2}]', 1, "item 1 is not valid JSON: a ',' or ']' is missing"),
        (b'[{"a":1},]', 1, "item 1 is not valid JSON: it begins with ']'"),
        (b'[{"a":1},,1]', 1, "begins with ','"),
        (b'[{"a":1}, {"a":[2}]', 1, "'}' closes what it did not open"),
        (b'[{"a":1}, {"a"', 1, "the file ends"),
        (b'[{"a":1}', 1, "the file ends"),
        (b'[{"a":1}] []', 1, "something follows the end"),
        (b'{"a":1}', 0, "an array begins with '['"),
    ],
)
def test_a_broken_array_gives_all_before_the_break(data, count, said):
    """What was whole is read; then the error names file and item."""
    texts, error = split(ValueSplitter("in.json", array=True), [data])
    assert len(texts) == count
    assert error.startswith("in.json item ")
    assert said in error


def test_a_nested_array_costs_no_more_than_its_length():
    """A hundred thousand levels are one bad record; the next item is read."""
    deep = b"[" * 100_000 + b"]" * 100_000
    first, second = results(values_parser(), array(deep, b'{"image": "a"}'))
    assert "depth limit" in first.error.message
    assert isinstance(second, Record)


@pytest.mark.parametrize("parser", [lines_parser, values_parser])
def test_a_text_over_the_limit_is_passed_over(parser):
    """It is a failure that shows how it begins; what follows is read; other texts have other ids."""
    long = b'{"image": "%s%d"}'
    rows = [long % (b"x" * 5000, 1), long % (b"x" * 5000, 2), b'{"image": "a"}']
    joined = b"[" + b",".join(rows) + b"]" if parser is values_parser else b"\n".join(rows)
    reading = parser(limit=1000)
    first, second, third = [
        result for chunk in cut(joined, [100] * 200) for result in reading.feed(chunk)
    ] + list(reading.end())
    assert first.error.code in ("line_too_long", "item_too_long")
    assert first.id != second.id
    assert first.record.row["_input"].startswith('{"image": "xxx')
    assert third.row == {"image": "a"}


def test_a_long_text_is_not_held():
    """Beyond the limit only the beginning stays in memory."""
    splitter = LineSplitter(limit=1000)
    for _ in range(1000):
        assert not list(splitter.feed(b"x" * 500))
    (line,) = splitter.end()
    assert isinstance(line, Oversize)
    assert (len(line), len(line.start)) == (500_000, 1000)
