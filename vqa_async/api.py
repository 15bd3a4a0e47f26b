"""The doors for Python callers, and the only place that builds the objects from a Config.

As a guest in another program this installs no signal handler, owns no loop, prints nothing and keeps no
global; leaving the block ends every task and socket that it opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import importlib.util
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from vqa_async.batches import Batches, Desk, Provider
from vqa_async.chat import RequestForm
from vqa_async.client import Forms, Reasks, VLMClient
from vqa_async.config import Config, Limits, NamedEndpoint, find_api_key, key_variables, usable_key
from vqa_async.endpoints import EndpointPool, EndpointState, endpoint_state
from vqa_async.engine import Engine, RunSummary
from vqa_async.errors import ConfigError
from vqa_async.events import Notice, Observer
from vqa_async.images import ImageLoader
from vqa_async.logs import named_run
from vqa_async.models import Result
from vqa_async.prompts import asking_for
from vqa_async.quality import PairChecks
from vqa_async.sources import InputFormat, Rows, SharedImages
from vqa_async.spending import Spending
from vqa_async.stages import Stages, Watch, has_stages, unwatched
from vqa_async.structured import MODES, Structure, parameters_of, words_of
from vqa_async.tokens import TokenEstimator
from vqa_async.transport import AiohttpTransport, Transport, fetch_image
from vqa_async.watchers import Observers, all_of, instruments_of, watched, wrapped

log = logging.getLogger("vqa_async")

T = TypeVar("T")

_SPARE_DESCRIPTORS = 64
"""File descriptors left for all but sockets: images, output files, the program around us."""


@contextlib.asynccontextmanager
async def open_engine(
    config: Config | None = None,
    *,
    api_key: str | None = None,
    transport: Transport | None = None,
    observer: Observers = None,
    **options: Any,
) -> AsyncIterator[Engine]:
    """An engine that is ready to answer; everything it opened is closed with the block.

    Args:
        config: all options as one value; or give them by name instead.
        api_key: the key itself. Default: from the environment variable that ``api_key_env`` names.
        transport: what carries requests. Default: aiohttp over a connection pool of its own.
        observer: told about every event of a run; one, or several.
        **options: any option of ``config`` by its name: ``base_url``, ``model``, ``max_workers``, ...

    Raises:
        ConfigError: an option is unknown or cannot work.

    Example:
        >>> async with open_engine(base_url="http://localhost:8000/v1", model="qwen-vl") as engine:
        ...     async for result in engine.stream(records):
        ...         print(result.text if result.ok else result.error)
    """
    if config is not None and options:
        raise ConfigError("Give a config or options by name, not both.")
    config = Config.of(**options) if config is None else config
    if not all(one.model for one in config.all_endpoints()):
        raise ConfigError("No model is named: give --model NAME, as the endpoint knows it.")
    fitted, lowered = _fitted(config)
    async with contextlib.AsyncExitStack() as stack:
        plain, watching = await stack.enter_async_context(watched(fitted, observer))
        logbook = _logbook(plain, api_key)
        config, observers = plain, (*all_of(watching), *logbook)
        if transport is None:
            transport = await stack.enter_async_context(
                AiohttpTransport(verify_tls=not config.endpoint.insecure, trust_env=config.endpoint.trust_env)
            )
        carrier = wrapped(transport, config, observers)
        images = await stack.enter_async_context(await _image_loader(config, stack))
        pool = EndpointPool(
            [_endpoint(one, api_key, config.limits) for one in config.all_endpoints()],
            config.limits,
            retry_share=config.retry.retry_share,
            on_closed=lambda said: engine.notify(Notice(said)),
        )
        reasks = _reasks(config, lambda said: engine.notify(Notice(said)))
        client = _client(config, api_key, images, pool, carrier, reasks)
        engine = Engine(config, client, pool, images, carrier, observers)
        stack.push_async_callback(engine.aclose)
        for instrument in instruments_of(observers):
            stack.enter_context(instrument.attached(engine))
        for said in filter(None, (lowered, _unverified(config), _limits_of_a_shard(config))):
            if not logbook:  # which hears of it by the notice
                log.warning(said)
            engine.notify(Notice(said))
        yield engine


@contextlib.asynccontextmanager
async def open_batches(
    config: Config,
    *,
    api_key: str | None = None,
    transport: Transport | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Batches]:
    """What hands records to a provider's batch API and takes the answers out; closed with the block.

    Args:
        config: all options, with one endpoint.
        api_key, transport: as for ``open_engine``.
        notify: told in sentences what the user should know.

    Raises:
        ConfigError: an option cannot work.

    Example:
        >>> async with open_batches(Config.of(model="gpt-4o-mini")) as batches:
        ...     await batches.submit("in.jsonl", "out.jsonl")
        ...     await batches.fetch("out.jsonl", wait=True)
    """
    if not all(one.model for one in config.all_endpoints()):
        raise ConfigError("No model is named: give --model NAME, as the endpoint knows it.")
    async with contextlib.AsyncExitStack() as stack:
        if transport is None:
            transport = await stack.enter_async_context(
                AiohttpTransport(verify_tls=not config.endpoint.insecure, trust_env=config.endpoint.trust_env)
            )
        images = await stack.enter_async_context(await _image_loader(config, stack))
        pool = EndpointPool(
            [_endpoint(one, api_key, config.limits) for one in config.all_endpoints()], config.limits
        )
        stack.callback(pool.close)
        client = _client(config, api_key, images, pool, transport, _reasks(config, notify))
        provider = Provider(pool.endpoints[0], transport, client, config.timeouts, config.retry)
        if said := _unverified(config):
            notify(said)
        yield Batches(Desk(config, client, provider, notify))


async def arun(
    input: str,
    output: str,
    *,
    limit: int | None = None,
    format: InputFormat = "auto",
    observer: Observers = None,
    progress: bool = False,
    **options: Any,
) -> RunSummary:
    """Answer every record of ``input`` into ``output``; see ``Engine.run`` and ``open_engine``.

    With ``progress`` the run is shown while it goes on: as a panel in a notebook or on the terminal that
    stderr is, else as a line every ten seconds. By default nothing is printed.

    With options of quality and verification, so are their stages: the summary has ``verification`` and
    ``review`` then.
    """
    named = {name: options.pop(name) for name in ("api_key", "transport") if name in options}
    given = options.pop("config", None)
    if given is not None and options:
        raise ConfigError("Give a config or options by name, not both.")
    config = given or Config.of(**options)
    if config.distribution.engine != "local":
        raise ConfigError("engine='ray' is what vqa_async.distributed.run does: call that.")
    observer, watch = _watched(observer) if progress else (observer, unwatched)
    if has_stages(config):
        with named_run():
            async with watched(config, observer) as (config, observer):
                stages = Stages(config, open_engine, observer=observer, watch=watch, **named)
                return await stages.run(input, output, limit=limit, format=format)
    async with open_engine(config, observer=observer, **named) as engine, watch(engine):
        return await engine.run(input, output, limit=limit, format=format)


def _watched(observers: Observers) -> tuple[Observers, Watch]:
    """A display beside the caller's observer, and what goes on beside a stage for it."""
    from rich.console import Console

    from vqa_async.watch.display import Display

    console = Console(highlight=False)
    # In a notebook stdout is the cell; elsewhere it is the program's own, as it is for the command.
    display = Display(console if console.is_jupyter else Console(stderr=True, highlight=False), quiet=False)
    return (display, *all_of(observers)), display.watching


