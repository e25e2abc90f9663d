"""Verdicts on record: what makes two of them the same, which one a result is shown with, and what is never taken for a proof."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from experiments.lossless import proofs as command
from experiments.recording.proofs import verdict as verdicts
from experiments.recording.proofs.code_hash import code_hash
from experiments.recording.proofs.lookup import Asked, candidates, check_places, verdicts_in, weaker, why_none
from experiments.recording.proofs.proof import Proof, mark_of, prove
from experiments.recording.proofs.settings import Case, settings_of
from experiments.recording.proofs.verdict import Recorded, name_of, read, record_of, write
from tests.experiments.recorded import PROVENANCE, config
from tests.experiments.recording.test_code_hash import settings

ROOT = Path(__file__).resolve().parents[3]
EFFORT: dict[str, Any] = {"effort": {"samples": 6000, "mutants": True, "tokens": None}, "num_prompts": 3}
CHECKS = [{"name": "frequencies", "verdict": "pass"}, {"name": "declared distributions", "verdict": "not applicable"}]
LABELS = {"target": "embedded", "drafter": "prompt_lookup", "verifier": "recursive", "data": "embedded", "sampling": "T=0.8"}


def a_record(verdict: str = "pass", code: str = "code1", date: str = "2026-01-01", **changes: Any) -> dict[str, Any]:
    """A record as the battery would write it."""
    case = Case(settings(), code, changes.pop("models", {"target": {"name": "embedded/target", "version": "v1"}}))
    fails = [{"name": "enumerated loop", "verdict": "fail"}] if verdict == "fail" else []
    result = {"verdict": verdict, "checks": [*CHECKS, *fails], "mutants": changes.pop("mutants", []), "labels": LABELS}
    result |= {"config": changes.pop("effort", EFFORT), "provenance": {**PROVENANCE, "date": date, **changes}}
    return record_of(result, case)


def asked(**changes: Any) -> Asked:
    case = Case(
        settings(),
        changes.pop("code", "code1"),
        {"target": {"name": changes.pop("name", "embedded/target"), "version": changes.pop("version", "v1")}},
    )
    terms = {"versions": {"torch": "2.13", "transformers": None}, "battery": verdicts.battery_hash(), "effort": EFFORT, "standard": EFFORT}
    return Asked(**({"case": case} | terms | changes))


def proof(*records: dict[str, Any], claims_exact: bool = True, **changes: Any) -> Proof:
    held = [Recorded(Path(f"{index}.verdict.json"), record) for index, record in enumerate(records)]
    return prove(asked(**changes), held, claims_exact, Path("run"))


def test_a_pass_on_the_same_terms_is_a_proof() -> None:
    record = a_record()
    found = proof(record)
    assert (found.verdict, found.exact, found.settled, found.mark) == ("pass", True, True, f"pass {name_of(record)}")
    assert found.to_json()["record"]["checks"] == CHECKS


@pytest.mark.parametrize(
    ("changes", "short", "settled"),
    [
        ({"name": "org/other", "version": "v2"}, "on embedded", False),
        ({"version": "v2"}, "on embedded of another version", False),
        ({"versions": {"torch": "2.11", "transformers": None}}, "torch 2.13", False),
        ({"battery": "newer"}, "other battery", False),
        ({"standard": EFFORT | {"num_prompts": 9}}, "less effort", True),
    ],
)
def test_a_pass_on_other_terms_says_so_and_is_not_exact(changes: dict[str, Any], short: str, settled: bool) -> None:
    found = proof(a_record(), **changes)
    assert found.mark.endswith(f"({short})")
    assert (found.verdict, found.exact, found.settled) == ("pass", None, settled)


def test_a_model_is_known_by_its_contents() -> None:
    assert proof(a_record(), name="a/copy").exact is True
    assert proof(a_record(), name="a/copy", version=None).exact is None
    assert proof(a_record(), version=None).exact is True


def test_other_code_is_not_judged() -> None:
    found = proof(a_record(), code="code2")
    assert (found.verdict, found.exact, found.mark) == ("not judged", None, "not judged")
    assert "judged for other code (pass, 0.verdict.json, code code1; this is code2)" in found.reason


def test_what_is_near_is_named_and_does_not_count() -> None:
    graphs = Case(settings_of(config(), "cpu", "bfloat16"), "code1", {})
    found = proof(a_record(), case=graphs)
    assert found.verdict == "not judged"
    assert "dtype=float32 instead of bfloat16" in found.reason
    assert "no verdict on these settings" in why_none(asked(), [])


def test_incomplete_is_no_proof() -> None:
    found = proof(a_record("incomplete"))
    assert (found.verdict, found.exact) == ("incomplete", None)
    assert proof(a_record("incomplete"), a_record()).exact is True


def test_a_fail_counts_before_a_pass_on_the_same_terms() -> None:
    failed = proof(a_record(date="2026-03-03"), a_record("fail", effort=EFFORT | {"num_prompts": 1}))
    assert (failed.verdict, failed.exact, failed.disproved) == ("fail", False, True)
    assert "enumerated loop" in failed.reason
    assert failed.mark.startswith("FAIL ")


def test_a_fail_by_an_older_battery_or_on_other_models_does_not_hide_a_pass() -> None:
    older = a_record("fail") | {"battery": "older"}
    others = a_record("fail", models={"target": {"name": "x", "version": "v9"}})
    assert proof(older, others, a_record()).exact is True
    assert not proof(others).disproved
    assert proof(others).exact is None


def test_the_newest_of_equals_counts() -> None:
    old, new = (a_record(date=f"2026-0{month}-01") for month in (1, 2))
    held = [Recorded(Path(name), record) for name, record in (("new", new), ("old", old))]
    assert [found.recorded.file.name for found in candidates(asked(), held)] == ["new", "old"]


def test_lossy_and_plain_decoding_have_words_of_their_own() -> None:
    lossy = proof(a_record(), claims_exact=False)
    assert (lossy.verdict, lossy.mark, lossy.exact, lossy.settled) == ("lossy", "lossy", False, True)
    case = Case(settings(drafter={"_target_": "drafters.none.NoDraft"}), "code1", {})
    assert (proof(case=case).mark, proof(case=case).exact) == ("the reference itself", None)
    assert mark_of({"exact": True}) == "not judged"  # of a summary that knows the verifier's word only


def test_records_of_two_versions_of_the_code_have_no_proof() -> None:
    found = proof(a_record(), codes=frozenset({"code0", "code1"}))
    assert (found.verdict, found.settled) == ("not judged", True)
    assert "more than one version" in found.reason
    assert proof(a_record(), codes=frozenset({"code1"})).exact is True


def test_less_effort_is_told_from_more() -> None:
    assert weaker({"effort": {"samples": 500, "mutants": False, "tokens": 2}}, EFFORT) == (
        "effort.samples=500 instead of 6000, effort.mutants=False instead of True, effort.tokens=2 instead of None"
    )
    assert weaker({"effort": {"samples": 9000, "mutants": True, "tokens": None}, "num_prompts": None}, EFFORT) == ""


def test_a_record_is_read_as_it_was_written_alone_and_in_a_result(tmp_path: Path) -> None:
    record = a_record()
    assert read(write(record, tmp_path)).record == record
    assert write(record, tmp_path).name == f"prompt_lookup-recursive-T0.8-{record['key']}.verdict.json"
    (tmp_path / "lossless.json").write_text(json.dumps({"verdict": "pass", "checks": [], "record": record}))
    assert read(tmp_path / "lossless.json").record == record
    assert len(verdicts_in([tmp_path, tmp_path / "lossless.json"])) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"verdict": "pa', "cannot be read as a verdict"),
        ("\x00\xff", "cannot be read as a verdict"),
        ("[1, 2]", "is not a verdict"),
        ('{"verdict": "pass", "checks": [], "mutants": []}', "is not a verdict"),
        (json.dumps(a_record() | {"code": "code2"}), "edited by hand"),
        (json.dumps(a_record() | {"settings": {}}), "edited by hand"),
        (json.dumps({name: value for name, value in a_record().items() if name != "code"}), "is not a verdict"),
    ],
)
def test_a_damaged_or_foreign_file_is_one_line_that_names_it(tmp_path: Path, content: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "lossless.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=said) as caught:
        read(tmp_path / "lossless.json")
    assert "\n" not in str(caught.value)
    with caplog.at_level(logging.WARNING):
        assert verdicts_in([tmp_path]) == []
    assert caplog.messages == [str(caught.value)]
    assert str(tmp_path / "lossless.json") in caplog.messages[0]


@pytest.mark.parametrize(
    "changes", [{"verdict": "passed"}, {"checks": []}, {"checks": [{"name": "a", "verdict": "fail"}]}, {"mutants": {"surviving": ["M1"]}}]
)
def test_a_pass_that_its_own_checks_do_not_bear_out_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    record = a_record() | changes
    (tmp_path / "a.verdict.json").write_text(json.dumps(record | {"digest": verdicts.digest(record)}))
    with pytest.raises(ValueError, match="says"):
        read(tmp_path / "a.verdict.json")


def test_places_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    assert check_places([tmp_path]) == [tmp_path]
    with pytest.raises(ValueError, match="does not exist"):
        check_places([tmp_path / "nothing"])
    with pytest.raises(ValueError, match="give a list"):
        check_places("multirun")


def test_verdicts_are_kept_by_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep, kept = tmp_path / "sweep", tmp_path / "kept"
    for name, record in (
        ("0", a_record(code=code_hash())),
        ("1", a_record("fail", code=code_hash(), date="2026-02-02")),
        ("2", a_record(code="old")),
    ):
        (sweep / name).mkdir(parents=True)
        (sweep / name / "lossless.json").write_text(json.dumps({"verdict": "", "checks": [], "record": record}))
    assert command.main([str(sweep), "--into", str(kept)]) == 1
    assert "was judged for other code (old)" in capsys.readouterr().out
    assert [item.verdict for item in verdicts_in([kept])] == ["fail"]  # the later one on the same settings and models
    assert command.main(["--into", str(kept)]) == 0
    assert "1 verdicts, 1 of them for this code" in capsys.readouterr().out
    (sweep / "0" / "lossless.json").write_text("{")
    assert command.main([str(sweep), "--into", str(kept)]) == 2
    assert command.main([str(tmp_path / "kept" / "nothing")]) == 2


def test_the_verdicts_that_come_with_the_package_can_be_read(caplog: pytest.LogCaptureFixture) -> None:
    verdicts_in([ROOT / "experiments" / "records" / "verdicts"])
    assert caplog.messages == []
