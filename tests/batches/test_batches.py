"""Records through a batch API: the same journal as a live run, nothing lost, nothing handed in twice."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from handing_in import lines, opened, options, question, write_rows
from PIL import Image

from vqa_async.api import arun, open_batches
from vqa_async.batches import stored_config
from vqa_async.config import Config
from vqa_async.errors import (
    AuthError,
    BatchesPending,
    ConfigError,
    DiskError,
    EndpointNotFound,
    InputError,
    JournalDamaged,
    ServerError,
    TransportError,
)
from vqa_async.journal import BatchLog
from vqa_async.server import RunningServer, running_server
from vqa_async.testing import FakeTransport
from vqa_async.transport import AiohttpTransport, Request, Response

ALL = [f"r{n}" for n in range(30)]


def by_number(results: list[dict[str, Any]]) -> list[str]:
    return sorted((line["id"] for line in results), key=lambda id: int(id[1:]))


async def test_the_answers_are_those_of_a_live_run(server: RunningServer, tmp_path: Path) -> None:
    """Field by field, the digest of the request too; the batch's id and the times are what differs."""
    Image.new("RGB", (64, 48), (255, 0, 0)).save(tmp_path / "red.png")
    rows = [question(n) | ({"image": "red.png"} if n % 2 else {}) for n in range(6)]
    rows.append({"id": "list", "image": "red.png", "questions": ["How large?", "Which colour?"]})
    rows.append({**question(7), "_params": {"max_tokens": 5, "temperature": 0.5}})
    source = write_rows(tmp_path, rows)
    await arun(source, str(tmp_path / "live.jsonl"), config=options(server, max_workers=1))
    async with opened(server) as batches:
        await batches.submit(source, tmp_path / "out.jsonl")
        fetched = await batches.fetch(tmp_path / "out.jsonl", wait=True)
    assert (fetched.succeeded, fetched.failed) == (9, 0)

    def comparable(path: Path) -> list[dict[str, Any]]:
        found = lines(path)
        for line in found:
            for name in ("latency_s", "finished_at", "crc", "batch"):
                line["_meta"].pop(name, None)
        return sorted(found, key=lambda line: str(line["_meta"]["id"]))

    assert comparable(tmp_path / "out.jsonl") == comparable(tmp_path / "live.jsonl")
    assert {line["_meta"]["batch"][:6] for line in lines(tmp_path / "out.jsonl")} == {"batch_"}


async def test_an_input_is_split_and_everything_comes_back_once(
    server: RunningServer, source: str, tmp_path: Path
) -> None:
    """Thirty records in batches of twelve; then nothing is left to do, and no file is left over."""
    said: list[str] = []
    async with opened(server, said) as batches:
        submitted = await batches.submit(source, tmp_path / "out.jsonl")
        assert [part.requests for part in submitted.parts] == [12, 12, 6]
        assert len(said) == 3
        again = await batches.submit(source, tmp_path / "out.jsonl")
        assert (again.parts, again.skipped) == ((), 30)
        fetched = await batches.fetch(tmp_path / "out.jsonl", wait=True)
        assert (fetched.parts, fetched.succeeded, fetched.waiting) == (3, 30, 0)
        assert [one.part.step for one in await batches.states(tmp_path / "out.jsonl")] == ["fetched"] * 3
        assert (await batches.fetch(tmp_path / "out.jsonl")).parts == 0
        assert (await batches.submit(source, tmp_path / "out.jsonl")).parts == ()
    assert by_number(lines(tmp_path / "out.jsonl")) == ALL
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"in.jsonl", "out.jsonl", "out.run.json", "out.batches.jsonl", "out.jsonl.lock"}


async def test_files_are_split_by_their_bytes(server: RunningServer, source: str, tmp_path: Path) -> None:
    """No file exceeds the limit, and what exceeds it alone is a Failure."""
    rows = [*lines(source), {"id": "r30", "conversation": "x" * 2000}]
    source = write_rows(tmp_path, rows)
    async with opened(server, batch_bytes=2000, batch_requests=100) as batches:
        submitted = await batches.submit(source, tmp_path / "out.jsonl")
        assert submitted.failed == {"request_too_large": 1}
        assert max(part.bytes for part in submitted.parts) <= 2000
        assert min(part.bytes for part in submitted.parts[:-1]) > 1600
        assert (await batches.fetch(tmp_path / "out.jsonl", wait=True)).succeeded == 30


