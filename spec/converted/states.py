"""What there is in the cache: every published model, there or not, and whatever else was converted."""

from dataclasses import dataclass
from pathlib import Path

from spec.converted.kept import MAKING, damage, made
from spec.converted.named import CONVERSION, home, place_of
from spec.converted.published import PUBLISHED, megabytes


@dataclass(frozen=True)
class State:
    """What there is of a model. `size`: bytes on disk, or those that it would take."""

    name: str
    state: str
    size: int
    license: str
    terms: str
    path: Path


def states() -> list[State]:
    """Every published model, there or not, and whatever else was converted."""
    known = [_state_of(place_of(name), name) for name in PUBLISHED]
    rest = [path for path in sorted(home().glob("[!.]*-v*")) if MAKING not in path.name and path not in {item.path for item in known}]
    return known + [_state_of(path, str(made(path).get("name", path.name))) for path in rest]


def _state_of(folder: Path, name: str) -> State:
    model, about = PUBLISHED.get(name), made(folder)
    license, terms = (model.license, model.terms) if model else (str(about.get("license", "")), str(about.get("terms", "")))
    if not folder.exists():
        assert model is not None
        return State(name, f"not fetched ({megabytes(model.download)})", model.size, license, terms, folder)
    if not folder.name.endswith(f"-v{CONVERSION}"):
        state = f"of another version of the conversion ({folder.name.rpartition('-v')[2]}, not {CONVERSION}), not used: remove it"
    else:
        wrong = damage(folder)
        state = "there" if wrong is None else f"damaged ({wrong}): made anew when it is used"
    return State(name, state, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), license, terms, folder)
