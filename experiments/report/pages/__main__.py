"""Writes the tables of README and docs between their marks. `python -m experiments.report.pages`.

With `--check` nothing is written, and the exit code is 1 if a page is not up to date. Exit code 2: a page or a record is missing, or a record was not
made at a clean commit.
"""

import sys
from pathlib import Path

from experiments.parts.door.arguments import Parser
from experiments.parts.door.plain import answered
from experiments.report.pages import exactness, slots, speed

SOURCES = (exactness, slots, speed)  # each says by `pages()` what its pages should hold


def main(arguments: list[str] | None = None) -> int:
    parser = Parser("python -m experiments.report.pages", "The tables of README and docs, from committed records.")
    parser.add_argument("--check", action="store_true", help="write nothing; say which pages are not up to date")
    options = parser.parse_args(arguments)
    return answered(lambda: max(bring_up_to_date(source.pages(), options.check) for source in SOURCES))


def bring_up_to_date(pages: dict[Path, str], check: bool) -> int:
    """Writes the pages that are not as they ought to be, or says which they are; the exit code."""
    stale = {path: text for path, text in pages.items() if text != path.read_text(encoding="utf-8")}
    for path, text in stale.items():
        if check:
            print(f"{path} is not up to date; run python -m experiments.report.pages")
        else:
            path.write_text(text, encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
