"""The kernels of `kernel.cpp`, built by the system's compiler when it is first wanted, and kept in the user's cache folder.

A file there is named by what it was made from (sources, flags and kind of processor) and by its own content: one that was damaged is made anew, and
of two processes that build at once each puts a whole file in place.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

SOURCE = Path(__file__).with_name("kernel.cpp")  # includes the headers beside it
COMPILERS = ("g++", "clang++", "c++")  # $CXX comes first
FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC")
BY_CAPABILITY = {"AVX512": ("-mavx512f",), "AVX2": ("-mavx2", "-mfma", "-mf16c")}  # as torch names what the processor can
ARM = ("aarch64", "arm64")
LOG = logging.getLogger(__name__)
SECONDS = 120  # that a compiler may take
ADDRESS, SIZE, FLAG = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int


class NoKernel(RuntimeError):  # noqa: N818  an answer rather than an error
    """There is no kernel here; the message says why."""


@dataclass(frozen=True)
class Kernel:
    """The functions, the processor's instructions that they are made of, and the seconds that building took, None where it was built before."""

    call: Any  # widened_linear
    forward: Any  # decoder_forward
    instructions: str
    build_seconds: float | None


def kernel() -> Kernel:
    """The kernel of this process, built or loaded at the first call. Raises NoKernel."""
    found = _found()
    if isinstance(found, NoKernel):
        raise found
    return found


@cache
def _found() -> Kernel | NoKernel:
    try:
        found = load(instructions(), cache_folder())
        if found.build_seconds is not None:
            LOG.warning("code for this processor was built, once, in %.1f s", found.build_seconds)
        return found
    except NoKernel as error:
        return error
    except (
        OSError,
        subprocess.SubprocessError,
        AttributeError,
        RuntimeError,
        ValueError,
    ) as error:  # a library without the function, no home, a $CXX
        return NoKernel(f"{type(error).__name__}: {' '.join(str(error).split())}")


def instructions() -> str:
    """The instructions that the kernel can use here. Raises NoKernel for a processor that has none of them."""
    if platform.machine() in ARM:
        return "NEON"
    found = torch.backends.cpu.get_cpu_capability()
    if found not in BY_CAPABILITY:
        raise NoKernel(f"this processor ({platform.machine()}, {found}) has neither AVX-512 nor AVX2 nor NEON")
    return found


def cache_folder() -> Path:
    """XDG_CACHE_HOME counts where it is an absolute path, as its specification says."""
    wanted = Path(os.environ.get("XDG_CACHE_HOME") or ".")
    return (wanted if wanted.is_absolute() else Path.home() / ".cache") / "draftproof"


def load(instructions: str, folder: Path) -> Kernel:
    """The kernel for a processor, from `folder` or built into it. Raises NoKernel, or OSError for a folder or a file that cannot be used."""
    flags, start = (*FLAGS, *BY_CAPABILITY.get(instructions, ())), time.perf_counter()
    kind = " ".join((platform.system(), platform.machine(), *flags))
    sources = [SOURCE.read_bytes(), *(header.read_bytes() for header in sorted(SOURCE.parent.glob("*.h")))]
    made_from = hashlib.sha256(b"".join(sources) + kind.encode()).hexdigest()[:16]
    file, seconds = _kept(folder, made_from), None
    if file is None:
        file, seconds = _built(flags, folder, made_from), time.perf_counter() - start
    library = ctypes.CDLL(str(file))
    call, forward = library.widened_linear, library.decoder_forward
    call.argtypes, call.restype = [ADDRESS] * 4 + [SIZE] * 4 + [FLAG] * 2, None
    forward.argtypes, forward.restype = [ADDRESS] * 2, SIZE
    return Kernel(call, forward, instructions, seconds)


def find_compiler() -> list[str]:
    """$CXX, or the first C++ compiler on PATH. Raises NoKernel where there is none."""
    wanted = shlex.split(os.environ.get("CXX", ""))
    found = [wanted] if wanted else [[name] for name in COMPILERS]
    for command in found:
        if shutil.which(command[0]):
            return command
    raise NoKernel(f"there is no C++ compiler ({', '.join(command[0] for command in found)}); install one or set CXX")


def _kept(folder: Path, made_from: str) -> Path | None:
    """The file that was built before; damaged ones are removed."""
    for file in filter(Path.is_file, sorted(folder.glob(f"{made_from}-*.so"))):
        if file.stem == f"{made_from}-{_digest(file)}":
            return file
        file.unlink(missing_ok=True)
    return None


def _built(flags: tuple[str, ...], folder: Path, made_from: str) -> Path:
    """With threads where the compiler has OpenMP, else without."""
    compiler = find_compiler()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made, said = Path(scratch) / "kernel.so", ""
        for threads in (("-fopenmp",), ()):
            command = [*compiler, *flags, *threads, str(SOURCE), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
            if done.returncode == 0:
                place = folder / f"{made_from}-{_digest(made)}.so"
                os.replace(made, place)
                return place
            said = next((line for line in done.stderr.splitlines() if "error" in line), f"exit code {done.returncode}")
    raise NoKernel(f"{compiler[0]} could not build it: {said}")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
