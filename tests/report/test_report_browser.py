"""The page in a real browser: it opens, searches, filters, decides and exports; nothing leaves it, and what
strangers wrote stays text."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from chromium import Tab
from report_outputs import ASK, answered, failed, group, keep, picture

from vqa_async.export import ExportOptions, export_dataset
from vqa_async.report import write_report

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

SHOWN = "document.getElementById('count').textContent"
TITLE = "document.querySelector('#detail h2 bdi')?.textContent"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Thirty answers, some with flags and styles, and two failures."""
    for n in range(4):
        picture(tmp_path / f"{n}.png", (60 * n, 200 - 60 * n, 90), (160, 120))
    results: list[Any] = []
    for n in range(30):
        row = {"id": f"r{n}", "image": [f"{n % 4}.png"], "conversation": ASK, "shelf": f"shelf {n % 7}"}
        flags = ("length",) if n % 10 == 3 else ("refusal",) if n == 8 else ()
        pairs = [("What is it?", f"Thing number {n}.", flags), ("Which colour?", "Blau, größer 猫.", ())]
        results.append(answered(n, row, pairs, style="counting" if n % 3 else "ocr"))
    results.append(failed(30, {"id": "f30", "image": ["gone.png"], "conversation": ASK}))
    results.append(failed(31, {"id": "f31", "image": ["https://example.com/x.png"], "conversation": ASK}))
    return keep(tmp_path / "out.jsonl", results)


async def opened(tab: Tab, output: Path, **options: Any) -> str:
    """The address of the page of an output, which is open then."""
    page = output.with_name("report.html")
    await asyncio.to_thread(write_report, output, page, **options)
    await tab.size(1400, 900)
    await tab.go(page.as_uri())
    return page.as_uri()


async def choose(tab: Tab, filter: str, value: str) -> str:
    """Set a filter; what the count says then."""
    script = (
        f"(() => {{ const s = document.getElementsByName({json.dumps(filter)})[0]; "
        f"s.value = {json.dumps(value)}; s.dispatchEvent(new Event('change')); return {SHOWN}; }})()"
    )
    return str(await tab.run(script))


async def search(tab: Tab, text: str) -> str:
    """Type into the search; what the count says then."""
    await tab.run("document.getElementById('search').focus()")
    await tab.run("document.getElementById('search').select()")
    await tab.send("Input.insertText", text=text)
    return str(await tab.run(SHOWN))


async def exported(tab: Tab) -> list[dict[str, Any]]:
    """The decisions as the page saves them."""
    file = tab.downloads / "decisions.jsonl"
    file.unlink(missing_ok=True)
    seen = len(tab.events)
    await tab.run("document.getElementById('export').click()")
    async with asyncio.timeout(10):
        while not any(e.get("params", {}).get("state") == "completed" for e in tab.events[seen:]):
            await asyncio.sleep(0.01)
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


async def test_a_report_opens_and_asks_nobody_anything(tab: Tab, output: Path) -> None:
    """Its own file is the only request; the console is empty; figures, images and records are there."""
    address = await opened(tab, output)
    assert await tab.run(SHOWN) == "32 records"
    assert await tab.run("document.querySelector('.tiles .tile b').textContent") == "30"
    assert await tab.run("document.querySelectorAll('.plot').length") == 6
    await tab.wait("document.querySelector('#detail img').naturalWidth === 160")
    assert await tab.run("document.querySelector('.row img').naturalWidth") == 160
    assert tab.requests() == [address]
    assert tab.complaints() == []


async def test_search_looks_at_all_text(tab: Tab, output: Path) -> None:
    """Words in any order, phrases in quotes, whatever the case; and a way back where nothing is found."""
    await opened(tab, output)
    assert await search(tab, "NUMBER 2") == "18 of 32 records"  # of the thing, its shelf or its image
    assert await search(tab, '"number 2."') == "1 of 32 records"
    assert await search(tab, "größer") == "30 of 32 records"
    assert await search(tab, '"shelf 6"') == "4 of 32 records"
    assert await search(tab, "r17") == "1 of 32 records"
    assert await tab.run("document.querySelector('#detail mark').textContent") == "r17"
    assert await search(tab, "not found") == "2 of 32 records"
    assert await search(tab, "nowhere to be found") == "0 of 32 records"
    assert await tab.run("document.querySelector('#detail .empty').innerText.includes('Nothing matches.')")
    await tab.run("document.querySelector('#detail button').click()")
    assert await tab.run(SHOWN) == "32 records"
    assert tab.complaints() == []


