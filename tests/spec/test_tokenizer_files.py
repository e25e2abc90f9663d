"""Tokenizers compared by their files: which differences count, files that cannot be read, old layouts, and that each is read once."""

import json
import os
import shutil
import warnings
from pathlib import Path

import pytest

from spec import CausalLM, vocabulary
from spec.assistant import Assistant
from spec.tokenizer_files import Tokenizer, TokenizerFile, read_tokenizer, tokenizer_file
from spec.vocabulary import REPLACED, SharedIds, known_alike, shared_ids
from tests.spec.padded import beside, letters, random_llama
from tests.spec.padded import tokenizer_file as written

UNREAD = r"tokenizer.json cannot be read \(damaged, or of another form\), so tokens cannot be compared"
DAMAGED = [
    "",
    "{",
    "[]",
    '{"model": {"vocab": {}}}',
    '{"model": 3}',
    '{"model": {"vocab": [3]}}',
    '{"model": {"vocab": {"a": "0", "b": 1}}}',
    '{"model": {"vocab": {"a": 0.5}}}',
    '{"model": {"vocab": {"a": null}}}',
    '{"model": {"vocab": {"a": [0]}}}',
    '{"model": {"vocab": {"a": true}}}',
    '{"model": {"vocab": {"a": -1}}}',
    '{"model": {"vocab": [[3, 0.5]]}}',
    '{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": "1", "content": "b"}]}',
    '{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1, "content": null}]}',
    '{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": [1], "content": "b"}]}',
    '{"model": {"vocab": {"a": 0}}, "added_tokens": 3}',
    '{"model": {"vocab": {"a": 0}}, "added_tokens": ["b"]}',
]


def shared(*folders: Path | str, sizes: tuple[int, int] = (16, 16)) -> SharedIds:
    """What two models share that were loaded from these folders."""
    return shared_ids(*(CausalLM(beside(random_llama(size), folder)) for size, folder in zip(sizes, folders, strict=True)))


def words(tokens: str, **added: int) -> Tokenizer:
    """A word for each letter; "_" leaves an id out."""
    return Tokenizer(
        {number: token for number, token in enumerate(tokens) if token != "_"}, {number: f"<{token}>" for token, number in added.items()}
    )


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_named_in_one_warning(tmp_path, content):
    whole, damaged = written(tmp_path / "whole", letters(16)), tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "tokenizer.json").write_text(content)
    for folders in ((whole, damaged), (damaged, whole), (damaged, damaged)):
        with pytest.warns(UserWarning, match=f"^{damaged}/{UNREAD}. The vocabularies are of one size and taken for the same") as told:
            assert shared(*folders) == SharedIds(16, 16, 16)
        assert len(told) == 1


def test_a_damaged_file_is_named_where_the_sizes_differ(tmp_path):
    whole, damaged = written(tmp_path / "whole", letters(16)), tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=f"vocabulary sizes differ: target 16, drafter 600; padding .* and {damaged}/{UNREAD}; a draft model"):
        shared(whole, damaged, sizes=(16, 600))
    with pytest.warns(UserWarning, match=f"vocabulary sizes differ: target 16, drafter 24; {damaged}/{UNREAD}, so this is taken for") as told:
        assert shared(whole, damaged, sizes=(16, 24)).end == 16
    assert len(told) == 1


def test_models_without_files_are_the_normal_case(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("", tmp_path, "a\0b", "x" * 300, "x" * 5000, f"{tmp_path}/{'x' * 300}", "somebody/" + "x" * 300, "no such folder"):
            assert shared(name, tmp_path) == SharedIds(16, 16, 16)


@pytest.mark.parametrize("place", ["folder", "list", "file"])
def test_what_may_not_be_read_is_named_too(tmp_path, monkeypatch, place):
    written(tmp_path, letters(16))
    shown = {"folder": tmp_path, "list": tmp_path, "file": tmp_path / "tokenizer.json"}[place]

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(shown))

    owner, name = {"folder": (Path, "is_dir"), "list": (os, "listdir"), "file": (Path, "read_text")}[place]
    monkeypatch.setattr(owner, name, refuse)
    with pytest.warns(UserWarning, match=f"^{shown} cannot be read") as told:
        assert shared(tmp_path, "") == SharedIds(16, 16, 16)
    monkeypatch.undo()
    assert len(told) == 1


def test_the_old_layout_is_read(tmp_path):
    new, old = written(tmp_path / "new", letters(10), {"<a>": 10, "<b>": 11}), tmp_path / "old"
    old.mkdir()
    (old / "vocab.json").write_text(json.dumps(letters(10)))
    (old / "merges.txt").write_text("#version: 0.2\n")
    assert shared(new, old).end == 10
    (old / "added_tokens.json").write_text(json.dumps({"<a>": 10, "<x>": 11}))
    assert shared(new, old).end == 11
    (old / "vocab.json").write_text(json.dumps(letters(10, {3: "x"})))
    with pytest.raises(ValueError, match="the tokenizers differ: id 3 is 't3' in the target's and 'x' in the draft model's"):
        shared(new, old)
    (old / "vocab.json").write_text("{")
    with pytest.warns(UserWarning, match=f"^{old}/vocab.json cannot be read"):
        shared(new, old)


