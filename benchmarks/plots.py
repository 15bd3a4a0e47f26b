"""What the other benchmarks found, as pictures.

    python -m benchmarks.plots                       every result that is there, seconds; nothing is measured
    python -m benchmarks.plots --results FOLDER      reads and writes there instead of in benchmarks/results

| picture | from | shows |
|---|---|---|
| `peers.svg` | `peers.json` | requests/s and CPU of the engine and of the usual ways |
| `throughput.svg` | `throughput.json` | requests/s by requests in flight, latency and size of image |
| `latency.svg` | `latency_bound.json` | how much of what the latency allows is reached |
| `ceiling.svg` | `ceiling.json` | CPU of a request: HTTP by hand, the least that aiohttp needs, the engine |
| `memory.svg` | `memory.json` | peak memory by number of records |
| `scale.svg` | `scale.json` | what 1, 10 and 100 machines sustain, by a simulation |

A result that is missing is skipped, and a sentence says so. The same results give the same bytes (with the
same matplotlib): ids are salted with a constant, and no date is written. Text stays text: a picture is
small, and what changed in it can be read. The background is white on dark pages too. Needs matplotlib:
`pip install 'vqa-async[bench]'`.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import RESULTS
from benchmarks.memory import KINDS, WORKERS
from benchmarks.peer_clients import PEERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE)
"""Of Okabe and Ito, told apart with any colour vision; each line has a marker of its own as well."""
MARKERS = ("o", "s", "^", "D")
GREY, PALE = "#595959", "#8C8C8C"

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "vqa-async",
    "svg.fonttype": "none",
    # The first comes with matplotlib, so all is laid out alike on every machine. Who shows the picture may
    # have another; none of these is much wider, so labels stay clear of each other.
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "grid.color": "#E0E0E0",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 3,
    "xtick.labelsize": 8.5,
}
HEAD_INCHES = 0.62
"""Above the axes, for the title and the line that says on what machine."""
ENGINE = "engine"
TITLE_OF_ENGINE = "vqa-async"
CLIENTS = {"raw": "HTTP by hand (asyncio)", "minimal": "minimal aiohttp loop", ENGINE: TITLE_OF_ENGINE}


# --- one function a picture ---------------------------------------------------------------------------------


def peers(result: Mapping[str, Any]) -> Figure:
    """A bar for each client, the engine first, then the quickest; who has no figures says why."""
    medians, failed = result["medians"], result["failed"]
    names = sorted(medians, key=lambda name: (name != ENGINE, -medians[name]["rate"]))
    size = _size(result["arguments"]["size"])
    title = f"Requests a second, {size} images, endpoint answers at once; each client at its best"
    figure, (axes,) = _figure(title, result, height=1.4 + 0.31 * (len(names) + len(failed)))
    labels = [_client(name, result) for name in (*names, *failed)]
    rates = [medians[name]["rate"] for name in names]
    bars = axes.barh(
        range(len(labels)),
        rates + [0.0] * len(failed),
        height=0.72,
        color=[BLUE if name == ENGINE else PALE for name in (*names, *failed)],
    )
    beside = [
        f"{rate:,.0f} req/s, {medians[name]['cpu_ms']:.2f} ms CPU, {result['in_flight'][name]} in flight"
        for name, rate in zip(names, rates, strict=True)
    ]
    whys = [f"no figures: {textwrap.shorten(why, 70)}" for why in failed.values()]
    axes.bar_label(bars, beside + whys, padding=4, fontsize=8.5)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, max(rates) * 1.9)  # room for the text beside the longest
    axes.set_xlabel(
        "requests a second (beside the bars: also CPU milliseconds a request, requests in flight)"
    )
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    if ENGINE in names:
        axes.get_yticklabels()[0].set_fontweight("bold")
        axes.texts[0].set_fontweight("bold")
    return figure


def throughput(result: Mapping[str, Any]) -> Figure:
    """Requests a second by requests in flight: a panel for each latency, a line for each size of image."""
    cells = result["cells"]
    latencies, sizes = _different(cells, "latency_s"), _different(cells, "size")
    figure, panels = _figure(
        "Requests a second by requests in flight", result, height=4, panels=len(latencies)
    )
    for axes, latency_s in zip(panels, latencies, strict=True):
        workers = _different(cells, "workers")
        axes.set_title(f"endpoint answers after {_milliseconds(latency_s)}")
        if latency_s:
            ideal = [w / latency_s for w in workers]
            axes.plot(workers, ideal, "--", color=GREY, linewidth=1.2, label="in flight / latency")
        for size, style in zip(sizes, _styles(len(sizes)), strict=True):
            line = [cell for cell in cells if (cell["size"], cell["latency_s"]) == (size, latency_s)]
            found = [cell["rate"] for cell in line]
            axes.plot([c["workers"] for c in line], found, label=f"{_size(size)} images", **style)
        axes.set_yscale("log")
        _in_flight(axes, workers)
        _plain_log(axes.yaxis, (1, 2, 5))
        axes.set_ylabel("requests a second")
        axes.grid(True)
        axes.legend(loc="lower right")
    low, high = min(c["rate"] for c in cells), max(c["rate"] for c in cells)
    for axes in panels:
        axes.set_ylim(low / 2, high * 2)  # alike, for comparing; the ideal may leave it
    return figure


def latency(result: Mapping[str, Any]) -> Figure:
    """The share of what is possible by requests in flight: a panel for each latency, targets as dashes."""
    rows = result["rows"]
    settings = sorted({(row["latency_s"], row["size"]) for row in rows})
    title = "How much of what the latency allows is reached"
    figure, panels = _figure(title, result, height=4.4, panels=len(settings))
    for axes, (latency_s, size) in zip(panels, settings, strict=True):
        here = [row for row in rows if (row["latency_s"], row["size"]) == (latency_s, size)]
        _share(axes, [row for row in here if "reason" not in row])
        _in_flight(axes, [row["workers"] for row in here])
        axes.set_title(f"endpoint answers after {_milliseconds(latency_s)}, {_size(size)} images")
        axes.set_ylim(0, max(1.15, *(1.08 * row.get("share", 0) for row in here)))
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.set_ylabel("share reached")
        axes.grid(True)
        axes.legend(loc="lower left")
        reasons = [f"{row['workers']:,} in flight: {row['reason']}" for row in here if "reason" in row]
        if reasons:
            text = "\n".join(textwrap.fill(reason, 60) for reason in reasons)
            axes.text(0.02, 0.34, text, transform=axes.transAxes, fontsize=7.5, color=GREY)
    return figure


def _share(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Two lines over the same runs, and the targets of the upper one."""
    workers = [row["workers"] for row in rows]
    below, above = _styles(2)
    axes.plot(
        workers, [r["of_ideal"] for r in rows], label="of in flight / latency", **below, linestyle=(0, (2, 1))
    )
    label = "of the smaller: that, or throughput at 0 ms"
    axes.plot(workers, [r["share"] for r in rows], label=label, **above)
    aimed = [row for row in rows if row["target"] is not None]
    if aimed:
        at, targets = [row["workers"] for row in aimed], [row["target"] for row in aimed]
        axes.plot(
            at, targets, "_", color="black", markersize=16, markeredgewidth=1.6, label="target of the latter"
        )
    for row in aimed:
        axes.annotate(
            f"≥ {row['target']:.0%}", (row["workers"], row["target"]), (0, -6), textcoords="offset points",
            ha="center", va="top", fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def ceiling(result: Mapping[str, Any]) -> Figure:
    """CPU of a request, a group of bars for each size of image, with the rate above each bar."""
    medians = result["medians"]
    title = f"CPU time a request, {result['workers']} in flight, endpoint answers at once"
    figure, (axes,) = _figure(title, result, width=9 if len(medians) > 1 else 7, height=4)
    width = 0.8 / len(CLIENTS)
    for number, (client, colour) in enumerate(zip(CLIENTS, (PALE, GREEN, BLUE), strict=True)):
        groups = [group for group, found in enumerate(medians.values()) if client in found]
        found = [list(medians.values())[group][client] for group in groups]
        bars = axes.bar(
            [group + (number - 1) * width for group in groups],
            [m["cpu_ms"] for m in found],
            width=width * 0.94,
            color=colour,
            label=CLIENTS[client],
        )
        axes.bar_label(
            bars, [f"{m['cpu_ms']:.2f} ms\n{m['rate']:,.0f} req/s" for m in found], padding=2, fontsize=7.5
        )
    axes.set_xticks(range(len(medians)), [f"{_size(int(size))} images" for size in medians])
    axes.set_xlim(-0.6, len(medians) - 0.4)
    axes.set_ylabel("CPU, milliseconds a request")
    axes.tick_params(axis="x", length=0)
    axes.margins(y=0.16)
    axes.grid(axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(CLIENTS))
    return figure


def memory(result: Mapping[str, Any]) -> Figure:
    """Peak memory by number of records, a line for each kind of record."""
    rows = result["rows"]
    figure, (axes,) = _figure(
        f"Peak memory by number of records, {WORKERS} in flight", result, width=7, height=3.8
    )
    for kind, style in zip(KINDS, _styles(len(KINDS)), strict=True):
        line = [row for row in rows if row["kind"] == kind]
        counts, peaks = [row["records"] for row in line], [row["rss_mb"] for row in line]
        axes.plot(counts, peaks, label=KINDS[kind], **style)
        for point in zip(counts, peaks, strict=True):
            axes.annotate(
                f"{point[1]:.0f}", point, (0, 7), textcoords="offset points", ha="center", fontsize=8.5
            )
    axes.set_xscale("log")
    _plain_log(axes.xaxis)
    axes.margins(x=0.08)
    axes.set_ylim(0, max(row["rss_mb"] for row in rows) * 1.4)
    axes.set_xlabel("records")
    axes.set_ylabel("peak resident memory (RSS), MB")
    axes.grid(axis="y")
    axes.legend(loc="upper left", ncols=2)
    return figure


def scale(result: Mapping[str, Any]) -> Figure:
    """Requests a second by number of machines, a line for each endpoint."""
    rows = result["rows"]
    cases = list(dict.fromkeys(row["case"] for row in rows))
    title = f"Requests a second by number of machines, {result['width']} in flight on each: a simulation"
    figure, (axes,) = _figure(title, result, width=7, height=4.4)
    for case, style in zip(cases, itertools.cycle(_styles(len(COLOURS))), strict=False):
        line = [row for row in rows if row["case"] == case]
        dashed = {"linestyle": "--"} if cases.index(case) >= len(COLOURS) else {}
        machines, rates = [row["machines"] for row in line], [row["rate"] for row in line]
        axes.plot(machines, rates, label=case, **(dict(style) | dashed))
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_log(axes.xaxis)
    _plain_log(axes.yaxis)
    axes.set_ylim(30, 2e6)  # room for the legend
    axes.set_xlabel("machines")
    axes.set_ylabel("requests a second")
    axes.grid(axis="y")
    axes.legend(loc="upper left")
    return figure


PICTURES: dict[str, tuple[str, Callable[[Mapping[str, Any]], Figure]]] = {
    "peers": ("peers", peers),
    "throughput": ("throughput", throughput),
    "latency": ("latency_bound", latency),
    "ceiling": ("ceiling", ceiling),
    "memory": ("memory", memory),
    "scale": ("scale", scale),
}
"""By name of the picture: the benchmark whose result it shows, and what draws it."""


# --- what they share ----------------------------------------------------------------------------------------


def _figure(
    title: str, result: Mapping[str, Any], *, width: float = 9, height: float, panels: int = 1
) -> tuple[Figure, Sequence[Axes]]:
    """A figure in inches with its title, the machine below that, and panels side by side."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    below_head = (0, 0, 1, 1 - HEAD_INCHES / height)
    layout = ConstrainedLayoutEngine(rect=below_head, w_pad=0.1, h_pad=0.08, wspace=0.03)
    figure = Figure(figsize=(width, height), facecolor="white", layout=layout)
    left = 0.1 / width
    figure.text(left, 1 - 0.12 / height, title, va="top", fontsize=11, fontweight="bold")
    figure.text(left, 1 - 0.36 / height, _machine(result["machine"]), va="top", color=GREY)
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _machine(machine: Mapping[str, Any]) -> str:
    """Where this was measured, in a line."""
    count = machine["cpu_count"]
    versions = machine["versions"]
    return ", ".join(
        [
            f"{count} core{'' if count == 1 else 's'} ({machine['machine']})",
            f"Python {machine['python']}",
            *(f"{name} {versions[name]}" for name in ("aiohttp",) if name in versions),
            f"commit {machine['commit'] or 'unknown'}",
        ]
    )


def _client(name: str, result: Mapping[str, Any]) -> str:
    """A bar's name, with the version of what it is first of all made of."""
    if name == ENGINE:
        return TITLE_OF_ENGINE
    if name not in PEERS:  # an older result
        return name
    version = result["versions"].get(name, {}).get(PEERS[name].packages[0], "")
    return f"{PEERS[name].title} ({version})" if version else PEERS[name].title


def _different(cells: Iterable[Mapping[str, Any]], what: str) -> list[Any]:
    """The values that a figure has in the cells, each once, ascending."""
    return sorted({cell[what] for cell in cells})


def _styles(count: int) -> list[dict[str, Any]]:
    """Colour and marker of each line; the later ones are finer, so what they cover is still to be seen."""
    return [
        {
            "color": COLOURS[n % len(COLOURS)],
            "marker": MARKERS[n % len(MARKERS)],
            "linewidth": max(1.4, 3 - 0.8 * n),
            "markersize": max(4.0, 7.5 - 1.5 * n),
        }
        for n in range(count)
    ]


def _in_flight(axes: Axes, workers: Sequence[int]) -> None:
    """A logarithmic axis with a tick at each number that was measured."""
    axes.set_xscale("log")
    axes.set_xticks(workers, [f"{w:,}" for w in workers])
    axes.set_xticks([], minor=True)
    axes.margins(x=0.08)
    axes.set_xlabel("requests in flight")


def _plain_log(axis: Any, ticks: Sequence[int] = (1,)) -> None:
    """A logarithmic axis with ticks at so many times the powers of ten, written out as plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=ticks))
    axis.set_major_formatter("{x:,.0f}")
    axis.set_minor_formatter(NullFormatter())


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:g} MB" if size_bytes >= 1_000_000 else f"{size_bytes / 1000:g} KB"


def _milliseconds(latency_s: float) -> str:
    return f"{latency_s:g} s" if latency_s >= 1 else f"{latency_s * 1000:g} ms"


def draw(name: str, folder: Path) -> Path | None:
    """Draw one picture into the folder its result is in; None if there is no such result."""
    import matplotlib

    source, picture = PICTURES[name]
    path = folder / f"{source}.json"
    if not path.exists():
        print(
            f"{name}.svg is skipped: {path.name} is missing, run {_command(source)} first.", file=sys.stderr
        )
        return None
    result = json.loads(path.read_text())
    drawn = folder / f"{name}.svg"
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not those of a matplotlibrc on this machine
        matplotlib.rcParams.update(STYLE)
        figure = picture(result)
        title = figure.texts[0].get_text()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    return drawn


def _command(source: str) -> str:
    return f"`python -m benchmarks.{source}`"


def main() -> int:
    """Draw what there is; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to read from and to write to")
    a = parser.parse_args()
    if importlib.util.find_spec("matplotlib") is None:
        print("Drawing needs matplotlib: pip install 'vqa-async[bench]'.", file=sys.stderr)
        return 2
    for name in PICTURES:
        if drawn := draw(name, a.results):
            print(drawn)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
