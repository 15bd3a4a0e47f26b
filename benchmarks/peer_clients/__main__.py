"""One peer's job in a process of its own; prints JSON.

    PYTHON -m benchmarks.peer_clients flexllm --url http://127.0.0.1:PORT/v1 --images DIR --records 500
    PYTHON -m benchmarks.peer_clients --versions                        what is installed there

PYTHON is that of the peers' environment. The process has a home folder of its own, so that no cache of an
earlier run answers, and reaches nothing but loopback: telemetry and price lists stay where they are.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import resource
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.peer_clients import PEERS, Job, stopped

LOOPBACK = {None, "", "127.0.0.1", "::1", "localhost", b"127.0.0.1", b"localhost"}
QUIET = {
    "CURATOR_DISABLE_CACHE": "true",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_TELEMETRY": "False",
    "TELEMETRY_ENABLED": "false",
}


def installed() -> dict[str, str]:
    """The versions of all that the peers are made of, as far as it is installed here."""
    versions = {}
    for name in sorted({package for peer in PEERS.values() for package in peer.packages}):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def seclude(home: Path) -> list[str]:
    """Give this process a new home and loopback only; the hosts that it asked for all the same are listed."""
    os.environ.update(QUIET, HOME=str(home), XDG_CACHE_HOME=str(home / "cache"))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    refused: list[str] = []

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo":
            host = arguments[0]
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            host = arguments[1][0]
        else:
            return
        if host not in LOOPBACK:
            refused.append(str(host))
            raise OSError(f"only loopback may be reached here, not {host}")

    sys.addaudithook(refuse)
    return refused


def main() -> None:
    """Run one peer, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS, nargs="?")
    parser.add_argument("--url", default="")
    parser.add_argument("--images", type=Path, default=Path())
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--versions", action="store_true")
    a = parser.parse_args()
    if a.versions:
        print(json.dumps(installed()))
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        refused = seclude(Path(folder) / "home")
        job = Job(a.url, sorted(a.images.resolve().iterdir()), a.records, a.workers, Path(folder))
        os.chdir(folder)
        module, _, function = PEERS[a.peer].runs.partition(":")
        getattr(importlib.import_module(f"benchmarks.peer_clients.{module}"), function)(job)
        measured = stopped(job)
    print(f"\n{json.dumps(measured | {'refused': sorted(set(refused))})}")


if __name__ == "__main__":
    main()
