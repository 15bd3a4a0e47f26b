"""What the live page shows: the figures of a run as parts of a page, made anew once a second at most."""

from __future__ import annotations

from collections import deque
from typing import Any

from vqa_async.dashboard.images import LatestImages
from vqa_async.dashboard.watcher import Numbered, Watcher
from vqa_async.events import RunStatistics
from vqa_async.models import Failure
from vqa_async.report.entries import clipped
from vqa_async.report.facts import State, Tile, named
from vqa_async.report.page import render
from vqa_async.report.plots import plots
from vqa_async.report.safe import visible
from vqa_async.report.thumbnails import image_name
from vqa_async.report.wording import many, money, number, seconds, short

_RATE_OVER_S = 10.0
_MOST_PAIRS = 3
_MOST_CHARS = 300
_REFRESH_S = 0.9


class View:
    """The parts of the page.

    Args:
        watcher: what was heard.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._images = LatestImages()
        self._looks: deque[tuple[float, int]] = deque()
        self._made: dict[str, Any] = {}
        self._made_at = -1e9

    async def parts(self, s: RunStatistics, now: float, *, is_over: bool) -> dict[str, Any]:
        """The state of the run, and its parts as markup, every text in it escaped.

        Args:
            s: of the engine.
            now: loop time.
            is_over: whether the run has ended.
        """
        if now - self._made_at >= _REFRESH_S or is_over != self._made.get("over"):
            self._made_at = now
            answers = list(self._watcher.answers)
            images = await self._images.of(answers)
            shown = [_answer(one, images.get(one.number, "")) for one in answers]
            self._made = self._parts(s, shown, now, is_over=is_over)
        return self._made

    def _parts(
        self, s: RunStatistics, answers: list[dict[str, Any]], now: float, *, is_over: bool
    ) -> dict[str, Any]:
        watcher = self._watcher
        state = self._state(is_over=is_over)
        return {
            "over": is_over,
            "output": visible(watcher.output),
            "state": state.word,
            "tone": state.tone,
            "said": state.said,
            "figures": render(
                "live_figures.html",
                tiles=self._tiles(s, self._rate(s, now)),
                facts=self._facts(s, now),
                plots=plots(watcher.figures),
            ),
            "latest": render(
                "live_latest.html",
                answers=answers,
                failures=[_failure(one) for one in watcher.failures],
                notices=list(watcher.notices),
            ),
        }

    def _state(self, *, is_over: bool) -> State:
        if is_over:
            return State("over", "The run is over. The terminal says how it ended.", "good")
        if self._watcher.stopping:
            return State(
                "stopping", f"{visible(self._watcher.stopping)} – waiting for what is in flight.", "warn"
            )
        return State("running" if self._watcher.output else "starting", "", "busy")

    def _rate(self, s: RunStatistics, now: float) -> float:
        """Records a second over the last looks."""
        done = s.succeeded + s.failed
        if self._looks and self._looks[-1][1] > done:
            self._looks.clear()  # another engine
        self._looks.append((now, done))
        while len(self._looks) > 2 and now - self._looks[0][0] > _RATE_OVER_S:
            self._looks.popleft()
        then, before = self._looks[0] if len(self._looks) > 1 else (now - max(s.elapsed_s, 1e-9), 0)
        return (done - before) / max(now - then, 1e-9)

    def _tiles(self, s: RunStatistics, rate: float) -> list[Tile]:
        done = s.succeeded + s.failed
        before = s.skipped - s.skipped_failed
        f = self._watcher.figures
        overall = f"{short(done / s.elapsed_s)}/s overall" if s.elapsed_s > 0 else ""
        return [
            Tile("Answered", number(s.succeeded), f"{number(before)} before" if before else "in this run"),
            Tile("Failed", number(s.failed), _kinds(s), "bad" if s.failed else ""),
            *_left(s, rate),
            Tile("Rate", f"{short(rate)}/s", overall),
            Tile("In flight", number(s.in_flight), f"of {number(s.width)}" if s.width else ""),
            Tile(
                "Pairs", number(f.pairs), f"{number(f.flagged_pairs) if f.flagged_pairs else 'none'} flagged"
            ),
            Tile(
                "Tokens",
                short(s.prompt_tokens + s.completion_tokens),
                f"{short(s.prompt_tokens)} in, {short(s.completion_tokens)} out",
            ),
            Tile("Time", seconds(s.elapsed_s), "" if s.cost is None else f"{money(s.cost)} so far"),
        ]

    def _facts(self, s: RunStatistics, now: float) -> list[tuple[str, str]]:
        found = [("Model", named(self._watcher.figures.models)), ("Output", visible(self._watcher.output))]
        found += [("Tried again", many(s.retries, "attempt"))] if s.retries else []
        for one in s.endpoints:
            waits = f", waits {seconds(one.waits_until - now)}" if one.waits_until > now else ""
            why = f" ({visible(one.reason)})" if one.reason else ""
            usual = f", {seconds(one.latency_s)} an answer" if one.latency_s else ""
            found.append(
                ("Endpoint", f"{visible(one.url)}: {one.in_flight} of {one.width}{usual}{waits}{why}")
            )
        return [(name, text) for name, text in found if text]


def _left(s: RunStatistics, rate: float) -> list[Tile]:
    if not s.expected:  # before the input is looked at, and when the run is over
        return []
    left = max(0, s.expected - s.seen)
    about = "" if s.expected_is_exact else "about "
    note = f"{about}{seconds(left / rate)} to go" if left and rate > 0 else "" if left else "all asked"
    return [Tile("Left", f"{'' if s.expected_is_exact else '~'}{number(left)}", note)]


def _kinds(s: RunStatistics) -> str:
    top = sorted(s.failures_by_type.items(), key=lambda one: -one[1])[:2]
    return ", ".join(f"{number(count)} {visible(kind)}" for kind, count in top) or "none"


def _answer(one: Numbered, image: str) -> dict[str, Any]:
    success = one.success
    images = success.record.images
    return {
        "id": _short(success.id),
        "image": image,
        "name": _short(image_name(images[0])) if images else "",
        "pairs": [(_short(p.question), _short(p.answer), p.flags) for p in success.pairs[:_MOST_PAIRS]],
        "more": max(0, len(success.pairs) - _MOST_PAIRS),
        "text": "" if success.pairs else _short(success.text),
        "latency": seconds(success.latency_s),
    }


def _failure(failure: Failure) -> dict[str, str]:
    return {
        "id": _short(failure.id),
        "code": _short(failure.error.code),
        "message": _short(failure.error.message),
    }


def _short(text: str) -> str:
    return visible(clipped(text, _MOST_CHARS))
