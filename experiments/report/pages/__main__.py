"""Writes the tables of README and docs between their marks. `python -m experiments.report.pages`.

With `--check` nothing is written, and the exit code is 1 if a page is not up to date. Exit code 2: a page or a record is missing.
"""

import argparse
import sys

from experiments.report.pages import exactness, slots, speed

SOURCES = (exactness, slots, speed)  # each says by `pages()` what its pages should hold


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.report.pages", description="The tables of README and docs, from committed records.")
    parser.add_argument("--check", action="store_true", help="write nothing; say which pages are not up to date")
    options = parser.parse_args(arguments)
    stale = 0
    for source in SOURCES:
        try:
            wanted = source.pages()
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        for path, text in wanted.items():
            if text == path.read_text(encoding="utf-8"):
                continue
            if options.check:
                print(f"{path} is not up to date; run python -m experiments.report.pages")
                stale = 1
            else:
                path.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
