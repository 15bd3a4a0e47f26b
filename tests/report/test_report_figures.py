"""What is counted, drawn and said: decisions without a file."""

from __future__ import annotations

import random
import re
import statistics

import pytest

from vqa_async.report import safe, wording
from vqa_async.report.figures import OTHERS, Answered, Figures
from vqa_async.report.plots import plots
from vqa_async.report.spread import Spread, Timeline
from vqa_async.report.thumbnails import Size


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("</script><script>", "\\u003c/script\\u003e\\u003cscript\\u003e"),
        ("a & b", "a \\u0026 b"),
        ("line\u2028and\u2029", "line\\u2028and\\u2029"),
        ("nul\0", "nul\\u0000"),
        ("half \ud83d", "half \\ud83d"),
        ("<!-- <script>", "\\u003c!-- \\u003cscript\\u003e"),
    ],
)  # fmt: skip
def test_any_text_can_stand_in_a_script_element(text: str, shown: str) -> None:
    """It cannot end the element, and comes out of JSON as it was."""
    import json

    made = safe.script_json([text])
    assert made == f'["{shown}"]'
    assert json.loads(made) == [text]


def test_what_turns_text_around_is_shown_as_its_number() -> None:
    """Controls, overrides and halves of characters have no effect between tags."""
    assert safe.visible("a\u202eb\0c\ud800\x9b") == "a\\u202eb\\u0000c\\ud800\\u009b"
    assert safe.visible("grün\t猫\n") == "grün\t猫\n"


def test_percentiles_are_right_to_three_digits() -> None:
    """However many values there are, and with few counters."""
    draws = random.Random(3)
    values = [draws.lognormvariate(0, 1) for _ in range(5000)]
    spread = Spread()
    for value in values:
        spread.add(value)
    cuts = statistics.quantiles(values, n=100)
    for share in (50, 90, 99):
        assert spread.percentile(share / 100) == pytest.approx(cuts[share - 1], rel=0.01)
    assert len(spread.counts) < 3000
    assert spread.mean == pytest.approx(statistics.mean(values), rel=0.01)
    assert spread.largest == pytest.approx(max(values), rel=0.005)


def test_nothing_has_no_percentiles() -> None:
    """Empty is a number too."""
    assert (Spread().percentile(0.5), Spread().mean, Spread().largest) == (0, 0, 0)
    assert Timeline().stretches(10) == []


def test_a_timeline_needs_the_same_memory_for_a_second_and_a_month() -> None:
    """Bins get wider; nothing is lost, and the order does not matter."""
    line, moments = Timeline(), [1e9 + n * 40.0 for n in range(60_000)]
    random.Random(1).shuffle(moments)
    for moment in moments:
        line.add(moment)
    (stretch,) = line.stretches(72)
    assert sum(stretch.counts) == 60_000
    assert 36 <= len(stretch.counts) <= 73
    assert len(line._bins) <= 4096
    assert stretch.seconds == pytest.approx(60_000 * 40, rel=0.05)


def test_a_pause_parts_a_timeline() -> None:
    """A run that was taken up a day later is two stretches, each as long as it was."""
    line = Timeline()
    for start in (0.0, 86_400.0):
        for n in range(100):
            line.add(start + n / 10)
    first, second = line.stretches(50)
    assert sum(first.counts) == sum(second.counts) == 100
    assert first.seconds + second.seconds == pytest.approx(20, abs=1)
    (plot, *_) = plots(Figures(answered=200, times=line))
    assert "in 2 parts" in plot.said
    assert len(plot.pauses) == 1


def test_a_run_in_many_parts_still_fits() -> None:
    """However often it was taken up again, the curve ends where the drawing does."""
    line = Timeline()
    for part in range(60):
        line.add(1e9 + part * 10_000.0)
        line.add(1e9 + part * 10_000.0 + 3)
    (plot, *_) = plots(Figures(answered=120, times=line))
    assert len(plot.pauses) == 59
    assert max(plot.pauses) < 394
    assert all(float(x) <= 394.1 for x in re.findall(r"H([\d.]+)", plot.line))


