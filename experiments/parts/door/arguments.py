"""Options of the jobs that have no configuration: argparse, with its mistakes in one line."""

import argparse
from typing import Any, NoReturn

from experiments.parts.door.command_line import nearest, refuse


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line with the nearest option there is, exit code 2; abbreviations are not taken."""

    def __init__(self, job: str, about: str, **options: Any):
        super().__init__(prog=job, description=about, allow_abbrev=False, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [name for action in self._actions for name in action.option_strings]
            hint = nearest(unknown[0].split("=")[0], flags) if unknown[0].startswith("-") else ";"
            self.error(f"unknown option {unknown[0]!r}{hint} there are {', '.join(flags)}")
        return found

    def error(self, message: str) -> NoReturn:
        refuse(f"{message}; {self.prog} --help says what it takes")
