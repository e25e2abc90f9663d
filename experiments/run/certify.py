"""A run's own proof: looked up among the recorded verdicts and, with `certify=true`, made by the battery before anything is decoded."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.lossless.job import judge_parts
from experiments.parts.build import Parts, checkpoints_of, compose_other, make
from experiments.parts.settings import Settings
from experiments.parts.versions import case_of
from experiments.recording.identity import read_manifest
from experiments.recording.machine import library_versions
from experiments.recording.proofs.code_hash import battery_hash
from experiments.recording.proofs.lookup import COMMITTED, Asked, check_places, verdicts_in
from experiments.recording.proofs.proof import Proof, prove
from experiments.recording.proofs.settings import Case
from experiments.recording.proofs.verdict import effort_of

log = logging.getLogger(__name__)
FOLDER = "proof"  # below the run's own
SHARED = (
    *("target", "drafter", "verifier", "sampling", "data", "seed", "threads", "trusted_packages", "chat_template", "system_prompt"),
    *("split", "dev_share", "stop_at_eos"),
)  # what the battery takes from the run


class Prover:
    """Knows where a run's verdict may be. Raises ValueError for settings of `certify`, `battery` or `proofs` that are wrong, before any work."""

    def __init__(self, config: Mapping[str, Any], settings: Settings, folder: Path, sweep: str | None = None):
        self.config, self.folder = config, folder
        self.wanted = settings.certify  # whether the battery is to be run where no verdict holds
        self.places = [COMMITTED, *([Path(sweep)] if sweep else []), folder / FOLDER, *check_places(settings.proofs or [])]
        self.battery = battery_config(config, settings.battery or {})
        self._standard = effort_of(compose_other("lossless", [])) if settings.battery else effort_of(self.battery)
        self._case: Case | None = None

    def look_up(self, device: str, dtype: str, claims_exact: bool) -> Proof:
        """The proof by the verdicts that are recorded now. Loads no model; `device` and `dtype` are those of the loaded target."""
        self._case = self._case or case_of(self.config, device, dtype, checkpoints_of(self.config))
        asked = Asked(self._case, library_versions(), battery_hash(), effort_of(self.battery), self._standard, codes_of(self.folder))
        return replace(prove(asked, verdicts_in(self.places), claims_exact, self.folder), asked=self.wanted)

    def of_summary(self, summary: Mapping[str, Any]) -> Proof:
        """The proof of a finished run, by what its summary says of the target."""
        origin = summary["provenance"]
        device = origin["device"] if origin["device"] in ("cpu", "mps") else "cuda"
        return self.look_up(device, origin["dtype"], summary.get("claims_exact", summary.get("exact", True)))

    def lacks(self, proof: Proof) -> bool:
        """Whether the battery is to be run."""
        return self.wanted and not proof.settled

    def certified(self, parts: Parts) -> Proof:
        """The recorded proof; where none holds and one is wanted, the battery runs first and its verdict is recorded in the run's folder."""
        model, exact = parts.target.model, parts.verifier.exact
        terms = (model.device.type, str(model.dtype).removeprefix("torch."), exact)
        found = self.look_up(*terms)
        if not self.lacks(found):
            return found
        log.info("certify=true: %s; the battery runs first", found.reason)
        fresh = make(self.config, "drafter")  # what the battery teaches its drafter must not reach the run
        fresh.attach(model)
        judge_parts(self.battery, replace(parts, drafter=fresh), self.folder / FOLDER)
        return self.look_up(*terms)


def battery_config(config: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the battery for the parts of a run. Raises ValueError for options that belong to the run or do not exist."""
    if foreign := [name for name in options if name in SHARED]:
        raise ValueError(f"battery.{foreign[0]}: the battery takes its {foreign[0]} from the run; give options such as effort.samples=2000")
    shared = {name: config[name] for name in SHARED if name in config}
    # a few prompts are enough, and the run itself says which do not fit
    return compose_other("lossless", list(overrides_of(options))) | shared | {"skip_too_long": True}


def overrides_of(options: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """Nested options as Hydra's command line takes them."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from overrides_of(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={'null' if value is None else str(value)}"


def codes_of(folder: Path) -> frozenset[str | None]:
    """Hashes of the code that began and continued a folder; None for a hash that is not known. Raises ForeignFolderError for a damaged manifest."""
    if not (folder / "manifest.json").exists():
        return frozenset()
    held = read_manifest(folder)
    return frozenset(code.get("decoding") for code in (held.get("code") or {}, *(change["from"] for change in held.get("code_changes", []))))