async def test_filters_leave_records_out(tab: Tab, output: Path) -> None:
    """By how they ended, by flag, by style, by what was decided; several at once."""
    await opened(tab, output)
    assert await choose(tab, "state", "failed") == "2 of 32 records"
    assert await choose(tab, "state", "flagged") == "4 of 32 records"
    assert await choose(tab, "flag", "length") == "3 of 32 records"
    assert await choose(tab, "style", "ocr") == "1 of 32 records"
    assert await choose(tab, "state", "clean") == "0 of 32 records"
    await tab.run("document.getElementById('clear').click()")
    assert await tab.run(SHOWN) == "32 records"
    assert await choose(tab, "decided", "undecided") == "30 of 32 records"  # failures have nothing to decide
    await tab.run("document.getElementById('list').focus()")
    await tab.press("a")
    assert await tab.run(SHOWN) == "29 of 32 records"
    assert await choose(tab, "decided", "accept") == "1 of 32 records"


async def test_decisions_by_key_are_what_an_export_applies(tab: Tab, output: Path, tmp_path: Path) -> None:
    """Records and pairs are accepted and rejected, one is taken back, the file is exported and applied."""
    await opened(tab, output)
    await tab.press("a")  # r0 accepted, on to r1
    await tab.press("jx")  # r2 rejected, on to r3
    await tab.press("nx")  # the first pair of r3 rejected, on to its second
    assert await tab.run("document.querySelectorAll('.pair.reject').length") == 1
    await tab.press("jxu")  # r4 rejected, and taken back
    assert await tab.run("document.getElementById('tally').title") == "1 accepted, 2 rejected"
    decisions = await exported(tab)
    assert decisions == [
        {"id": "r0", "decision": "accept"},
        {"id": "r2", "decision": "reject"},
        {"id": "r3", "pair": 0, "decision": "reject"},
    ]
    options = ExportOptions(decisions=str(tab.downloads / "decisions.jsonl"))
    done = await asyncio.to_thread(export_dataset, output, tmp_path / "data.jsonl", options)
    assert (done.records, done.pairs) == (29, 57)
    only = ExportOptions(decisions=str(tab.downloads / "decisions.jsonl"), only_accepted=True)
    kept = await asyncio.to_thread(export_dataset, output, tmp_path / "data.jsonl", only)
    assert (kept.records, kept.pairs) == (1, 2)


async def test_a_failed_record_is_not_judged(tab: Tab, output: Path) -> None:
    """There is no answer that a decision could be about, and the page says so."""
    await opened(tab, output)
    await choose(tab, "state", "failed")
    await tab.press("x")
    assert "no answer to judge" in await tab.run("document.getElementById('toast').textContent")
    assert await tab.run("document.getElementById('export').disabled")
    assert "x.png" in await tab.run("document.querySelector('#detail .failure').innerText")
    await tab.press("j")
    assert "nothing is downloaded" in await tab.run("document.getElementById('detail').innerText")
    assert tab.requests()[1:] == []


async def test_keys_lead_through_the_records(tab: Tab, output: Path) -> None:
    """j and k, the arrows in the list, / and Esc, ? and g; none of them while something is typed."""
    await opened(tab, output)
    await tab.press("jjk")
    assert await tab.run(TITLE) == "1.png"
    assert await tab.run("document.querySelector('#detail .id').textContent") == "r1"
    await tab.press("/")
    await tab.send("Input.insertText", text="jaxu?")
    assert await tab.run("document.getElementById('search').value") == "jaxu?"
    await tab.press("<Escape>")
    assert await tab.run("document.getElementById('search').value") == ""
    await tab.press("<End>")
    assert await tab.run(TITLE) == "x.png"
    await tab.press("<Home><ArrowDown>")
    assert (
        await tab.run("document.querySelector('[aria-selected=true]').getAttribute('aria-posinset')") == "2"
    )
    assert await tab.run("document.getElementById('list').getAttribute('aria-activedescendant')") == "row-1"
    await tab.press("?")
    assert await tab.run("document.getElementById('help').open")
    await tab.press("j<Escape>")
    assert (
        await tab.run("document.querySelector('[aria-selected=true]').getAttribute('aria-posinset')") == "2"
    )
    await tab.press("g")
    assert await tab.run("document.querySelectorAll('.grid-view .row').length") > 8
    assert tab.complaints() == []


