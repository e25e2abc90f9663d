"""Figures of reports and notebooks: one function each, from frames to a matplotlib Figure that reads without its text.

`head` says what was measured (`Runs.head`) and stands under the title.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; every mark has a shape of its own, too. Nothing here opens a window.
"""

# pandas' own annotations allow a Series or an array wherever a frame is indexed:
# pyright: reportCallIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false

from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
PHASE_COLOURS = {"draft": "#56B4E9", "target": "#0072B2", "verify": "#E69F00", "commit": "#009E73", "other": "#999999"}
INK, GRID = "#333333", "#c8c8c8"  # the report replaces these two in dark mode
WIDTH = 6.2  # inches: what a phone can still show
HEAD_LETTERS, HEAD_LINE, TITLE_HEIGHT = 98, 0.16, 0.26  # letters and inches of a line of the head; inches of the title above it
STYLE: dict[Any, Any] = {  # matplotlib's type has every key there is, and not in all versions
    "font.size": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "figure.constrained_layout.use": True,
}


def speedup(categories: pd.DataFrame, head: str) -> Figure:
    """End-to-end speedup over plain decoding with its 95 % interval, by kind of prompt and method; `categories` as in `Runs`."""
    title = "End-to-end speedup over plain decoding, by kind of prompt"
    return _intervals(categories, "speedup_with_prefill", title, "end-to-end speedup, 95 % interval over prompts", head)


def tokens_per_step(categories: pd.DataFrame, head: str) -> Figure:
    """Tokens per step with its 95 % interval, by kind of prompt and method: what an ideal machine would gain; `categories` as in `Runs`."""
    title = "Tokens per step, by kind of prompt"
    return _intervals(categories, "tokens_per_step", title, "tokens per step, 95 % interval over prompts", head)


def speedup_over_peers(peers: pd.DataFrame, head: str) -> Figure:
    """How much faster each method is than each peer on the same prompts, from `curves.against_peers`."""
    title = "End-to-end speedup over peers"
    return _intervals(peers, "speedup", title, "end-to-end speedup, 95 % interval over prompts", head)


def acceptance_by_position(rates: pd.DataFrame, head: str) -> Figure:
    """Conditional acceptance along the draft, from `curves.acceptance_by_position`."""
    with rc_context(STYLE):
        figure, axes = _single(3.0, "Acceptance by position in the draft")
        methods = rates["method"].unique()
        for place, name in enumerate(methods):
            held = rates[(rates["method"] == name) & rates["rate"].notna()]
            _line(axes, place, held["position"] + _nudge(place, len(methods), 0.3), held["rate"], held["low"], held["high"], name)
        axes.set(xlabel="position of the drafted token (1 = first)", ylabel="accepted, if reached", ylim=(0, 1.03))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        _legend(figure, axes)
    return _headed(figure, head)