async def test_an_output_with_batches_under_way_is_not_run_live(
    server: RunningServer, source: str, tmp_path: Path
) -> None:
    """Unless it is told to; then the first answer counts, and there is still one for each record."""
    output = tmp_path / "out.jsonl"
    async with opened(server) as batches:
        await batches.submit(source, output)
        with pytest.raises(BatchesPending, match="wait in 3 batches"):
            await arun(source, str(output), config=options(server))
        summary = await arun(source, str(output), config=options(server, despite_batches=True))
        assert summary.statistics.succeeded == 30
        assert (await batches.fetch(output, wait=True)).succeeded == 0
    assert by_number(lines(output)) == ALL


async def test_what_failed_in_a_batch_is_asked_live_by_the_next_run(source: str, tmp_path: Path) -> None:
    """Those and no others."""
    output = tmp_path / "out.jsonl"
    async with running_server(error_rate="500=0.2", seed=3) as server:
        async with opened(server) as batches:
            await batches.submit(source, output)
            fetched = await batches.fetch(output, wait=True)
        assert fetched.failed == fetched.retryable == len(lines(tmp_path / "out.failures.jsonl")) > 0
        before = server.stats()
        assert before.received == 0
        summary = await arun(source, str(output), config=options(server))
        assert summary.statistics.succeeded == fetched.failed
        assert server.stats().answered == fetched.failed
    assert by_number(lines(output)) == ALL
    assert not (tmp_path / "out.failures.jsonl").exists()


async def test_what_failed_in_a_batch_can_be_handed_in_again(source: str, tmp_path: Path) -> None:
    """In the next batch."""
    output = tmp_path / "out.jsonl"
    async with running_server(error_rate="500=0.5") as server, opened(server) as batches:
        for _ in range(20):
            if not (await batches.submit(source, output)).records:
                break
            await batches.fetch(output, wait=True)
    assert by_number(lines(output)) == ALL


@pytest.mark.parametrize(
    ("server_options", "code"),
    [
        ({"batch_expiry": 0.5}, "batch_expired"),
        ({"batch_missing_rate": 0.5}, "batch_missing"),
        ({"batch_max_requests": 11}, "batch_failed"),
    ],
)
async def test_a_batch_that_gives_no_answer_frees_its_records(
    server_options: dict[str, Any], code: str, source: str, tmp_path: Path
) -> None:
    """What was answered is kept; all else may be asked again, and says why."""
    output = tmp_path / "out.jsonl"
    said: list[str] = []
    async with running_server(**server_options) as server, opened(server, said) as batches:
        await batches.submit(source, output)
        fetched = await batches.fetch(output, wait=True)
        assert fetched.succeeded + fetched.failed == 30
        assert set(fetched.failures_by_type) == {code}
        assert fetched.retryable == fetched.failed > 0
        assert (await arun(source, str(output), config=options(server))).ok
    assert by_number(lines(output)) == ALL


async def test_a_cancelled_batch_frees_its_records(source: str, tmp_path: Path) -> None:
    """After they were fetched."""
    output = tmp_path / "out.jsonl"
    async with running_server(batch_delay=60) as server, opened(server) as batches:
        await batches.submit(source, output)
        assert (await batches.fetch(output)).records_waiting == 30
        assert await batches.cancel(output) == 3
        fetched = await batches.fetch(output, wait=True)
        assert fetched.failures_by_type == {"batch_cancelled": 30}
        assert await batches.cancel(output) == 0


async def test_images_that_cannot_be_sent_are_failures_of_their_own(
    server: RunningServer, tmp_path: Path
) -> None:
    """As in a live run, and so are rows that are no records."""
    source = write_rows(tmp_path, [question(0), question(1) | {"image": "no.png"}, {"id": "r2"}])
    async with opened(server) as batches:
        submitted = await batches.submit(source, tmp_path / "out.jsonl")
        assert (submitted.records, submitted.failed) == (1, {"file_not_found": 1, "no_conversation": 1})
        assert (await batches.fetch(tmp_path / "out.jsonl", wait=True)).succeeded == 1
    assert len(lines(tmp_path / "out.failures.jsonl")) == 2


