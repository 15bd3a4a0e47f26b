"""Memory of reading does not depend on the length of the input. Measured in processes of their own."""

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, resource, sys
from vqa_async.sources import open_source
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
async def main():
    before, count = peak(), 0
    async with open_source(sys.argv[1]) as source:
        async for result in source:
            count += 1
    print(count, result.ok if hasattr(result, "ok") else True, peak() - before)
asyncio.run(main())
"""


def growth(path):
    """Number of results, and by how many MB the process grew over them."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], stdout=subprocess.PIPE, text=True, check=True
    )
    count, last_is_record, megabytes = done.stdout.split()
    return int(count), last_is_record == "True", float(megabytes)


@pytest.mark.slow
def test_a_long_array_is_streamed(tmp_path):
    """50 MB of items pass through a few MB."""
    path = tmp_path / "in.json"
    item = '{"image": "%d.png", "conversation": "' + "Why? " * 200 + '"}'
    with path.open("w") as file:
        file.write("[")
        file.writelines((item % n) + ("," if n < 49_999 else "]") for n in range(50_000))
    assert path.stat().st_size > 50_000_000
    count, _, megabytes = growth(path)
    assert count == 50_000
    assert megabytes < 15


@pytest.mark.slow
def test_a_line_of_half_a_gigabyte_is_passed_over(tmp_path):
    """It costs the limit and no more, and the line after it is read."""
    path = tmp_path / "in.jsonl"
    with path.open("wb") as file:
        file.write(b'{"image": "')
        file.truncate(500 << 20)  # a hole: zero bytes without the disk space
        file.seek(500 << 20)
        file.write(b'"}\n{"image": "a.png", "conversation": "Why?"}\n')
    count, last_is_record, megabytes = growth(path)
    assert (count, last_is_record) == (2, True)
    assert megabytes < 164
