"""The head of a GGUF file: what is said of the model, and which tensors there are.

Source: the GGUF specification in ggml-org/ggml, versions 2 and 3.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
LONGEST = 1 << 24  # bytes of a text; more is said by damaged files only


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file."""

    dims: tuple[int, ...]
    kind: int  # as ggml numbers the ways to store numbers
    offset: int  # bytes from the start of the data

    @property
    def count(self) -> int:
        return math.prod(self.dims)


@dataclass(frozen=True)
class Header:
    """`fields`: numbers and texts by name; of a list its length. `tensors` by name; `start`: the byte at which their data begin."""

    fields: dict[str, Any]
    tensors: dict[str, Tensor]
    start: int


def read_header(file: Path) -> Header:
    """Raises ValueError, in one line, for what is no GGUF file or is damaged, OSError where the file cannot be read."""
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise ValueError(f"{file} is no GGUF file")
        try:
            return _read(opened)
        except (struct.error, UnicodeDecodeError, KeyError, OverflowError, MemoryError) as error:
            raise ValueError(f"{file} is cut or damaged: its head cannot be read; copy or download it again") from error


def _read(file: BinaryIO) -> Header:
    version, num_tensors, num_fields = _numbers(file, "IQQ")
    if version not in (2, 3):
        raise ValueError(f"{file.name} is GGUF version {version}; 2 and 3 can be read")
    fields: dict[str, Any] = {}
    for _ in range(num_fields):
        name = _text(file)
        fields[name] = _value(file, _numbers(file, "I")[0])
    tensors = {}
    for _ in range(num_tensors):
        name, (num_dims,) = _text(file), _numbers(file, "I")
        dims = _numbers(file, f"{num_dims}Q")
        kind, offset = _numbers(file, "IQ")
        tensors[name] = Tensor(dims, kind, offset)
    step = max(int(fields.get("general.alignment", 32)), 1)
    return Header(fields, tensors, -(-file.tell() // step) * step)


def _numbers(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))


def _text(file: BinaryIO) -> str:
    (length,) = _numbers(file, "Q")
    if length > LONGEST:
        raise OverflowError
    return struct.unpack(f"{length}s", file.read(length))[0].decode("utf-8")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        return _text(file)
    if kind != ARRAY:
        return _numbers(file, FORMATS[kind])[0]
    inner, count = _numbers(file, "IQ")
    if inner in FORMATS:
        file.seek(count * struct.calcsize(f"<{FORMATS[inner]}"), 1)
    else:
        for _ in range(count):
            _value(file, inner) if inner == ARRAY else file.seek(_numbers(file, "Q")[0], 1)
    return count