def test_other_layouts_are_named_unless_they_are_equal(tmp_path):
    for name, content in (("a", b"\x0a\x01"), ("b", b"\x0a\x02"), ("c", b"\x0a\x01")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.model").write_bytes(content)
    with pytest.warns(UserWarning, match=f"^{tmp_path}/a/tokenizer.model and {tmp_path}/b/tokenizer.model cannot be read"):
        assert shared(tmp_path / "a", tmp_path / "b") == SharedIds(16, 16, 16)
    assert shared(tmp_path / "a", tmp_path / "c") == SharedIds(16, 16, 16)


def test_files_are_read_once_until_they_change(tmp_path, monkeypatch):
    read: list[str] = []
    monkeypatch.setattr(vocabulary, "read_tokenizer", lambda file: read.append(file.path) or read_tokenizer(file))
    one, other = written(tmp_path / "one", letters(16)), written(tmp_path / "other", letters(12))
    for _ in range(3):
        assert shared(one, other).end == 12
    assert len(read) == 2
    written(other, letters(13))
    assert shared(one, other).end == 13
    assert len(read) == 4
    shutil.copytree(one, tmp_path / "copy")
    assert shared(one, tmp_path / "copy").end == 16
    assert len(read) == 5  # of equal files one is enough


def test_a_file_is_what_it_was_when_nothing_changed(tmp_path):
    found = tokenizer_file(str(written(tmp_path, letters(3))))
    assert found is not None
    assert found == tokenizer_file(str(tmp_path)) != TokenizerFile(found.path)


ALIKE = {
    "renamed where both added it": (words("abcd", x=4), words("abcd", y=4), {0, 1, 2, 3}),
    "a word and added in both": (words("abcde", x=4), words("abcdf", y=4), {0, 1, 2, 3}),
    "added where the other has nothing": (words("abcd", x=4, y=9), words("abcd"), {0, 1, 2, 3}),
    "the same, a word for one": (Tokenizer({0: "a", 1: "b", 2: "<c>"}, {}), Tokenizer({0: "a", 1: "b"}, {2: "<c>"}), {0, 1, 2}),
    "half": (words("abcd"), Tokenizer({0: "a", 1: "b"} | {number: "x" * number for number in range(9, 11)}, {}), {0, 1}),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_tokenizers_of_a_family_are_alike(kind):
    one, other, expected = ALIKE[kind]
    assert known_alike(one, other) == known_alike(other, one) == expected


def test_a_few_words_may_be_added_tokens_of_the_other():
    """Padding that was given an unused byte, say: these ids are not drafted. More of them make another tokenizer."""
    plain = Tokenizer({number: f"t{number}" for number in range(60)}, {})
    for count in (1, REPLACED, REPLACED + 1):
        replaced = Tokenizer(plain.words, {number: f"<{number}>" for number in range(20, 20 + count)})
        if count <= REPLACED:
            assert known_alike(plain, replaced) == known_alike(replaced, plain) == set(range(60)) - set(range(20, 20 + count))
            continue
        with pytest.raises(ValueError, match="the tokenizers differ: id 20 is 't20' in the target's and '<20>' in the draft model's; a draft model"):
            known_alike(plain, replaced)
        with pytest.raises(ValueError, match="id 20 is '<20>' in the target's and 't20' in the draft model's"):
            known_alike(replaced, plain)


def test_tokenizers_that_share_next_to_nothing_are_refused(tmp_path):
    few = "only {} ids have the same token for target and draft model, and the smaller tokenizer has {} ids; a draft model must"
    with pytest.raises(ValueError, match="^" + few.format(0, 4)):
        known_alike(words("abcd"), words("______efgh"))
    with pytest.raises(ValueError, match="^" + few.format(1, 4)):
        known_alike(words("abcd"), words("a_____efg"))
    beyond = written(tmp_path / "beyond", {f"t{number}": number for number in range(16, 32)})
    with pytest.raises(ValueError, match="^" + few.format(0, 16)):
        shared(beyond, beyond)
    with pytest.raises(ValueError, match="^" + few.format(0, 16)):
        shared(beyond, "")


def test_long_tokens_are_cut():
    with pytest.raises(ValueError, match=r"id 0 is 'aaa+\.\.\. in the target's and 'b' in") as caught:
        known_alike(Tokenizer({0: "a" * 10_000, 1: "c"}, {}), Tokenizer({0: "b", 1: "c"}, {}))
    assert len(str(caught.value)) < 300


def test_a_file_that_is_replaced_is_compared_again(tmp_path):
    """Between two decodes of one drafter."""
    target, model = CausalLM(beside(random_llama(16), written(tmp_path / "target", letters(16)))), random_llama(16)
    assistant = Assistant(beside(model, written(tmp_path / "drafter", letters(16))))
    assistant.attach(target)
    assistant.attach(target)
    written(tmp_path / "drafter", letters(16, {3: "another"}))
    with pytest.raises(ValueError, match="id 3 is 't3' in the target's and 'another' in the draft model's"):
        assistant.attach(target)