def accepted_lengths(counts: pd.DataFrame, head: str) -> Figure:
    """How many draft tokens a step accepts, a panel per method, from `curves.accepted_lengths`."""
    with rc_context(STYLE):
        methods = counts["method"].unique()
        rows = -(-len(methods) // 2)
        figure = Figure(figsize=(WIDTH, 0.7 + 1.55 * rows))
        panels = figure.subplots(rows, min(2, len(methods)), sharex=True, sharey=True, squeeze=False).ravel()
        for place, (axes, name) in enumerate(zip(panels, methods, strict=False)):
            held = counts[counts["method"] == name]
            mean = float((held["accepted"] * held["share"]).sum())
            axes.bar(held["accepted"], held["share"], width=0.8, color=COLOURS[place % len(COLOURS)])
            axes.axvline(mean, color=INK, linewidth=1, linestyle="--")
            axes.set_title(str(name), fontsize=9)
            axes.text(0.98, 0.9, f"mean {mean:.2f}, {int(held['steps'].sum())} steps", transform=axes.transAxes, ha="right", va="top", fontsize=9)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        for axes in panels[len(methods) :]:
            axes.remove()
        _title(figure, "Accepted draft tokens in a step")
        figure.supxlabel("accepted draft tokens (the bonus token is not counted)", fontsize=10)
        figure.supylabel("share of steps", fontsize=10)
    return _headed(figure, head)


def time_per_phase(times: pd.DataFrame, head: str) -> Figure:
    """Where the decode time of a token goes, plain decoding of the same run being 1, from `curves.phase_times`."""
    with rc_context(STYLE):
        methods = list(dict.fromkeys(times["method"]))
        figure, axes = _single(1.1 + 0.34 * len(methods), "Time per token by phase, decode-only")
        table = times.pivot(index="method", columns="phase", values=["relative", "milliseconds"]).reindex(methods)
        left = np.zeros(len(methods))
        for phase, colour in PHASE_COLOURS.items():
            if phase in table["relative"]:
                share = table["relative"][phase].fillna(0.0).to_numpy(float)
                axes.barh(range(len(methods)), share, left=left, color=colour, label=phase, height=0.66)
                left = left + share
        for row, total in enumerate(table["milliseconds"].sum(axis=1)):
            axes.text(1.01, row, f"{total:.1f} ms", va="center", fontsize=9, transform=axes.get_yaxis_transform())
        axes.axvline(1.0, color=INK, linewidth=1, linestyle="--")
        axes.set(xlabel="decode time per token; dashed: plain decoding", xlim=(0, 1.05 * max(1.0, left.max())))
        axes.set_yticks(range(len(methods)), methods)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        _legend(figure, axes, columns=5)
    return _headed(figure, head)


def gamma_curves(curves: pd.DataFrame, head: str, oracle: pd.DataFrame | None = None) -> Figure:
    """Tokens per step and decode-only speedup against the number of drafted tokens, from `curves.gamma_curves`; dashed: theory.

    `oracle`, if given, has the columns label, draft_tokens, tokens_per_step: ceilings, drawn as dotted lines.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.0))
        panels = figure.subplots(2, 1, sharex=True)
        for place, (name, held) in enumerate(curves.groupby("curve", sort=False)):
            colour = COLOURS[place % len(COLOURS)]
            for axes, value, model in zip(panels, ("tokens_per_step", "speedup"), ("theory_tokens", "theory_speedup"), strict=True):
                _line(axes, place, held["draft_tokens"], held[value], held[f"{value}_low"], held[f"{value}_high"], str(name))
                axes.plot(held["draft_tokens"], held[model], color=colour, linestyle="--", linewidth=1, alpha=0.8)
        ceilings = [] if oracle is None else list(oracle.groupby("label", sort=False))
        for place, (label, held) in enumerate(ceilings):
            style = {"color": INK, "linestyle": ":", "linewidth": 1.2, "marker": "*+x1"[place % 4], "alpha": 0.8}
            panels[0].plot(held["draft_tokens"], held["tokens_per_step"], label=f"ceiling: {label}", **style)
        panels[0].plot([], [], color=INK, linestyle="--", linewidth=1, label="theory: one acceptance for all positions")
        panels[0].set(ylabel="tokens per step", ylim=(0, None))
        _title(figure, "Gain against draft length")
        panels[1].axhline(1.0, color=INK, linewidth=1)
        panels[1].set(ylabel="decode-only speedup", xlabel="drafted tokens per step (num_tokens)", ylim=(0, None))
        panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(figure, panels[0])
    return _headed(figure, head)


def throughput(rates: pd.DataFrame, head: str) -> Figure:
    """Tokens per second of the whole batch against its size, from `curves.throughput`; dashed: plain decoding of the same runs."""
    with rc_context(STYLE):
        figure, axes = _single(3.0, "Throughput against batch size, decode-only")
        for place, (name, held) in enumerate(rates.groupby("curve", sort=False)):
            for role, line, label in (("method", "-", str(name)), ("baseline", "--", f"{name}: plain decoding")):
                own = held[held["role"] == role]
                _line(axes, place, own["batch_size"], own["tokens_per_second"], own["low"], own["high"], label, line)
        axes.set_xscale("log", base=2)
        sizes = sorted(rates["batch_size"].unique())
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set(xlabel="prompts decoded together (batch size)", ylabel="tokens per second", ylim=(0, None))
        _legend(figure, axes)
    return _headed(figure, head)


def predicted_against_measured(predictions: pd.DataFrame) -> Figure:
    """Speedups by the cost model against those measured, with both intervals, from `other_results.load_predictions`; on the diagonal both agree."""
    with rc_context(STYLE):
        figure, axes = _single(4.6, "Speedup: predicted against measured")
        for place, (name, held) in enumerate(predictions.groupby("run", sort=False)):
            errors = {f"{axis}err": _errors(held[of], held[f"{of}_low"], held[f"{of}_high"]) for axis, of in (("x", "predicted"), ("y", "measured"))}
            style = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "markersize": 5, "linewidth": 1}
            axes.errorbar(held["predicted"], held["measured"], linestyle="none", label=str(name), **errors, **style)
        top = 1.1 * float(predictions[["predicted", "measured"]].to_numpy(float).max())
        axes.plot([0, top], [0, top], color=INK, linewidth=1)
        axes.fill_between([0, top], [0, 0.9 * top], [0, 1.1 * top], color=GRID, alpha=0.4, linewidth=0, label="within 10 %")
        axes.set(xlabel="predicted speedup, decode-only", ylabel="measured speedup, decode-only", xlim=(0, top), ylim=(0, None))
        _legend(figure, axes)
    return _headed(figure, " / ".join(filter(None, dict.fromkeys(predictions["head"]))))


def exactness(rules: pd.DataFrame) -> Figure:
    """Distance from the target's distribution of each verifier, right and wrong ones, from `notebook.enumerate_rules`."""
    with rc_context(STYLE):
        figure, axes = _single(1.0 + 0.24 * len(rules), "Distance from the target's distribution, enumerated")
        for place, (sound, label) in enumerate(((True, "ours"), (False, "wrong in one way"))):
            held = rules[rules["sound"] == sound]
            style = {"color": COLOURS[place], "marker": MARKERS[place], "linestyle": "none", "label": label}
            axes.plot(held["tv"].clip(lower=1e-17), held.index, **style)
        axes.axvline(1e-12, color=INK, linewidth=1, linestyle="--", label="taken for zero")
        axes.set_xscale("log")
        axes.set(xlabel="total variation distance", xlim=(3e-18, 2), ylim=(len(rules) - 0.5, -0.5))
        axes.set_yticks(range(len(rules)), rules["rule"].tolist())
        _legend(figure, axes, columns=3)
    return figure


def expected_gain(gains: pd.DataFrame) -> Figure:
    """Speedup by theory against draft length, a line per acceptance, from `curves.expected_gain`."""
    with rc_context(STYLE):
        figure, axes = _single(3.2, "Expected decode-only speedup, one acceptance for all positions")
        for place, (acceptance, held) in enumerate(gains.groupby("acceptance")):
            style = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "markersize": 4}
            axes.plot(held["draft_tokens"], held["speedup"], label=f"acceptance {acceptance:.0%}", **style)
        axes.axhline(1.0, color=INK, linewidth=1)
        axes.set(xlabel="drafted tokens per step", ylabel="decode-only speedup", ylim=(0, None))
        _legend(figure, axes)
    return figure