def run(
    input: str,
    output: str,
    *,
    limit: int | None = None,
    format: InputFormat = "auto",
    observer: Observers = None,
    progress: bool = False,
    **options: Any,
) -> RunSummary:
    """``arun`` for synchronous callers, in scripts and notebooks.

    Example:
        >>> summary = run("in.jsonl", "out.jsonl", base_url="http://localhost:8000/v1", model="qwen-vl")
        >>> summary.statistics.succeeded
    """
    return run_sync(
        lambda: arun(
            input, output, limit=limit, format=format, observer=observer, progress=progress, **options
        )
    )


async def stream(records: Rows, **options: Any) -> AsyncGenerator[Result, None]:
    """Answer many records with an engine of its own; see ``Engine.stream`` and ``open_engine``."""
    async with open_engine(**options) as engine, contextlib.aclosing(engine.stream(records)) as results:
        async for result in results:
            yield result


def run_sync(main: Callable[[], Awaitable[T]]) -> T:
    """Await ``main()`` from synchronous code, in a thread of its own where a loop already runs here."""
    return _run_beside(main) if _a_loop_runs_here() else _run_here(main)


def _a_loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_here(main: Callable[[], Awaitable[T]]) -> T:
    async def awaited() -> T:
        return await main()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(awaited())


def _run_beside(main: Callable[[], Awaitable[T]]) -> T:
    """For a notebook, whose own loop is busy with us; an interrupt here cancels the work there."""
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def noted() -> T:
        task = asyncio.current_task()
        assert task is not None
        started.append((asyncio.get_running_loop(), task))
        return await main()

    with ThreadPoolExecutor(1, thread_name_prefix="vqa-run") as thread:
        work = thread.submit(_run_here, noted)
        try:
            return work.result()
        finally:
            if started and not work.done():
                loop, task = started[0]
                loop.call_soon_threadsafe(task.cancel)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed (extra ``speed``), else the default."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    import uvloop

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _endpoint(options: NamedEndpoint, api_key: str | None, limits: Limits) -> EndpointState:
    key = find_api_key(options.api_key_env) if api_key is None else usable_key(api_key, "given as api_key")
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    own = options.headers()
    own_names = {name.lower() for name in own}
    headers = {name: value for name, value in headers.items() if name.lower() not in own_names} | own
    return endpoint_state(options, headers, limits, key_hint=_key_hint(options, key))