async def test_decisions_are_there_when_the_page_is_opened_again(tab: Tab, output: Path) -> None:
    """They are kept by the browser for this output, also when its report is written anew; for no other."""
    address = await opened(tab, output)
    await tab.press("a")
    await tab.go("about:blank", until="true")
    await asyncio.to_thread(write_report, output, output.with_name("report.html"))
    await tab.go(address)
    assert await tab.run("document.getElementById('tally').title") == "1 accepted, 0 rejected"
    other = keep(output.with_name("other.jsonl"), [answered(0, {"id": "r0"}, [("q", "a")])])
    await opened(tab, other)
    assert await tab.run("document.getElementById('tally').title") == ""


HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 2'>",
    "<svg onload=window.hacked=3><a href='javascript:window.hacked=4'>x</a>",
    "line\u2028break\u2029 and \u202egnirts\u202c and nul \0 and \x1b[31m",
    "half \ud83d of a pair",
    "{{ 7 * 7 }} {% for x in y %}",
    "L" + "o" * 4000 + "ng",
]
SHOWN_AS = {
    3: "line\u2028break\u2029 and \\u202egnirts\\u202c and nul \u2400 and \u241b[31m",
}
"""What has a sign of its own, because it would turn or break what stands around it."""


async def test_what_strangers_wrote_stays_text(tab: Tab, tmp_path: Path) -> None:
    """In questions, answers, ids, models, flags, names of images, fields and errors; nothing runs."""
    results: list[Any] = [
        answered(
            n,
            {"id": f"{n} {text}", "image": [text], "conversation": text, text: text},
            [(text, text, (text,))],
            model=text,
            style=text,
            endpoint=text,
        )
        for n, text in enumerate(HOSTILE)
    ]
    results.append(failed(9, {"id": HOSTILE[0], "image": [HOSTILE[1]], "conversation": HOSTILE[0]}))
    out = keep(tmp_path / "out.jsonl", results)
    address = await opened(tab, out, title=HOSTILE[0])
    for n, text in enumerate(HOSTILE):
        said = await tab.run("document.querySelector('.pair .answer').textContent")
        assert said == SHOWN_AS.get(n, text)
        assert await tab.run("document.documentElement.scrollWidth <= window.innerWidth")
        await tab.press("j")
    assert await tab.run("typeof window.hacked") == "undefined"
    assert (
        await tab.run("document.querySelectorAll('img[src=x], svg[onload], a[href^=javascript]').length") == 0
    )
    assert HOSTILE[0] in await tab.run("document.title")
    assert tab.requests() == [address]
    assert tab.complaints() == []


async def test_a_decision_names_its_record_whatever_it_is_called(tab: Tab, tmp_path: Path) -> None:
    """Halves of surrogate pairs, quotes and lines in an id come back from the file as they were."""
    rows = [{"id": text} for text in HOSTILE]
    results = [answered(n, row, [("q", "a")]) for n, row in enumerate(rows)]
    out = keep(tmp_path / "out.jsonl", results)
    await opened(tab, out)
    await tab.press("x" * len(HOSTILE))
    assert [one["id"] for one in await exported(tab)] == HOSTILE
    options = ExportOptions(decisions=str(tab.downloads / "decisions.jsonl"))
    assert (await asyncio.to_thread(export_dataset, out, tmp_path / "d.jsonl", options)).records == 0


async def test_a_pair_of_a_row_with_several_questions_is_found_again(tab: Tab, tmp_path: Path) -> None:
    """The decision bears the record whose answer the pair is from."""
    results = [
        answered(0, {"n": 1}, [("One?", "1"), ("More?", "2")], id="r#1", group=group("r", 1, 2)),
        answered(0, {"n": 1}, [("Two?", "3")], id="r#2", group=group("r", 2, 2)),
    ]
    out = keep(tmp_path / "out.jsonl", results)
    await opened(tab, out)
    await tab.press("nnnx")
    assert await exported(tab) == [{"id": "r#2", "pair": 0, "decision": "reject"}]
    options = ExportOptions(decisions=str(tab.downloads / "decisions.jsonl"))
    done = await asyncio.to_thread(export_dataset, out, tmp_path / "d.jsonl", options)
    assert (done.pairs, dict(done.dropped)) == (2, {"rejected": 1})


