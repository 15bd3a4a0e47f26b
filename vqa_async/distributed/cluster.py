"""Ray, started on this machine or found where it runs. The only file that starts and ends it.

One of our own listens on loopback alone, reports nothing to anybody, keeps its files in a folder that is
removed, and ends with us, even if we are killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vqa_async.errors import ClusterError, ConfigError, JournalLocked
from vqa_async.journal.lock import claim

_SPARE_CPUS = 2
"""Logical ones, of a Ray of our own: for the reader and whoever else needs one for a moment."""

_STORE_BYTES = 256 << 20
"""For what is between reader and workers, which is a few chunks."""

_PATIENCE_S = 10.0
"""For the first sign of life of a cluster that was named."""

_FOLDER, _HELD = "vqa-ray-", "held"
"""Of the folder for the files of Ray, and of the file in it that is locked as long as its owner lives."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Read when Ray is imported or starts processes. Signals are for our host, or us, to handle: Ray's C++ part
would answer SIGTERM with a stack trace, and abort while it starts."""

_ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's name for: this machine alone. It would listen on all interfaces otherwise."""


@contextlib.contextmanager
def cluster(address: str, workers: int) -> Iterator[None]:
    """Ray, ready to be used in this process until the block ends; one that our host has started is used.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at ``address``.
        ClusterError: it cannot be started here.
    """
    _prepare(os.environ, own=not address)
    ray = _import()
    if ray.is_initialized():
        yield
        return
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_own_folder())
        stack.callback(ray.shutdown)
        with _hushed():
            if address:
                _connect(ray, address)
            else:
                _start(ray, folder, workers)
        # What its processes say would go to standard output, which is for results, whatever log_to_driver is.
        ray._private.worker._worker_logs_enabled = False
        yield


@contextlib.contextmanager
def _own_folder() -> Iterator[str]:
    """A folder for the files of Ray, removed with the block; and those of processes that were killed, too."""
    for left in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*/{_HELD}"):
        with contextlib.suppress(OSError, JournalLocked), left.open("rb+") as held:
            claim(held.fileno(), left)
            shutil.rmtree(left.parent, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=_FOLDER)
    try:
        with open(os.path.join(folder, _HELD), "wb") as held:
            claim(held.fileno(), Path(folder))
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keep from standard error what Ray's C++ part writes there before it knows how loud it may be."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _prepare(environ: os._Environ[str], *, own: bool) -> None:
    for name, value in (_QUIET | (_ON_LOOPBACK if own and "ray" not in sys.modules else {})).items():
        environ.setdefault(name, value)


def _import() -> Any:
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError(
            "--engine ray needs Ray, which is not installed: pip install 'vqa-async[ray]'."
        ) from None
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return ray


def _connect(ray: Any, address: str) -> None:
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        first = str(error).strip().partition("\n")[0][:200]
        raise ConfigError(
            f"No Ray cluster answers at {address}: {first or type(error).__name__}. Check --ray-address."
        ) from None


def _knock(address: str) -> None:
    """Look whether anybody listens there, for Ray would try for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_S).close()


def _start(ray: Any, folder: str, workers: int) -> None:
    try:
        ray.init(
            address="local",
            num_cpus=workers + _SPARE_CPUS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            object_store_memory=_STORE_BYTES,
            _temp_dir=folder,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        first = str(error).strip().partition("\n")[0][:200]
        raise ClusterError(
            f"Ray cannot be started on this machine: {first or type(error).__name__}. "
            "Without --engine ray the same command does the work in one process."
        ) from None


def machines() -> int:
    """Machines of the cluster that are alive."""
    import ray

    return sum(bool(node["Alive"]) for node in ray.nodes())  # type: ignore[no-untyped-call]


def cpus_for(workers: int) -> float:
    """Logical CPUs that a worker may ask for, so that all of them and the reader find a place."""
    import ray

    there = ray.cluster_resources().get("CPU", 1.0)  # type: ignore[no-untyped-call]
    return float(min(1.0, 0.9 * there / (workers + 1)))
