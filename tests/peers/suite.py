"""`python -m tests.peers.suite`: transformers' own tests of assisted decoding, over our loop. Exit code 0 where all is as `theirs.txt` says.

The tests are fetched by the version that is installed, into build/peers/, by git. Without git or a network it says so and ends with 0, since what
can be asked without them is asked by `tests/peers/test_assisted.py`.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import transformers

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "peers"
REPOSITORY = "https://github.com/huggingface/transformers"
CHOSEN = "assisted_decoding or prompt_lookup_decoding"  # what pytest's -k selects
EXPECTED = ROOT / "tests" / "peers" / "theirs.txt"
OUTCOME = re.compile(r"^(?P<outcome>FAILED|ERROR) (?P<test>\S+)(?: - (?P<reason>.*))?$", re.MULTILINE)
SECONDS = 300


def fetch(version: str, repository: str = REPOSITORY, place: Path = PLACE) -> Path | None:
    """The folder with the tests of a version, fetched once; None where they cannot be had."""
    folder = place / f"transformers-{version}"
    if (folder / "tests" / "generation").is_dir():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    clone = ["git", "clone", "--quiet", "--depth=1", "--filter=blob:none", "--sparse", f"--branch=v{version}", repository, str(folder)]
    for command in (clone, ["git", "-C", str(folder), "sparse-checkout", "set", "tests"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env={**os.environ, "GIT_TERMINAL_PROMPT": "0"})
        except (OSError, subprocess.TimeoutExpired) as error:
            print(f"transformers' tests cannot be fetched: {error}")
            return None
        if done.returncode:
            print(f"transformers' tests cannot be fetched: {(done.stderr.strip().splitlines() or ['git gave no reason'])[-1]}")
            return None
    return folder


def run(folder: Path) -> tuple[dict[str, str], str]:
    """Runs the chosen tests; what did not pass, with its reason, and pytest's last line."""
    options = [
        "-q",
        "-rfE",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.peers.routed",
        "-k",
        CHOSEN,
        "-c",
        os.devnull,
        f"--rootdir={folder}",
    ]
    files = sorted(str(path) for path in (folder / "tests" / "models").glob("*/test_modeling_*.py"))
    paths = os.pathsep.join([str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "1000"},  # so that no reason is cut
    )
    print(done.stdout[-3000:])
    found = {match["test"]: match["reason"] or "" for match in OUTCOME.finditer(done.stdout)}
    return found, done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-300:]


def expected(file: Path = EXPECTED) -> dict[str, str]:
    """Pattern of a test's name -> pattern of its reason: what is known not to pass."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")]
    return dict(line.split("\t", 1) for line in lines)


def surprises(found: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    """What did not pass and is not known not to."""
    return [
        f"{test}: {reason}"
        for test, reason in found.items()
        if not any(re.search(name, test) and re.search(why, reason) for name, why in known.items())
    ]


def main() -> int:
    folder = fetch(transformers.__version__)
    if folder is None:
        print(f"not run: transformers' own tests of version {transformers.__version__}; the ports of them were run by pytest -m peers")
        return 0
    found, last = run(folder)
    new = surprises(found, expected())
    print("\n".join([f"{len(found)} did not pass, {len(found) - len(new)} of them as theirs.txt says", *new, last]))
    return int(bool(new))


if __name__ == "__main__":
    sys.exit(main())