async def test_light_and_dark_can_both_be_read(tab: Tab, output: Path) -> None:
    """By the system and by the button; texts stand out as WCAG AA asks (4.5 : 1)."""
    await opened(tab, output)
    await choose(tab, "state", "flagged")
    seen = []
    for dark in (False, True):
        await tab.size(1400, 900, dark=dark)
        seen.append(await tab.run("getComputedStyle(document.body).backgroundColor"))
        assert await tab.run(_CONTRAST) == []
    assert seen[0] != seen[1]
    await tab.run("document.getElementById('theme').click()")
    assert await tab.run("getComputedStyle(document.body).backgroundColor") == seen[0]
    await tab.run("document.getElementById('theme').click()")
    await tab.size(1400, 900, dark=False)
    assert await tab.run("getComputedStyle(document.body).backgroundColor") == seen[1]
    await tab.run("document.getElementById('theme').click()")


_CONTRAST = """(() => {
  const read = (colour) => (colour.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const linear = (c) => c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = read(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *:not(script):not(dialog *)")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.getClientRects().length || element.closest("button:disabled")) continue;
    const style = getComputedStyle(element), isDrawn = element.closest("svg");
    const a = light(read(isDrawn ? style.fill : style.color)), b = light(behind(element));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
  }
  return [...new Set(poor)];
})()"""


async def test_everything_has_a_name_and_can_be_reached(tab: Tab, output: Path) -> None:
    """Controls and drawings have names for who does not see them; each control takes the focus by Tab."""
    await opened(tab, output)
    unnamed = await tab.run(
        "[...document.querySelectorAll('button, input, select, svg[role=img], [role=option], #detail img')]"
        ".filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.alt || e.title)).length"
    )
    assert unnamed == 0
    reached = set()
    for _ in range(12):
        await tab.press("<Tab>")
        reached.add(
            await tab.run("(({ id, name, className }) => id || name || className)(document.activeElement)")
        )
    await tab.run("document.querySelectorAll('.pair')[1].querySelector('button.reject').focus()")
    await tab.press("<Enter>")
    pressed = "[document.activeElement.getAttribute('aria-label'), document.activeElement.ariaPressed]"
    assert await tab.run(pressed) == ["Reject pair 2", "true"]
    assert {"skip", "theme", "keys", "search", "state", "decided", "list", "detail"} <= reached
    assert await tab.run("document.getElementById('count').getAttribute('aria-live')") == "polite"


async def test_a_long_list_is_no_more_elements_than_a_short_one(tab: Tab, tmp_path: Path) -> None:
    """Only what is in sight is drawn; the end is one key away, search stays quick."""
    results = [answered(n, {"id": f"r{n}"}, [("What?", f"number {n} {'lorem ' * 20}")]) for n in range(3000)]
    out = keep(tmp_path / "out.jsonl", results)
    await opened(tab, out)
    await tab.run("document.getElementById('list').focus()")
    await tab.press("<End>")
    assert await tab.run(TITLE) == "r2999"
    assert await tab.run("document.querySelectorAll('.row').length") < 60
    assert (
        await tab.run("document.querySelector('[aria-selected=true]').getAttribute('aria-setsize')") == "3000"
    )
    assert await search(tab, "number 2999") == "1 of 3,000 records"
    await tab.run("document.getElementById('clear').click()")
    assert await tab.run("document.getElementById('list').scrollTop < 1") is False
    assert tab.complaints() == []


async def test_images_beside_the_page_are_shown(tab: Tab, output: Path) -> None:
    """The policy lets in the files of the folder, and nothing else is asked for."""
    address = await opened(tab, output, thumbnails="beside")
    await tab.wait("document.querySelector('#detail img').naturalWidth === 160")
    folder = address.replace("report.html", "report.files/")
    assert {url.startswith(folder) for url in tab.requests()[1:]} == {True}
    assert tab.complaints() == []


async def test_a_narrow_window_shows_the_same(tab: Tab, output: Path) -> None:
    """One column, and nothing wider than the window."""
    await opened(tab, output)
    await tab.size(390, 800)
    assert await tab.run("document.documentElement.scrollWidth") <= 390
    await tab.press("j")
    assert await tab.run("document.querySelector('#detail .id').textContent") == "r1"


async def test_an_output_without_a_record_says_so(tab: Tab, tmp_path: Path) -> None:
    """An empty page is no broken page."""
    await opened(tab, keep(tmp_path / "out.jsonl", []))
    assert "no record in this output" in await tab.run("document.getElementById('detail').textContent")
    await tab.press("jkaxnpug")
    assert tab.complaints() == []
