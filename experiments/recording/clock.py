"""Seconds of a call and of the forwards in it, and whether the machine had something else to do meanwhile."""

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

BUSY_SHARE = 0.75  # share of the cores that other processes want: above it a run is marked
WAITED = 0.9  # process time below this share of wall time on one thread: the process had to wait


@dataclass(frozen=True)
class Site:
    """A method that runs one forward per call, and the role whose forward it is: "target" or "drafter"."""

    owner: Any
    method: str
    role: str


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Time inside watched calls: `perf_counter` on the CPU; on CUDA events among the kernels, read once everything is done.

    A call inside a watched call counts once.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.reset()

    def reset(self) -> None:
        self.marks: list[tuple[str, Any, Any]] = []
        self._inside = False

    @contextmanager
    def watch(self, sites: Sequence[Site]) -> Iterator[None]:
        """Watches while the context lasts; every method comes back as it was."""
        with ExitStack() as stack:
            for site in sites:
                timed = self._timed(getattr(site.owner, site.method), site.role)
                stack.enter_context(replaced_attribute(site.owner, site.method, timed))
            yield

    @property
    def forwards(self) -> list[tuple[str, float]]:
        """(role, seconds) of every watched call in order."""
        synchronise(self.device)
        if self.device.type == "cuda":
            return [(role, before.elapsed_time(after) / 1000) for role, before, after in self.marks]
        return [(role, after - before) for role, before, after in self.marks]

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _timed(self, original: Callable, role: str) -> Callable:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return original(*args, **kwargs)
            self._inside, start = True, self._now()
            try:
                return original(*args, **kwargs)
            finally:
                self.marks.append((role, start, self._now()))
                self._inside = False

        timed.__signature__ = inspect.signature(original)  # pyright: ignore[reportFunctionMemberAccess]  generate() looks at it
        return timed


@contextmanager
def replaced_attribute(thing: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute of an object replaced while the context lasts; a method of its class shows through again afterwards."""
    had, own = name in vars(thing), vars(thing).get(name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        if had:
            setattr(thing, name, own)
        else:
            delattr(thing, name)


@dataclass(frozen=True)
class Spent:
    """What one call took."""

    seconds: float  # wall clock, until the device was done
    process_seconds: float  # of all threads of this process
    forwards: list[tuple[str, float]]  # (role, seconds) of every forward in it

    def forward_seconds(self, role: str | None = None) -> float:
        """Seconds of one role's forwards, or of all."""
        return sum(seconds for whose, seconds in self.forwards if role in (None, whose))

    def num_forwards(self, role: str) -> int:
        return sum(whose == role for whose, _ in self.forwards)


def timed(work: Callable[[], Any], watch: Stopwatch) -> tuple[Any, Spent]:
    """The result of a call and what it took."""
    watch.reset()
    synchronise(watch.device)
    start, process = time.perf_counter(), time.process_time()
    made = work()
    synchronise(watch.device)
    return made, Spent(time.perf_counter() - start, time.process_time() - process, watch.forwards)


def signs_of_load(before: float | None, after: float | None, cores: int, threads: int, waiting: float | None) -> list[str]:
    """Why timings of a run cannot be trusted; none if they can. `waiting`: process over wall seconds of a run on one thread."""
    found, most = [], BUSY_SHARE * cores
    if before is not None and before > most:
        found.append(f"load average {before:.2f} before the run, on {cores} cores")
    if after is not None and after - threads > most:
        found.append(f"load average {after:.2f} after a run of {threads} threads, on {cores} cores")
    if waiting is not None and waiting < WAITED:
        found.append(f"the process ran {waiting:.0%} of the time only")
    return found


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call, to the end of what it started on the device."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