async def test_odd_ids_come_back_as_they_were(server: RunningServer, tmp_path: Path) -> None:
    """Long, empty of letters, not ASCII, or like one of ours: the provider never sees them."""
    ids = ["x" * 500, "ä/ö ü", "vqa-0123", "a\nb", "plain-1.2:3"]
    source = write_rows(tmp_path, [{"id": id, "conversation": "What?"} for id in ids])
    async with opened(server) as batches:
        await batches.submit(source, tmp_path / "out.jsonl")
        assert (await batches.fetch(tmp_path / "out.jsonl", wait=True)).succeeded == len(ids)
    assert sorted(line["id"] for line in lines(tmp_path / "out.jsonl")) == sorted(ids)


async def test_structured_answers_are_read_as_live_ones(tmp_path: Path, source: str) -> None:
    """An answer in another form is a failure that may be asked again; one cut off below the ceiling too."""
    async with running_server(wrong_json_rate=0.5) as server, opened(server, structured=True) as batches:
        await batches.submit(source, tmp_path / "out.jsonl")
        fetched = await batches.fetch(tmp_path / "out.jsonl", wait=True)
        assert set(fetched.failures_by_type) == {"invalid_structure"}
        assert fetched.retryable == fetched.failed
        assert all(line["qa_pairs"] for line in lines(tmp_path / "out.jsonl"))
        async with opened(server, max_tokens=3, max_tokens_ceiling=100) as short:
            await short.submit(source, tmp_path / "short.jsonl")
            fetched = await short.fetch(tmp_path / "short.jsonl", wait=True)
            assert fetched.failures_by_type == {"cut_off": 30}
            assert fetched.retryable == 30


# --- interrupted -------------------------------------------------------------------------------------------


