"""The command `draftproof`. Looks whether our packages are ours before anything else is imported."""

import sys
from importlib.util import find_spec
from pathlib import Path

__version__ = "0.1.0"
OURS = ("spec", "drafters", "verifiers", "experiments", "conf")
HERE = Path(__file__).resolve().parent


def stranger() -> str | None:
    """One line about the first of our packages that is another project's, or is not there; None if all are ours. Imports none of them."""
    for name in OURS:
        found = sys.modules[name].__spec__ if name in sys.modules else find_spec(name)
        places = list(found.submodule_search_locations or [found.origin]) if found else []
        if not any(place and Path(place).resolve() == HERE / name for place in places):
            where = f"is taken by {places[0]}" if places and places[0] else "is not there"
            return (
                f"the package {name!r} of Draftproof ({HERE / name}) {where}; "
                + ("uninstall or rename that one, or start in another folder, " if places else "install Draftproof again, ")
                + f"or run in Draftproof's own folder: cd {HERE} && python -m experiments"
            )
    return None


def main() -> None:
    """The console command."""
    if problem := stranger():
        print(f"error: {problem}", file=sys.stderr)
        raise SystemExit(2)
    from experiments.parts.door.enter import door

    door(sys.argv[1:])


if __name__ == "__main__":
    main()
