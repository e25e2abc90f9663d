"""What was measured: the head of every table, report and figure, and what makes the numbers of runs incomparable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

Summary = dict[str, Any]
MOST_VALUES = 4  # of a fact that is not the same in all runs, named in the head
DEFAULTS = {  # of settings that runs recorded before there were such settings do not name; those of `parts.settings`
    "max_new_tokens": 128,
    "batch_size": 1,
    "batching": "order",
    "stop_at_eos": True,
    "chat_template": False,
    "system_prompt": None,
    "split": "all",
    "dev_share": 0.5,
}
LIBRARIES = ("torch", "transformers")  # whose versions change times
ALWAYS = ("max_new_tokens", "batch_size")  # settings that the head names though they have their default value
SPOKEN = {"batch_size": "batch size", "chat_template": "chat template", "system_prompt": "system prompt", "dev_share": "dev share"}
LABELLED = {  # keys of a part's settings that other facts say
    "target": ("_target_", "name", "dtype", "device"),
    "data": ("_target_", "name", "path", "label"),
}


@dataclass(frozen=True)
class Fact:
    """One circumstance of all runs: its name, a value per run ("" where a run does not say), how the head puts it."""

    name: str
    values: tuple[str, ...]
    said: str = "{name} {value}"
    comparable: bool = False  # whether speedups of runs that differ in it may be compared
    quiet: bool = False  # named only where runs differ in it

    @property
    def distinct(self) -> list[str]:
        """The values, each once, in the order of the runs."""
        return list(dict.fromkeys(value for value in self.values if value))

    @property
    def differs(self) -> bool:
        return len(self.distinct) > 1

    @property
    def spread(self) -> str:
        """The values in a few words."""
        found = self.distinct
        return ", ".join(found) if len(found) <= MOST_VALUES else f"{len(found)} different"

    def sentence(self) -> str:
        """What the head says of it; "" for what no run says, or what is as usual."""
        if not self.distinct or (self.quiet and not self.differs):
            return ""
        mark = "" if self.comparable else " (differs)"
        return f"{self.name} {self.spread}{mark}" if self.differs else self.said.format(name=self.name, value=self.distinct[0])


def head(summaries: Sequence[Summary]) -> str:
    """What all runs have in common, and the values of what they have not: target, data, verifier, sizes, seed, machine, dates. "" without runs."""
    dates = sorted({str(summary["provenance"]["date"])[:10] for summary in summaries})
    span = [] if not dates else [dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"]
    return "; ".join([*filter(None, (fact.sentence() for fact in facts(summaries))), *span])


def incomparable(summaries: Sequence[Summary]) -> str:
    """Why the speedups of the runs are not comparable, as a sentence; "" where they are."""
    named = [f"{fact.name} ({fact.spread})" for fact in facts(summaries) if fact.differs and not fact.comparable]
    if not named:
        return ""
    listed = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    return f"runs differ in {listed}: their speedups are not comparable"


def facts(summaries: Sequence[Summary]) -> list[Fact]:
    """Every fact of the runs, in the order of the head."""
    verifiers = tuple(summary["labels"]["verifier"] for summary in summaries)
    samplings = tuple(summary["labels"]["sampling"] for summary in summaries)
    return [
        Fact("target", tuple(part_labels(summaries, "target"))),
        Fact("data", tuple(part_labels(summaries, "data"))),
        Fact("prompts", _prompts(summaries), "{value} prompts"),
        Fact("verifier", verifiers, comparable=True),
        Fact("sampling", samplings, comparable=True),
        *(_setting(summaries, name) for name in DEFAULTS if name in ALWAYS),
        Fact("seed", tuple(map(_seed, summaries)), comparable=True),
        *(_setting(summaries, name) for name in DEFAULTS if name not in ALWAYS),
        Fact("dtype", _origins(summaries, "dtype"), "{value}"),
        Fact("hardware", tuple(map(machine, summaries)), "{value}"),
        Fact("threads", _origins(summaries, "threads")),
        *_parts(summaries),
        *(
            Fact(name, tuple(str(summary["provenance"].get("versions", {}).get(name) or "") for summary in summaries), quiet=True)
            for name in LIBRARIES
        ),
    ]


def extra_columns(summaries: Sequence[Summary]) -> list[Fact]:
    """Facts in which the runs differ, and which no column of a comparison shows already."""
    return [fact for fact in facts(summaries) if fact.differs and fact.name not in ("target", "data", "prompts", "verifier", "sampling")]


def part_labels(summaries: Sequence[Summary], part: str) -> list[str]:
    """The label of the target or the data set of every run; two of one name are told apart by as much of their paths as it takes."""
    labels = [summary["labels"][part] for summary in summaries]
    places = [_place(summary["config"][part]) for summary in summaries]
    found = []
    for label, place in zip(labels, places, strict=True):
        rivals = {other for name, other in zip(labels, places, strict=True) if name == label and other}
        tail = tail_of(place, rivals) if len(rivals) > 1 and place else label
        found.append(tail if tail.split("/")[-1] == label.split("/")[-1] else f"{label} ({tail})")
    return found


def machine(summary: Summary) -> str:
    """The processor, or the device that is none."""
    origin = summary["provenance"]
    return str(origin["cpu"] if origin["device"] == "cpu" else origin["device"])


def _place(settings: dict[str, Any]) -> str:
    """Where a model or data set lies, whatever it is called."""
    place = settings.get("path") or settings.get("name")
    return PurePosixPath(str(place).replace("\\", "/")).as_posix() if place else ""


def tail_of(place: str, rivals: set[str]) -> str:
    """The fewest last components of a path that tell it from the others, of which it may be one."""
    parts = place.split("/")
    for count in range(1, len(parts)):
        tail = "/".join(parts[-count:])
        if not any(other == tail or other.endswith(f"/{tail}") for other in rivals - {place}):
            return tail
    return place


def _prompts(summaries: Sequence[Summary]) -> tuple[str, ...]:
    """How many prompts every run answered; where some answered as many of other kinds or other texts, also which set of them."""
    counts = [str(summary["num_prompts"] or "") for summary in summaries]
    kinds = [sorted((name, held.get("num_prompts")) for name, held in summary["by_category"].items()) for summary in summaries]
    same_tokens = len(
        {(label, summary["config"].get("chat_template")) for label, summary in zip(part_labels(summaries, "target"), summaries, strict=True)}
    )
    told = [summary.get("answered") for summary in summaries]  # from the records, where they were read
    which = [f"{names} {hashed if all(told) and same_tokens == 1 else ''}" for names, hashed in zip(kinds, told, strict=True)]
    sets = list(dict.fromkeys(which))
    if len(sets) == len(set(counts)):
        return tuple(counts)
    return tuple(f"{count} (set {sets.index(held) + 1})" for count, held in zip(counts, which, strict=True))


def _setting(summaries: Sequence[Summary], name: str) -> Fact:
    values = tuple(_text(summary["config"].get(name, DEFAULTS[name])) for summary in summaries)
    return Fact(SPOKEN.get(name, name), values, quiet=name not in ALWAYS and set(values) == {_text(DEFAULTS[name])})


def _seed(summary: Summary) -> str:
    if len(summary.get("seeds") or []) > 1:
        return ", ".join(map(str, summary["seeds"])) + " (pooled)"
    seed, drawn = summary["config"]["seed"], summary["config"]["sampling"].get("seed")
    return str(seed) if drawn in (None, seed) else f"{seed}, of sampling {drawn}"


def _origins(summaries: Sequence[Summary], name: str) -> tuple[str, ...]:
    return tuple("" if summary["provenance"].get(name) is None else str(summary["provenance"][name]) for summary in summaries)


def _parts(summaries: Sequence[Summary]) -> list[Fact]:
    """Settings of one target or one data set in which runs over it differ."""
    found = []
    for part, said in LABELLED.items():
        labels = part_labels(summaries, part)
        held = [summary["config"][part] for summary in summaries]
        for name in dict.fromkeys(name for settings in held for name, value in settings.items() if name not in said and not isinstance(value, dict)):
            values = tuple(_text(settings[name]) if name in settings else "" for settings in held)
            if any(len({value for value, label in zip(values, labels, strict=True) if label == own and value}) > 1 for own in set(labels)):
                found.append(Fact(f"{part}.{name}", values))
    return found


def _text(value: Any) -> str:
    render: dict[type, Callable[[Any], str]] = {bool: lambda flag: "yes" if flag else "no", list: lambda items: "/".join(map(str, items)) or "none"}
    return "none" if value is None else render.get(type(value), str)(value)