def test_killed_at_any_moment_nothing_is_handed_in_twice_and_nothing_is_lost(tmp_path: Path) -> None:
    """SIGKILL before and after each note and each call: as many batches as parts, one answer a record."""
    serve = [sys.executable, "-m", "vqa_async", "serve", "--port", "0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            script = Path(__file__).with_name("kill_points.py")
            command = [sys.executable, str(script), url, str(tmp_path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=90)
        finally:
            server.kill()
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 25


class Breaking(AiohttpTransport):
    """Loses one reply on its way: what was asked for is done, and nobody hears of it."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = f"POST {what}"
        self.sent: list[str] = []

    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        self.sent.append(f"{request.method} {request.url.rpartition('/')[2]}")
        if self.sent[-1] == self._what and self.sent.count(self._what) == 1:
            raise TransportError("The reply was lost.", code="reset")
        return response


@pytest.mark.parametrize("what", ["files", "batches"])
async def test_a_lost_reply_is_not_answered_by_asking_again(
    what: str, server: RunningServer, source: str, tmp_path: Path
) -> None:
    """What was made is looked for first, and found."""
    async with Breaking(what) as transport, open_batches(options(server), transport=transport) as batches:
        await batches.submit(source, tmp_path / "out.jsonl")
        assert transport.sent.count(f"POST {what}") == 3
        assert (await batches.fetch(tmp_path / "out.jsonl", wait=True)).succeeded == 30


async def test_a_provider_that_refuses_stops_the_submission_and_it_goes_on_later(
    server: RunningServer, source: str, tmp_path: Path
) -> None:
    """A wrong key: one sentence that names where it was looked for."""
    async with running_server(api_key="right") as guarded:
        with pytest.raises(AuthError, match="--api-key-env"):
            async with opened(guarded) as batches:
                await batches.submit(source, tmp_path / "out.jsonl")
        assert json.loads((tmp_path / "out.run.json").read_text())["state"] == "stopped"
        async with open_batches(options(guarded), api_key="right") as batches:
            submitted = await batches.submit(source, tmp_path / "out.jsonl")
            assert [part.requests for part in submitted.parts] == [12, 12, 6]
            assert (await batches.fetch(tmp_path / "out.jsonl", wait=True)).succeeded == 30


async def test_what_a_submission_that_was_cut_short_has_left_is_not_taken_for_failed(
    server: RunningServer, source: str, tmp_path: Path
) -> None:
    """So nothing of it is asked live, at another price, until it is handed in."""
    output = tmp_path / "out.jsonl"

    class OnlyOne(AiohttpTransport):
        async def send(self, request: Request) -> Response:
            self.uploads += request.file is not None
            if self.uploads > 1:
                return Response(403, {}, b"")
            return await super().send(request)

        uploads = 0

    async with OnlyOne() as transport, open_batches(options(server), transport=transport) as batches:
        with pytest.raises(AuthError):
            await batches.submit(source, output)
    async with opened(server) as batches:
        fetched = await batches.fetch(output, wait=True)
        assert (fetched.succeeded, fetched.waiting, fetched.unsent) == (12, 0, 1)
        log = BatchLog(tmp_path / "out.batches.jsonl")
        log.note(replace(log.parts[2], step="fetched"))  # as if the second had never been begun
        assert (await batches.fetch(output, wait=True)).unsent == 1
        assert len((await batches.submit(source, output)).parts) == 2
        fetched = await batches.fetch(output, wait=True)
        assert (fetched.succeeded, fetched.unsent) == (18, 0)


async def test_an_uploaded_file_that_has_gone_is_uploaded_again(
    server: RunningServer, source: str, tmp_path: Path
) -> None:
    """The batch is refused once, and made the next time."""
    output = tmp_path / "out.jsonl"

    class Forgetful(AiohttpTransport):
        async def send(self, request: Request) -> Response:
            if request.url.endswith("/batches") and request.method == "POST" and not self.has_refused:
                self.has_refused = True
                return Response(400, {}, b'{"error":{"message":"No such File object"}}')
            return await super().send(request)

        has_refused = False

    async with Forgetful() as transport, open_batches(options(server), transport=transport) as batches:
        with pytest.raises(Exception, match="No such File"):
            await batches.submit(source, output)
        await batches.submit(source, output)
        assert (await batches.fetch(output, wait=True)).succeeded == 30


async def test_batches_that_the_provider_has_lost_are_given_up_only_when_asked(
    server: RunningServer, source: str, tmp_path: Path
) -> None:
    """It may also be another account that was asked."""
    output = tmp_path / "out.jsonl"
    async with opened(server) as batches:
        await batches.submit(source, output)
    async with running_server() as other, opened(other) as batches:
        with pytest.raises(EndpointNotFound, match="--give-up"):
            await batches.fetch(output)
        fetched = await batches.fetch(output, give_up=True)
        assert fetched.failures_by_type == {"batch_missing": 30}
        assert (await arun(source, str(output), config=options(other))).ok


async def test_without_a_batch_api_the_sentence_says_so(source: str, tmp_path: Path) -> None:
    """And names what needs none."""

    transport = FakeTransport([Response(404, {}, b"not found")])
    async with open_batches(Config.of(model="m"), transport=transport) as batches:
        with pytest.raises(EndpointNotFound, match="has no batch API"):
            await batches.submit(source, tmp_path / "out.jsonl")


# --- results that are odd ----------------------------------------------------------------------------------


async def test_lines_that_nobody_waits_for_are_passed_over(
    server: RunningServer, source: str, tmp_path: Path
) -> None:
    """No JSON, no custom_id, an unknown one, a repeated one: said, and no answer is lost."""
    output = tmp_path / "out.jsonl"
    said: list[str] = []

    class Noisy(AiohttpTransport):
        async def send(self, request: Request) -> Response:
            if request.into is not None:
                request.into(b'no json\n[]\n{"custom_id": "unknown"}\n\n')
                request.into(b'{"custom_id": "r0", "response": null, "error": null}\n')
            return await super().send(request)

    async with (
        Noisy() as transport,
        open_batches(options(server), transport=transport, notify=said.append) as batches,
    ):
        await batches.submit(source, output)
        said.clear()
        fetched = await batches.fetch(output, wait=True)
    assert (fetched.succeeded, fetched.failures_by_type) == (29, {"batch_missing": 1})
    assert "were passed over" in said[0]


async def test_a_line_longer_than_a_reply_may_be_is_passed_over(source: str, tmp_path: Path) -> None:
    """Without reading it into memory; the lines around it count."""
    output = tmp_path / "out.jsonl"

    class Long(AiohttpTransport):
        async def send(self, request: Request) -> Response:
            if request.into is not None:
                line = b'{"custom_id": "r0", "response": "' + b"x" * 150_000 + b'"}'
                request.into(line + b"\n")
            return await super().send(request)

    async with running_server() as server, Long() as transport:
        config = options(server, max_response_bytes=65_536)
        async with open_batches(config, transport=transport) as batches:
            await batches.submit(source, output)
            assert (await batches.fetch(output, wait=True)).succeeded == 30


async def test_an_answer_without_room_for_a_word_may_be_asked_again(source: str, tmp_path: Path) -> None:
    """Below the ceiling, as in a live run; without one it failed for good."""

    class Empty(AiohttpTransport):
        async def send(self, request: Request) -> Response:
            if request.into is not None:
                choice = {"message": {"content": ""}, "finish_reason": "length"}
                for number in range(30):
                    response = {"status_code": 200, "body": {"choices": [choice]}}
                    line = {"custom_id": f"r{number}", "response": response}
                    request.into(json.dumps(line).encode() + b"\n")
                return Response(200, {}, b"")
            return await super().send(request)

    async with running_server() as server, Empty() as transport:
        for name, ceiling, retryable in (("a", None, 0), ("b", 50, 30)):
            config = options(server, max_tokens=5, max_tokens_ceiling=ceiling, batch_requests=30)
            async with open_batches(config, transport=transport) as batches:
                await batches.submit(source, tmp_path / f"{name}.jsonl")
                fetched = await batches.fetch(tmp_path / f"{name}.jsonl", wait=True)
                assert (fetched.failed, fetched.retryable) == (30, retryable)


async def test_a_key_that_a_result_repeats_is_in_no_file(source: str, tmp_path: Path) -> None:
    """Whatever the provider writes, and no header is in the log of batches."""
    key, header = "sk-canary-0123456789abcdef", "X-Gateway: token-canary-987654321"
    output = tmp_path / "out.jsonl"

    class Echoing(AiohttpTransport):
        async def send(self, request: Request) -> Response:
            response = await super().send(request)
            if request.into is not None:
                error = {"code": "odd", "message": f"key {key} is bad"}
                line = {"custom_id": "r0", "response": None, "error": error}
                request.into(json.dumps(line).encode() + b"\n")
            return response

    async with running_server(batch_missing_rate=1.0) as server, Echoing() as transport:
        config = options(server, header=header)
        async with open_batches(config, api_key=key, transport=transport) as batches:
            await batches.submit(source, output)
            await batches.fetch(output, wait=True)
    for path in tmp_path.iterdir():
        assert key not in path.read_text()
        assert "canary" not in path.read_text()


async def test_records_that_were_removed_are_missed(
    server: RunningServer, source: str, tmp_path: Path
) -> None:
    """Without them nobody knows whose the answers are."""
    output = tmp_path / "out.jsonl"
    async with opened(server) as batches:
        await batches.submit(source, output)
        (tmp_path / "out.batch-0002.records.jsonl").unlink()
        with pytest.raises(JournalDamaged, match="Put it back"):
            await batches.fetch(output, wait=True)


async def test_requests_that_were_removed_are_missed(
    server: RunningServer, source: str, tmp_path: Path
) -> None:
    """Where they were not uploaded yet."""
    output = tmp_path / "out.jsonl"
    async with running_server(api_key="right") as guarded, opened(guarded) as batches:
        with pytest.raises(AuthError):
            await batches.submit(source, output)
        (tmp_path / "out.batch-0001.requests.jsonl").unlink()
        with pytest.raises(JournalDamaged, match="still to be uploaded"):
            await batches.submit(source, output)


async def test_a_disk_that_fails_ends_a_fetch_in_a_sentence(
    server: RunningServer, source: str, tmp_path: Path
) -> None:
    """Nothing is lost by it."""
    output = tmp_path / "out.jsonl"
    async with opened(server) as batches:
        await batches.submit(source, output)
        in_the_way = tmp_path / "out.batch-0002.results-1.jsonl"
        in_the_way.mkdir()
        with pytest.raises(DiskError):
            await batches.fetch(output, wait=True)
        in_the_way.rmdir()
        assert len(lines(output)) == 12
        assert (await batches.fetch(output, wait=True)).succeeded == 18
    assert by_number(lines(output)) == ALL


async def test_a_disk_that_fails_ends_a_submission_in_a_sentence(
    server: RunningServer, source: str, tmp_path: Path
) -> None:
    """And the next one goes on."""
    output = tmp_path / "out.jsonl"
    async with opened(server) as batches:
        in_the_way = tmp_path / "out.batch-0002.requests.jsonl"
        in_the_way.mkdir()
        with pytest.raises(DiskError):
            await batches.submit(source, output)
        in_the_way.rmdir()
        assert [part.number for part in (await batches.submit(source, output)).parts] == [2, 3]
        assert (await batches.fetch(output, wait=True)).succeeded == 30


async def test_links_planted_in_the_way_are_not_followed(
    server: RunningServer, source: str, tmp_path: Path
) -> None:
    """Requests, records and results are new files."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for what in ("requests", "records", "results-1"):
        (tmp_path / f"out.batch-0001.{what}.jsonl").symlink_to(victim)
    async with opened(server) as batches:
        await batches.submit(source, tmp_path / "out.jsonl")
        assert (await batches.fetch(tmp_path / "out.jsonl", wait=True)).succeeded == 30
    assert victim.read_text() == "mine"


async def test_what_came_before_a_download_that_fails_is_kept(source: str, tmp_path: Path) -> None:
    """The rest is fetched the next time; torn ends of the output are said."""
    output = tmp_path / "out.jsonl"
    said: list[str] = []

    class NoErrors(AiohttpTransport):
        async def send(self, request: Request) -> Response:
            self.downloads += request.into is not None
            if request.into is not None and self.downloads > 1:
                return Response(503, {}, b"")
            return await super().send(request)

        downloads = 0

    async with running_server(error_rate="500=0.3") as server:
        config = options(server, batch_requests=30, max_attempts=2)
        async with NoErrors() as transport, open_batches(config, transport=transport) as batches:
            await batches.submit(source, output)
            with pytest.raises(ServerError):
                await batches.fetch(output, wait=True)
        answered = len(lines(output))
        assert 0 < answered < 30
        with output.open("a") as file:
            file.write('{"torn')
        async with open_batches(config, notify=said.append) as batches:
            fetched = await batches.fetch(output, wait=True)
            assert (fetched.succeeded, fetched.failed) == (0, 30 - answered)
            assert "torn" in said[0] or "unfinished" in said[0]
            with output.open("a") as file:
                file.write('{"torn')
            await batches.submit(source, output)
            assert len(said) > 1


# --- what cannot be ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base_url": ("http://a/v1", "http://b/v1")}, "one endpoint"),
        ({"verify": True}, "verify"),
        ({"accept": 3}, "--accept"),
        ({"max_requests": 3}, "--limit"),
        ({"model": ""}, "No model"),
    ],
)
async def test_what_a_batch_cannot_do_is_refused(
    changes: dict[str, Any], said: str, server: RunningServer, source: str, tmp_path: Path
) -> None:
    """Before anything is sent or written."""
    with pytest.raises(ConfigError, match=said):
        async with opened(server, **changes) as batches:
            await batches.submit(source, tmp_path / "out.jsonl")
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl"}