def _form(config: Config, *, fixed: Mapping[str, Any] | None = None, words: str = "") -> RequestForm:
    return RequestForm(
        config.all_endpoints()[0].model,
        config.sampling,
        detail=config.images.detail,
        system=asking_for(config).system,
        fixed=fixed,
        words=words,
    )


def _reasks(config: Config, notice: Callable[[str], None]) -> Reasks | None:
    """What asks again because of an answer; None where each is good as it is."""
    answers = config.answers
    if answers.structured:
        structure = Structure(answers.schema)
        schema = structure.schema
        forms = [_form(config, fixed=parameters_of(m, schema), words=words_of(m, schema)) for m in MODES]
        return Reasks(
            Forms(forms, notice), structure, most=answers.reasks, ceiling=answers.max_tokens_ceiling
        )
    if answers.max_tokens_ceiling is not None:
        return Reasks(Forms([_form(config)]), None, ceiling=answers.max_tokens_ceiling)
    return None


def _client(
    config: Config,
    api_key: str | None,
    images: ImageLoader,
    pool: EndpointPool,
    transport: Transport,
    reasks: Reasks | None,
) -> VLMClient:
    model = config.all_endpoints()[0].model
    return VLMClient(
        form=_form(config),
        images=images,
        pool=pool,
        transport=transport,
        timeouts=config.timeouts,
        limits=config.limits,
        retry=config.retry,
        spending=Spending(config.budget, model),
        checks=PairChecks(
            config.quality.chosen(),
            min_answer_chars=config.quality.min_answer_chars,
            max_answer_chars=config.quality.max_answer_chars,
            language=config.quality.answer_language,
            near_duplicate_ratio=config.quality.near_duplicate_ratio,
        ),
        tokens=TokenEstimator(model, max_tokens=config.sampling.max_tokens, detail=config.images.detail),
        reasks=reasks,
        secrets=tuple(_secrets(config, api_key)),
    )


def _logbook(config: Config, api_key: str | None) -> list[Observer]:
    """What writes events into the log, where anybody reads more of that than warnings."""
    if not log.isEnabledFor(logging.INFO):
        return []
    from vqa_async.logbook import Logbook

    return [Logbook(_secrets(config, api_key))]


def _secrets(config: Config, api_key: str | None) -> set[str]:
    """What must not appear in anything that is kept: all keys, and the headers that users gave."""
    found = {api_key} if api_key else set()
    for one in config.all_endpoints():
        found |= {find_api_key(one.api_key_env) if api_key is None else "", *one.headers().values()}
    return found - {""}


def _key_hint(options: NamedEndpoint, key: str) -> str:
    names = " and ".join(key_variables(options.api_key_env))
    if key:
        return f"Check the key (looked for in {names}; --api-key-env names another variable)."
    return f"No key was sent, because {names} are not set: export one, or name yours with --api-key-env."


async def _image_loader(config: Config, stack: contextlib.AsyncExitStack) -> ImageLoader:
    stored = SharedImages()
    stack.callback(stored.close)
    if not config.images.fetch_images:
        return ImageLoader(config.images, stored=stored.get)
    web = await stack.enter_async_context(
        AiohttpTransport(
            trust_env=config.endpoint.trust_env, public_only=not config.images.allow_private_urls
        )
    )
    fetch = functools.partial(
        fetch_image, web, timeout_s=config.timeouts.timeout, max_bytes=config.images.max_file_bytes
    )
    return ImageLoader(config.images, fetch=fetch, stored=stored.get)


def _unverified(config: Config) -> str:
    """What to say where anybody on the way may pass for the endpoint."""
    if not config.endpoint.insecure or not any("https:" in one.base_url for one in config.all_endpoints()):
        return ""
    return "TLS certificates are not verified (--insecure): key and images go to whoever answers."


def _limits_of_a_shard(config: Config) -> str:
    """What to say where limits hold for one of several runs: each knows nothing of the others."""
    part = config.selection.part
    limited = any(one.rpm or one.tpm for one in config.all_endpoints())
    if part is None or part[1] == 1 or not limited:
        return ""
    return (
        f"rpm and tpm hold for this shard alone: {part[1]} at once may send {part[1]} times as much. "
        "Give each its share of what the endpoint allows."
    )


def _fitted(config: Config) -> tuple[Config, str]:
    """``config`` with no more workers than this process may have sockets, and what to say about it."""
    try:
        import resource
    except ImportError:  # Windows: no such limit
        return config, ""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = max(1, soft - _SPARE_DESCRIPTORS)
    bound = config.limits.width_bound
    if soft == resource.RLIM_INFINITY or bound <= room:
        return config, ""
    limits = config.limits.bounded(room)
    if config.limits.is_adaptive:  # nobody has asked for so many
        return dataclasses.replace(config, limits=limits), ""
    message = (
        f"max_workers lowered from {bound} to {room}: this process may open only {soft} "
        "files. Raise the limit with 'ulimit -n'."
    )
    return dataclasses.replace(config, limits=limits), message
