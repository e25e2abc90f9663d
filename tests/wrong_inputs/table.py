"""The table of wrong inputs and its making: `python -m tests.wrong_inputs.table` runs every command again and writes what it answers.

A process imports everything once and forks for each command, so that a hundred of them take a minute. In the table `{t}` is the folder of `material`,
`{root}` that of the project, and `...` stands for what depends on versions.
"""

import os
import re
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("table.txt")
ROOT = FILE.parents[2]
LIMIT = 20.0  # seconds a command may take


@dataclass(frozen=True)
class Row:
    """A command, without `draftproof`, its exit code, and all that it says on stderr."""

    command: str
    code: int
    said: str

    def matches(self, found: "Row") -> bool:
        """Whether a command did as this row says; `...` in a row stands for anything."""
        pattern = ".*".join(re.escape(part) for part in self.said.split("..."))
        return self.code == found.code and re.fullmatch(pattern, found.said) is not None


def read(file: Path = FILE) -> list[Row]:
    """Rows of the table: a line `$ command`, and a line with code and answer."""
    found, command = [], ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("$ "):
            command = line[2:]
        elif line and not line.startswith("#"):
            code, _, said = line.partition(" ")
            found.append(Row(command, int(code), said.strip()))
    return found


def run_all(commands: Sequence[str], material: Path) -> Iterator[Row]:
    """What every command answers, each in a fork of this process, which has imported all jobs, and in an empty folder."""
    import_everything()
    for command in commands:
        with tempfile.TemporaryDirectory() as name:
            started = time.monotonic()
            row = run_forked(command, material, Path(name))
            if (spent := time.monotonic() - started) > 5:
                print(f"{spent:.0f} s: {command}", flush=True)
            yield row


def import_everything() -> None:
    import draftproof  # noqa: F401
    from experiments.parts.door.enter import main_of
    from experiments.parts.door.jobs import JOBS

    for job in JOBS.values():
        main_of(job)


def run_forked(command: str, material: Path, folder: Path) -> Row:
    """One command in a child of this process."""
    out, err = folder / "out", folder / "err"
    (folder / "work").mkdir()
    child = os.fork()
    if child == 0:
        os._exit(_as_a_command(command.replace("{t}", str(material)), folder / "work", out, err))
    deadline = time.monotonic() + LIMIT
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return Row(command, os.waitstatus_to_exitcode(status), told(err.read_text(errors="replace"), material, folder))
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Row(command, -9, f"no answer in {LIMIT:.0f} seconds")
        time.sleep(0.005)


def _as_a_command(command: str, work: Path, out: Path, err: Path) -> int:
    """In the child: the command with its own streams; returns its exit code."""
    import draftproof

    for number, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    os.chdir(work)
    sys.argv = ["draftproof", *shlex.split(command)]
    try:
        draftproof.main()
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def told(text: str, material: Path, folder: Path) -> str:
    """What a command has said, as it stands in the table."""
    named = text.replace(str(material), "{t}").replace(str(folder / "work"), "{here}").replace(str(ROOT), "{root}")
    named = re.sub(r"0x[0-9a-f]+|: line \d+ column \d+ \(char \d+\)", "...", named)  # where an object or a fault lies
    missing = r"(?:Unterminated string|Expecting [^()]*|Extra data)[^()]*\.\.\."  # it depends on where a file is cut
    named = re.sub(missing, "...", named)
    return " | ".join(line.strip() for line in named.splitlines() if line.strip())


def main() -> None:
    """Writes the table again, for the commands that stand in it."""
    from tests.wrong_inputs.material import RUN, make

    with tempfile.TemporaryDirectory() as name:
        material = Path(name)
        ready = material.parent / f"{material.name}-run"
        assert record(ready, RUN) == 0
        make(material, ready)
        lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line.startswith(("$ ", "#"))]
        rows = iter(run_all([line[2:] for line in lines if line.startswith("$ ")], material))
        text = []
        for line in lines:
            text.append(line)
            if line.startswith("$ "):
                row = next(rows)
                text.append(f"{row.code} {row.said}")
        FILE.write_text("\n".join(text) + "\n", encoding="utf-8")


def record(folder: Path, options: Sequence[str]) -> int:
    """A small run of the main job for `material` to damage."""
    import subprocess

    code = "import sys, draftproof; sys.argv[0] = 'draftproof'; draftproof.main()"
    return subprocess.run(
        [sys.executable, "-c", code, "run", *options, f"hydra.run.dir={folder}"], cwd=ROOT, capture_output=True, check=False
    ).returncode


if __name__ == "__main__":
    main()
