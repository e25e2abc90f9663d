"""Finds the verdict that a result can be shown with. The rule: settings and code must be equal; everything else that differs is said.

It looks at the verdicts that come with the package, those of the run's own folder and sweep, and the files and folders in `proofs`; at nothing
else, so that no verdict is found by surprise. A folder is searched, at any depth, for `lossless.json` and `*.verdict.json`.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.recording.proofs.settings import Case
from experiments.recording.proofs.verdict import FAIL, INCOMPLETE, PASS, SUFFIX, Recorded, read

log = logging.getLogger(__name__)
COMMITTED = Path(__file__).resolve().parents[2] / "records" / "verdicts"
RANK = {FAIL: 0, PASS: 1, INCOMPLETE: 2}  # the first counts where verdicts on equal terms disagree
LIBRARIES = ("torch", "transformers")
HOW = "certify=true judges it before the run"


@dataclass(frozen=True)
class Asked:
    """What is to be proved, and the terms on which a verdict would be passed now: versions of libraries, the battery, its effort.

    `standard` is the battery's effort by default, below which a verdict is said to be passed with less.
    """

    case: Case
    versions: Mapping[str, Any]
    battery: str
    effort: Mapping[str, Any]
    standard: Mapping[str, Any]
    codes: frozenset[str | None] = frozenset()  # hashes of the code that made the records, if it is not the present code alone


@dataclass(frozen=True)
class Difference:
    """One thing in which a verdict was passed on other terms. `short` stands in tables; `models` says that it is about them."""

    short: str
    long: str
    models: bool = False
    effort: bool = False


@dataclass(frozen=True)
class Found:
    """A verdict on the very settings and code, and how its terms differ."""

    recorded: Recorded
    differences: tuple[Difference, ...] = ()
    enough: bool = True  # judged with no less effort than was asked for now

    @property
    def same_models(self) -> bool:
        return not any(item.models for item in self.differences)

    @property
    def same_terms(self) -> bool:
        """Whether nothing but the effort differs."""
        return all(item.effort for item in self.differences)


def verdicts_in(places: Sequence[Path]) -> list[Recorded]:
    """Every verdict at or below the places. A file that is none is left out, and a warning of one line names it."""
    found = []
    for file in dict.fromkeys(file for place in places for file in files_in(place)):
        try:
            found.append(read(file))
        except ValueError as error:
            log.warning("%s", error)
    return found


def files_in(place: Path) -> list[Path]:
    """The files at or below a place that should be verdicts."""
    if place.is_file():
        return [place]
    return sorted({*place.rglob("lossless.json"), *place.rglob(f"*{SUFFIX}")})


def check_places(places: Sequence[Any]) -> list[Path]:
    """The paths in the setting `proofs`. Raises ValueError for one that does not exist."""
    if not isinstance(places, list | tuple):
        raise ValueError(f"proofs={places}: give a list of files and folders, as in proofs=[multirun]")
    paths = [Path(str(place)) for place in places]
    if missing := [str(path) for path in paths if not path.exists()]:
        raise ValueError(f"proofs={missing[0]} does not exist; give files and folders that hold verdicts of draftproof lossless")
    return paths


def candidates(asked: Asked, held: Sequence[Recorded]) -> list[Found]:
    """Verdicts on these settings by this code, the one that counts first.

    First those passed on the same terms, whatever their effort, so that neither a quick nor a thorough pass hides a fail. Among them a fail counts
    before a pass, a pass before an incomplete one; then equal effort, then the newest.
    """
    case, newest = asked.case, sorted(held, key=lambda item: str(item.record["provenance"]["date"]), reverse=True)
    own = [item for item in newest if item.record["settings"] == case.settings and item.record["code"] == case.code]
    found = [Found(item, tuple(differences(asked, item.record)), not weaker(item.record["effort"], asked.effort)) for item in own]
    return sorted(found, key=_order)


def differences(asked: Asked, record: Mapping[str, Any]) -> Iterator[Difference]:
    """The terms on which the verdict was passed that differ from the present ones."""
    for part, now in asked.case.models.items():
        then = record["models"].get(part) or {"name": "no model", "version": None}
        if not _same_model(now, then):
            short = f"on {_short(then['name'])}" if part == "target" else f"with {_short(then['name'])}"
            changed = " of another version" if now["name"] == then["name"] else ""
            yield Difference(short + changed, f"judged with the {part} {then['name']}{changed}, this is {now['name']}", models=True)
    then = record["provenance"]["versions"] or {}
    for name in LIBRARIES:
        if then.get(name) != asked.versions.get(name):
            yield Difference(f"{name} {then.get(name)}", f"judged with {name} {then.get(name)}, this is {asked.versions.get(name)}")
    if record["battery"] != asked.battery:
        yield Difference("other battery", "judged by another version of the battery")
    if less := weaker(record["effort"], asked.standard):
        yield Difference("less effort", f"judged with {less}", effort=True)


def weaker(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Settings by which one effort looks less hard than another; empty if there are none. A setting of None means all."""
    pairs = ((name, value, dict(_flat(then)).get(name)) for name, value in _flat(now))
    return ", ".join(f"{name}={held} instead of {value}" for name, value, held in pairs if _less(held, value))


def _less(held: Any, value: Any) -> bool:
    if held is None or held == value:
        return False
    return value is None or not isinstance(held, int | float) or not isinstance(value, int | float) or held < value


def why_none(asked: Asked, held: Sequence[Recorded]) -> str:
    """Why there is no verdict, in one sentence."""
    case = asked.case
    same = [item for item in held if item.record["settings"] == case.settings]
    if same:
        last = max(same, key=lambda item: str(item.record["provenance"]["date"]))
        return f"judged for other code ({last.verdict}, {last.file.name}, code {last.record['code']}; this is {case.code}); {HOW}"
    near = [item for item in held if without_target(item.record["settings"]) == without_target(case.settings)]
    if near:
        last, here = near[-1], case.settings["target"]
        other = _changed(last.record["settings"]["target"], here)
        return f"judged for another arithmetic or runtime only ({last.verdict}, {last.file.name}: {other}); {HOW}"
    return f"no verdict on these settings is recorded; {HOW}"


def without_target(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in settings.items() if name != "target"}


def _order(found: Found) -> tuple[bool, bool, int, int]:
    return not found.same_terms, not found.same_models, RANK[found.recorded.verdict], len(found.differences)


def _same_model(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Equal contents are one model, wherever they lie; where a version is not known the name must do."""
    if one["version"] is None or other["version"] is None:
        return one["name"] == other["name"]
    return one["version"] == other["version"]


def _short(name: str | None) -> str:
    return "embedded" if name == "embedded/target" else str(name).rstrip("/").split("/")[-1]


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Settings in which two differ: what they were, and what they are."""
    flat_then, flat_now = dict(_flat(then)), dict(_flat(now))
    names = [name for name in dict.fromkeys([*flat_then, *flat_now]) if flat_then.get(name) != flat_now.get(name)]
    return ", ".join(f"{name}={flat_then.get(name)} instead of {flat_now.get(name)}" for name in names)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