def test_names_without_end_are_counted_together() -> None:
    """A model that is called otherwise in each reply does not fill the memory."""
    figures = Figures()
    for n in range(500):
        figures.count_answer(Answered(model=f"m{n}"))
    assert len(figures.models) == 201
    assert figures.models[OTHERS] == 300


def test_each_plot_says_what_it_shows() -> None:
    """As a sentence, for who does not see it; and something else where there is nothing to draw."""
    figures = Figures()
    assert all(plot.empty for plot in plots(figures))
    for n in range(400):
        figures.count_answer(Answered(latency_s=0.1 + n / 1000, finished_at=1e9 + n / 4))
        figures.count_row([("x" * n, ("length",) if n % 4 == 0 else ())] * (1 + n % 3), "", 1)
    for code, times in (("timeout", 5), ("<b>", 2), *((f"e{n}", 1) for n in range(8))):
        for _ in range(times):
            figures.count_failure(code, 2, retryable=True)
    found = {plot.name: plot for plot in plots(figures)}
    assert not any(plot.empty for plot in found.values())
    assert found["latency"].note == "p50 299 ms · p90 459 ms · p99 495 ms"
    assert found["pairs"].title == "Pairs per image"
    assert found["failures"].rows[0].count == "5"
    assert [row.name for row in found["failures"].rows][-1] == "5 others"
    assert "timeout 5" in found["failures"].said
    assert found["throughput"].said.startswith("400 answers in 1 min 40 s")
    assert sum(int(bar.said.split(": ")[1].split()[0]) for bar in found["latency"].bars) == 400
    for plot in found.values():
        for bar in plot.bars:
            assert 0 <= bar.x <= 400
            assert 0 <= bar.y <= 140


def test_one_value_is_a_plot_too() -> None:
    """The smallest output is drawn."""
    figures = Figures()
    figures.count_answer(Answered(latency_s=1.0, finished_at=1e9))
    figures.count_row([], "", 0)
    assert [plot.name for plot in plots(figures) if plot.empty] == ["failures", "flags"]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (wording.seconds(0), "0 s"),
        (wording.seconds(0.0123), "12.3 ms"),
        (wording.seconds(4.2), "4.2 s"),
        (wording.seconds(200), "3 min 20 s"),
        (wording.seconds(7500), "2 h 5 min"),
        (wording.seconds(3 * 86400 + 4 * 3600), "3 d 4 h"),
        (wording.short(950), "950"),
        (wording.short(12_345), "12.3k"),
        (wording.short(4_500_000), "4.5M"),
        (wording.number(0.4567), "0.457"),
        (wording.number(12345.6), "12,346"),
        (wording.percent(1, 3), "33 %"),
        (wording.percent(1, 300), "0.3 %"),
        (wording.percent(1, 3000), "<0.1 %"),
        (wording.percent(1, 100), "1 %"),
        (wording.percent(1, 0), ""),
        (wording.moment(0), ""),
        (wording.moment(1e300), ""),
        (wording.money(12.3), "$12.30"),
        (wording.many(1, "record"), "1 record"),
    ],
)
def test_numbers_are_said_as_people_say_them(said: str, wanted: str) -> None:
    """Short, and never with more digits than they are worth."""
    assert said == wanted


def test_the_more_images_and_text_the_smaller() -> None:
    """So that the page stays below 60 MB."""
    sizes = [Size.fitting(n, 1500 * n) for n in (10, 500, 3000, 6000, 10_000, 1_000_000)]
    assert [size.side for size in sizes] == [640, 384, 256, 192, 160, 160]
    assert 10_000 * (sizes[4].max_bytes * 4 / 3 + 1500) < 58e6
    assert sizes[5].max_bytes == 1800
    wordy = Size.fitting(10_000, 28_000_000)
    assert 1800 < wordy.max_bytes < sizes[4].max_bytes
