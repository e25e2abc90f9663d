"""Lines of a log that are said once in a process."""

import logging
from functools import lru_cache


@lru_cache(maxsize=256)
def say_once(log: logging.Logger, line: str) -> None:
    """Raises nothing; the same line to the same log is dropped from the second time on."""
    log.warning(line)