async def test_other_mistakes_are_named(server: RunningServer, source: str, tmp_path: Path) -> None:
    """No output, no such limit, input and output the same, another endpoint."""
    output = tmp_path / "out.jsonl"
    async with opened(server) as batches:
        with pytest.raises(InputError, match="batch submit"):
            await batches.fetch(output)
        with pytest.raises(ConfigError, match="limit"):
            await batches.submit(source, output, limit=0)
        with pytest.raises(ConfigError, match="same file"):
            await batches.submit(source, source)
        await batches.submit(source, output)
    with pytest.raises(ConfigError, match="leave --base-url out"):
        stored_config(output, Config.of(model="m", base_url="http://elsewhere/v1"))
    async with running_server() as other, opened(other) as batches:
        with pytest.raises(ConfigError, match="fetch those before"):
            await batches.submit(source, output)


async def test_what_is_fetched_is_read_with_the_options_of_its_submission(
    server: RunningServer, source: str, tmp_path: Path
) -> None:
    """They are written down, but for headers; pace and patience may be others."""
    output = tmp_path / "out.jsonl"
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "properties": {"answer": {"type": "string"}}}')
    async with opened(
        server, schema=str(schema), where="id!=r1", header="X-Team: blue", output_key="said"
    ) as batches:
        await batches.submit(source, output)
    schema.unlink()
    config, origin = stored_config(output, Config.of(model="m", timeout=7.0, header="X-Team: red"))
    assert origin == {"input": source, "limit": None, "format": "auto"}
    assert config.endpoint.header == ("X-Team: red",)
    assert (config.timeouts.timeout, config.columns.output_key) == (7.0, "said")
    assert config.batches.batch_requests == 12
    async with open_batches(config) as batches:
        assert (await batches.fetch(output, wait=True)).succeeded == 29
    assert {"said", "structured"} <= set(lines(output)[0])
