"""`check`: what it finds in an input, what it asks of an endpoint, and what it projects onto the whole."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from command_line import KEY, serving, started, vqa_async, write_records

from vqa_async.cli.app import run_command
from vqa_async.cli.findings import Findings, Look
from vqa_async.cli.projection import Projection, project, projection_lines
from vqa_async.config import Config
from vqa_async.models import Completion, QAPair, Record, Success, Usage

UNREACHABLE = "http://127.0.0.1:9/v1"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a test, with an input of five records."""
    monkeypatch.chdir(tmp_path)
    write_records(tmp_path / "in.jsonl", 5)
    return tmp_path


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    """An endpoint that wants a key."""
    with serving("--no-decode", "--api-key", KEY) as url:
        yield url


def received(url: str) -> int:
    """Chat requests that an endpoint has got."""
    with closing(urllib.request.urlopen(url.removesuffix("/v1") + "/stats")) as reply:
        counted: int = json.load(reply)["received"]
    return counted


def checked(
    capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0, input: str = "in.jsonl"
) -> dict[str, Any]:
    """What `check --json` prints."""
    assert run_command(["check", input, *arguments, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def rows_of(out: str) -> dict[str, str]:
    """The rows that are printed, by their labels; those that go on are left out."""
    lines = (line for line in out.splitlines() if not line.startswith(" "))
    return {label.strip(): text for label, text in ((line[:11], line[11:]) for line in lines)}


# --- the input ----------------------------------------------------------------------------------------


def test_check_counts_and_estimates_without_sending(
    here: Path, red_image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Good and bad records, images, tokens of all that is sent; images by URL count, though not looked at."""
    Path("in.jsonl").write_text(
        '{"image": "red.png", "conversation": "What is it?"}\n'
        '{"image": "https://example.com/a.png", "conversation": "And this?"}\n'
        '{"image": "gone.png", "conversation": "And this?"}\n'
        "oops\n"
    )
    assert run_command(["check", "in.jsonl", "--system-prompt", "Be brief."]) == 1
    out, err = capsys.readouterr()
    shown = rows_of(out)
    assert (shown["Records"], shown["Good"], shown["Images"]) == ("4", "2", "1 and 1 by URL, not looked at")
    assert shown["Bad"].startswith("2 (")
    assert shown["Tokens"] == "about 1,032 in: 6 of text, 1,020 of images, 6 of the system prompt"
    assert "Images count by the tile rule of OpenAI's GPT-4o family, those by URL as 1024 x 1024." in out
    assert "gone.png" in err
    found = checked(capsys, code=1)
    assert (found["records"], found["good"], found["estimated_image_tokens"]) == (4, 2, 1020)
    assert (found["endpoints"], found["sample"], found["projection"]) == ([], None, None)


def test_check_shows_the_first_problems_and_counts_the_rest(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thousand missing images are one cause, and not a thousand lines."""
    Path("in.jsonl").write_text(
        "".join(f'{{"image": "gone{n}.png", "conversation": "What?"}}\n' for n in range(50))
    )
    assert run_command(["check", "in.jsonl"]) == 1
    out, err = capsys.readouterr()
    assert "Bad        50 (" in out
    assert len(err.splitlines()) == 21
    assert err.splitlines()[-1] == "More problems are only counted."


@pytest.mark.parametrize(
    ("flags", "tokens", "words"),
    [
        (("--model", "Qwen2.5-VL-7B"), 6, "Qwen-VL's patches of 28 pixels"),
        (("--model", "gpt-4o"), 255, "the tile rule of OpenAI's GPT-4o family"),
        (("--model", "gpt-4o", "--detail", "low"), 85, "the tile rule of OpenAI's GPT-4o family"),
        ((), 255, "the tile rule of OpenAI's GPT-4o family"),
    ],
)
def test_images_count_by_the_rule_of_the_model(
    flags: tuple[str, ...],
    tokens: int,
    words: str,
    here: Path,
    red_image: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """64 x 48 pixels are 85 tokens and one tile, or three patches by two."""
    Path("in.jsonl").write_text('{"image": "red.png", "conversation": "What is it?"}\n')
    found = checked(capsys, *flags, "--offline")
    assert (found["estimated_image_tokens"], found["image_rule"]) == (tokens, words)
    assert run_command(["check", "in.jsonl", *flags, "--offline"]) == 0
    assert f"Images count by {words}." in capsys.readouterr().out


def test_a_system_prompt_counts_where_it_is_sent(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not beside a system turn of the record's own, and not where there is none."""
    turns = [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Well?"}]
    Path("in.jsonl").write_text(
        "".join(json.dumps({"conversation": asked}) + "\n" for asked in ("Well?", turns))
    )
    assert checked(capsys, "--system-prompt", "12345678")["estimated_system_tokens"] == 2
    assert checked(capsys, "--system-prompt=")["estimated_system_tokens"] == 0
    assert checked(capsys)["estimated_system_tokens"] > 20


# --- asking nobody ------------------------------------------------------------------------------------


def test_offline_sends_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Though a model and an address are named; and without a model there is nothing to ask."""
    with serving("--no-decode") as url:
        found = checked(capsys, "--model", "looks-1", "--base-url", url, "--offline")
        assert (found["endpoints"], found["sample"], found["projection"]) == ([], None, None)
        assert checked(capsys, "--base-url", url)["endpoints"] == []
        assert received(url) == 0


def test_offline_needs_no_key(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor a valid address of anything."""
    flags = ("--model", "m", "--api-key-env", "NOT_SET", "--base-url", UNREACHABLE)
    assert checked(capsys, *flags, "--offline")["good"] == 5


# --- the endpoint -------------------------------------------------------------------------------------


def test_a_listed_model_is_asked_one_record(
    here: Path, locked: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Endpoint, input, sample, and the projection of that; no key in any of it."""
    monkeypatch.setenv("DF_API_KEY", KEY)
    before = received(locked)
    assert run_command(["check", "in.jsonl", "--model", "looks-1", "--base-url", locked]) == 0
    out, err = capsys.readouterr()
    assert received(locked) == before + 1
    shown = rows_of(out)
    assert list(shown) == [
        *("Endpoint", "Records", "Good", "Bad", "Images", "Tokens", "Sample", "Whole run", "Time"),
    ]
    assert shown["Endpoint"] == f"{locked} answers and lists looks-1"
    assert re.fullmatch(
        r"answered in \d+ ms: \d+ tokens in, \d+ out, \d+ question-answer pairs?", shown["Sample"]
    )
    quoted = out.splitlines()[out.splitlines().index(f"Sample     {shown['Sample']}") + 1]
    assert re.fullmatch(r' {11}".{1,80}"', quoted)
    assert shown["Whole run"].startswith("5 requests, about ")
    assert err == ""
    assert KEY not in out


def test_the_model_may_come_from_anywhere(
    here: Path, endpoint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment, a settings file, or its endpoints, of which each is told of."""
    monkeypatch.setenv("VQA_BASE_URL", endpoint)
    monkeypatch.setenv("VQA_MODEL", "looks-1")
    assert checked(capsys)["sample"]["answered"]
    monkeypatch.delenv("VQA_MODEL")
    Path("model.toml").write_text('model = "looks-1"\n')
    assert checked(capsys, "--config", "model.toml")["sample"]["answered"]
    monkeypatch.delenv("VQA_BASE_URL")
    Path("two.toml").write_text(
        f'[[endpoints]]\nbase_url = "{endpoint}"\nmodel = "looks-1"\n'
        f'[[endpoints]]\nbase_url = "{UNREACHABLE}"\nmodel = "other"\n'
    )
    found = checked(capsys, "--config", "two.toml", code=1)
    assert [(one["model"], one["usable"]) for one in found["endpoints"]] == [
        ("looks-1", True),
        ("other", False),
    ]
    assert found["projection"]["requests"] == 5


def test_an_unknown_model_ends_it_with_one_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a run would end; no record is asked about, but the input is looked at nonetheless."""
    with serving("--no-decode") as url:
        assert run_command(["check", "in.jsonl", "--model", "nope", "--base-url", url]) == 3
        out, err = capsys.readouterr()
        assert received(url) == 1  # the small call
        shown = rows_of(out)
        assert shown["Endpoint"].startswith(f"{url} cannot be used. The endpoint does not serve this model")
        assert "Check --model" in shown["Endpoint"]
        assert shown["Good"] == "5"
        assert err == ""
        assert not shown.keys() & {"Sample", "Whole run"}
        found = checked(capsys, "--model", "nope", "--base-url", url, code=3)
    [one] = found["endpoints"]
    assert (one["usable"], one["listed"], one["error"]["type"]) == (False, False, "ModelNotFound")
    assert (found["good"], found["sample"], found["projection"]) == (5, None, None)


@pytest.mark.parametrize(
    ("key", "says"), [("sk-wrong-0123456789abcdef", "Check the key"), ("", "No key was sent")]
)
def test_a_wrong_key_ends_it_with_one_sentence(
    key: str,
    says: str,
    here: Path,
    locked: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It names where the key was looked for, and never the key."""
    if key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    before = received(locked)
    arguments = ["check", "in.jsonl", "--model", "looks-1", "--base-url", locked]
    assert run_command(arguments) == 3
    out, err = capsys.readouterr()
    assert received(locked) == before + 1  # some keys may ask, and not see the list: one small call tells
    assert says in rows_of(out)["Endpoint"]
    assert "OPENAI_API_KEY" in rows_of(out)["Endpoint"]
    assert err == ""
    assert run_command([*arguments, "--json"]) == 3
    json_out, err = capsys.readouterr()
    assert says in err  # who keeps the JSON in a file still learns why
    assert len(err.splitlines()) == 1
    assert not key or key not in out + json_out + err


def test_an_endpoint_that_is_not_there_ends_it_with_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, and with the input looked at."""
    begun = time.monotonic()
    assert run_command(["check", "in.jsonl", "--model", "m", "--base-url", UNREACHABLE]) == 3
    assert time.monotonic() - begun < 5
    out, err = capsys.readouterr()
    assert out.count("127.0.0.1:9 refuses connections") == 1
    assert "Check --base-url" in rows_of(out)["Endpoint"]
    assert rows_of(out)["Good"] == "5"
    assert err == ""


def completion(text: str) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "length"}
    return {"choices": [choice]}


async def check_at(app: web.Application, *flags: str) -> int:
    """`check` of in.jsonl at a server of a test's own."""
    async with TestServer(app) as server:
        address = ("--model", "m", "--base-url", str(server.make_url("/v1")))
        return await asyncio.to_thread(run_command, ["check", "in.jsonl", *address, *flags])


async def test_without_a_list_of_models_a_small_call_tells(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the record. Such a server may not count tokens either; then the estimates stand."""
    asked = []

    async def chat(request: web.Request) -> web.Response:
        asked.append((await request.json())["messages"])
        return web.json_response(completion("1. \x1b[2Jgreen\u202e [red] " + "x" * 200))

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    assert await check_at(app) == 0
    out = capsys.readouterr().out
    assert [messages[-1]["content"] for messages in asked] == [
        "Reply with the word ok.",
        "What comes after 0?",
    ]
    shown = rows_of(out)
    assert shown["Endpoint"].endswith("/v1 answered a small call to m, for it has no list of models")
    assert ": tokens not told, 0 question-answer pairs, cut off by its length limit" in shown["Sample"]
    assert '"1. [2Jgreen [red] xxx' in out
    assert "\x1b" not in out
    estimate = shown["Tokens"].split()[1]
    assert shown["Whole run"].startswith(f"5 requests, about {estimate} tokens in, ")
    assert not shown["Whole run"].endswith(", 0 out")


async def test_a_server_that_does_not_say_which_models_it_has_is_helped(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some that it lists, made fit to be shown, end the sentence."""

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": f"model-\x1b[1m{n}"} for n in range(30)]})

    async def chat(request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "?", "code": "model_not_found"}}, status=404)

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", chat)
    assert await check_at(app) == 3
    out = capsys.readouterr().out
    assert "Check --model. The endpoint lists model- [1m0, model- [1m1, " in rows_of(out)["Endpoint"]
    assert rows_of(out)["Endpoint"].endswith(" and 22 more.")


async def test_a_web_page_is_told_by_the_sample(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An address without its /v1 often has one; a run would stop there."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html>", content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", page)
    assert await check_at(app, "--json") == 3
    found = json.loads(capsys.readouterr().out)
    [one] = found["endpoints"]
    assert (one["usable"], one["listed"], one["answered_call"]) == (True, None, False)
    assert found["sample"]["error"]["code"] == "html_response"


# --- the sample ---------------------------------------------------------------------------------------


def test_a_sample_that_fails_is_told_with_its_sentence(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and nothing is projected from it."""
    with serving("--no-decode", "--error-rate", "400=1") as url:
        assert run_command(["check", "in.jsonl", "--model", "looks-1", "--base-url", url]) == 1
        shown = rows_of(capsys.readouterr().out)
        found = checked(capsys, "--model", "looks-1", "--base-url", url, code=1)
    assert shown["Sample"].startswith("failed: The endpoint rejects this request (400): ")
    assert "Whole run" not in shown
    assert found["sample"]["error"]["type"] == "Rejected"
    assert (found["sample"]["answered"], found["sample"]["latency_s"]) == (False, None)
    assert found["projection"] is None


def test_the_sample_is_the_first_good_record(
    here: Path, endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad ones are passed over, and are no part of the projection; exit code 1 for their sake."""
    rows = [{"id": "a", "image": "gone.png"}, {"id": "b", "conversation": "Well?"}, {"id": "c", "image": 1}]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = checked(capsys, "--model", "looks-1", "--base-url", endpoint, code=1)
    assert (found["sample"]["id"], found["projection"]["requests"]) == ("b", 1)


def test_without_a_good_record_nobody_is_asked(
    here: Path, endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The endpoint is still told of."""
    Path("in.jsonl").write_text('{"image": "gone.png"}\n')
    before = received(endpoint)
    found = checked(capsys, "--model", "looks-1", "--base-url", endpoint, code=1)
    assert found["endpoints"][0]["usable"]
    assert (found["sample"], received(endpoint)) == (None, before)


# --- the projection -----------------------------------------------------------------------------------


def test_the_projection_is_consistent(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each number follows from those beside it."""
    with serving("--no-decode", "--latency", "0.2") as url:
        flags = ("--model", "looks-1", "--base-url", url, "--max-workers", "2")
        found = checked(capsys, *flags, "--price-input", "2", "--price-output", "1000")
    sample, projected = found["sample"], found["projection"]
    text, system = found["estimated_text_tokens"], found["estimated_system_tokens"]
    assert projected["requests"] == found["good"] == 5
    assert projected["prompt_factor"] == round(sample["prompt_tokens"] / ((text + system) / 5), 4)
    assert projected["prompt_tokens"] == 5 * sample["prompt_tokens"]  # all records are of one length
    assert projected["completion_tokens"] == 5 * sample["completion_tokens"]
    assert projected["time_s"] == pytest.approx(5 * sample["latency_s"] / 2, abs=0.001)
    assert (projected["in_flight"], projected["held_back_by"]) == (2, None)
    cost = (projected["prompt_tokens"] * 2 + projected["completion_tokens"] * 1000) / 1e6
    assert projected["cost"] == pytest.approx(cost, abs=1e-6)
    assert projected["prices"] == "given"


def look(prompt_tokens: int) -> Look:
    return Look(Record("r", 0, {}, ()), 0, 0, prompt_tokens, 0, 0)


def projected(good: int = 100, **options: Any) -> Projection:
    """For records of 50 tokens each, after a first one of 100 that the endpoint counted as 200, with 10 in
    its answer, in 2 s."""
    config = Config.of(model="m", **options)
    findings = Findings("some rule", records=good)
    for number in range(good):
        findings.add(look(50 if number else 100))
    answer = Completion("Well.", "m", "stop", Usage(200, 10))
    sample = Success(look(100).record, answer, (QAPair("a", "b"),), "http://h/v1", 1, 2.0, 0.0, "")
    return project(findings, sample, config, config.all_endpoints())


def test_tokens_are_corrected_by_the_sample() -> None:
    """Counted twice as high as estimated: so will the others be."""
    p = projected()
    assert (p.factor, p.prompt_tokens, p.completion_tokens) == (2.0, 2 * (100 + 99 * 50), 1000)


two = [{"base_url": "http://a/v1"}, {"base_url": "http://b/v1"}]
narrow = [{**one, "max_workers": 3} for one in two]


@pytest.mark.parametrize(
    ("options", "width", "time_s", "held_by"),
    [
        ({"max_workers": 20}, 20, 10.0, ""),
        ({"max_workers": 1000}, 100, 2.0, ""),
        ({"max_workers": "auto"}, 8, 25.0, ""),
        ({"max_workers": "auto", "start_workers": 4, "endpoints": two}, 8, 25.0, ""),
        ({"max_workers": "auto", "most_workers": 5, "endpoints": two}, 5, 40.0, ""),
        ({"max_workers": 20, "endpoints": narrow}, 6, 100 / 3, ""),
        ({"max_workers": 20, "rpm": 60.0}, 20, 100.0, "rpm"),
        ({"max_workers": 20, "rpm": 60.0, "endpoints": two}, 20, 50.0, "rpm"),
        ({"max_workers": 20, "rpm": 6000.0}, 20, 10.0, ""),
        ({"max_workers": 20, "rpm": 60.0, "tpm": 1110.0}, 20, 600.0, "tpm"),
    ],
)
def test_time_goes_by_width_and_rates(
    options: dict[str, Any], width: int, time_s: float, held_by: str
) -> None:
    """Records times latency over what is in flight; never shorter than one answer, nor faster than a rate."""
    p = projected(**options)
    assert (p.width, p.time_s, p.held_by) == (width, pytest.approx(time_s), held_by)


def test_what_is_shown_says_what_it_rests_on() -> None:
    """The width that 'auto' begins with, the rate that holds back, whose prices; that all is estimated."""
    assert "about 25 s, with 8 requests in flight, with which 'auto' begins" in "\n".join(
        projection_lines(projected(max_workers="auto"))
    )
    lines = projection_lines(projected(rpm=60.0, price_input=1.0, price_output=1.0))
    assert "Time       about 1 min 40 s, held back by the requests a minute that are allowed (rpm)" in lines
    assert "Cost       about $0.0111, at the prices given" in lines
    assert lines[-1].strip().startswith("Estimates, from this one sample")
    assert not [line for line in projection_lines(projected()) if "$" in line]


def test_list_prices_are_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package of prices is installed and knows the model."""

    def calc_price(usage: object, model_ref: str) -> SimpleNamespace:
        if model_ref != "m":
            raise LookupError
        return SimpleNamespace(input_price=0.002, output_price=0.004)

    package = ModuleType("genai_prices")
    package.__dict__.update(Usage=lambda **tokens: tokens, calc_price=calc_price)
    monkeypatch.setitem(sys.modules, "genai_prices", package)
    p = projected()
    assert (p.prices, p.cost) == ("genai-prices", pytest.approx((10_100 * 2 + 1000 * 4) / 1e6))
    assert "Cost       about $0.0242, at the list prices of genai-prices" in projection_lines(p)
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert (projected().prices, projected().cost) == (None, None)


# --- what is promised of every command ----------------------------------------------------------------


def test_the_shape_of_the_json(here: Path, endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs find the same names whatever was found."""
    found = checked(capsys, "--model", "looks-1", "--base-url", endpoint)
    assert set(found) == {
        *("records", "good", "bad", "problems", "images", "image_urls", "image_rule"),
        *("estimated_text_tokens", "estimated_image_tokens", "estimated_system_tokens"),
        *("example", "endpoints", "sample", "projection"),
    }
    assert set(found["endpoints"][0]) == {"url", "model", "usable", "listed", "answered_call", "error"}
    answered = {
        *("id", "answered", "attempts", "endpoint", "latency_s", "prompt_tokens", "completion_tokens"),
        *("pairs", "finish_reason", "text", "error"),
    }
    assert set(found["sample"]) == answered
    assert set(found["projection"]) == {
        *("requests", "prompt_tokens", "completion_tokens", "prompt_factor", "time_s", "in_flight"),
        *("held_back_by", "cost", "prices"),
    }
    with serving("--no-decode", "--error-rate", "400=1") as url:
        failed = checked(capsys, "--model", "looks-1", "--base-url", url, code=1)
    assert set(failed["sample"]) == answered


def test_help_says_what_is_spent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody learns of it from the bill; and the options stand where `run` has them."""
    monkeypatch.setenv("COLUMNS", "100")
    assert run_command(["check", "--help"]) == 0
    out = capsys.readouterr().out
    assert (
        "With --model the endpoint is asked too: its models, and one record of the input, which is paid for; "
        "--offline asks nothing."
    ) in " ".join(out.split())
    titles = re.findall(r"^╭─ ([^─]+) ─", out, re.MULTILINE)
    assert titles[1:] == [
        *("Where", "What to ask", "Pace and patience", "Budget", "Images", "Results and resuming"),
    ]


def test_no_key_is_printed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even where the server sends it back, in its answer or in an error."""
    with serving("--no-decode", "--model", KEY) as url:
        done = vqa_async(
            *("check", "in.jsonl", "--model", "nope", "--base-url", url), cwd=here, env={"DF_API_KEY": KEY}
        )
    assert done.returncode == 3, done.stderr
    assert KEY not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_while_the_sample_is_asked(number: signal.Signals, here: Path) -> None:
    """At once, with one line; nothing is left half done."""
    with (
        serving("--no-decode", "--latency", "60") as url,
        started("check", "in.jsonl", "--model", "looks-1", "--base-url", url, cwd=here) as process,
    ):
        end = time.monotonic() + 15
        while not received(url):
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=5)
    assert process.returncode == 128 + number
    assert err == "vqa-async: interrupted. Run the same command again to go on.\n"
    assert "Good       5\n" in out