def _intervals(frame: pd.DataFrame, value: str, title: str, label: str, head: str) -> Figure:
    """A dot with its interval for every category and method; categories one below the other, so that long names and phones are no trouble."""
    with rc_context(STYLE):
        alone = frame["category"].nunique() == 1  # then the methods stand on the axis, and need no legend
        frame = frame.assign(category=frame["method"], method="") if alone else frame
        methods, categories = list(dict.fromkeys(frame["method"])), list(dict.fromkeys(frame["category"]))
        band = 0.26 if alone else max(0.5, 0.15 * len(methods) + 0.2)
        figure, axes = _single(1.0 + band * len(categories), title)
        rows = {name: index for index, name in enumerate(categories)}
        for place, name in enumerate(methods):
            held = frame[frame["method"] == name]
            heights = held["category"].map(rows).astype(float) + _nudge(place, len(methods), 0.7)
            errors = _errors(held[value], held[f"{value}_low"], held[f"{value}_high"])
            style = {
                "color": COLOURS[place % len(COLOURS)],
                "marker": MARKERS[place % len(MARKERS)],
                "markersize": 5,
                "linewidth": 1.3,
                "label": name,
            }
            axes.errorbar(held[value], heights, xerr=errors, linestyle="none", **style)
        axes.axvline(1.0, color=INK, linewidth=1)
        for edge in range(1, 1 if alone else len(categories)):
            axes.axhline(edge - 0.5, color=GRID, linewidth=0.8)
        axes.set(xlabel=label, ylim=(len(categories) - 0.5, -0.5), xlim=(0, None))
        axes.set_yticks(range(len(categories)), categories)
        axes.grid(axis="y", visible=alone)
        if not alone:
            _legend(figure, axes)
    return _headed(figure, head)


def _single(height: float, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height))
    _title(figure, title)
    return figure, figure.subplots()


def _title(figure: Figure, title: str) -> None:
    """At the left edge of the figure, where it is not cut off however long the labels of the axis are."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")


def _headed(figure: Figure, head: str) -> Figure:
    """The finished figure with what was measured in small letters under its title, for which it becomes as much higher."""
    lines = wrap(head, HEAD_LETTERS)
    height = figure.get_figheight() + HEAD_LINE * len(lines)
    layout = figure.get_layout_engine()
    if lines and layout is not None:
        figure.set_figheight(height)
        layout.set(rect=(0, 0, 1, 1 - HEAD_LINE * len(lines) / height))  # pyright: ignore[reportCallIssue]
        figure.text(0.01, 1 - TITLE_HEIGHT / height, "\n".join(lines), ha="left", va="top", fontsize=8, color=INK)
    return figure


def _line(axes: Axes, place: int, x: pd.Series, y: pd.Series, low: pd.Series, high: pd.Series, label: str, line: str = "-") -> None:
    style = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "markersize": 4.5, "linewidth": 1.3, "capsize": 2}
    axes.errorbar(x, y, yerr=_errors(y, low, high), linestyle=line, label=label, **style)


def _errors(value: pd.Series, low: pd.Series, high: pd.Series) -> np.ndarray:
    """Distances to the ends of the intervals, [2, points]; 0 where there is no interval."""
    middle = value.to_numpy(float)
    return np.nan_to_num(np.clip([middle - low.to_numpy(float), high.to_numpy(float) - middle], 0, None))


def _nudge(place: int, total: int, width: float) -> float:
    """Keeps marks of several methods at one place apart."""
    return width * ((place + 0.5) / total - 0.5)


def _legend(figure: Figure, axes: Axes, columns: int | None = None) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = columns or (2 if max(map(len, labels), default=0) < 38 else 1)
    figure.set_figheight(figure.get_figheight() + 0.17 * -(-len(labels) // columns))
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, fontsize=9)
