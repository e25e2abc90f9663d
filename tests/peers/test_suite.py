"""The runner of transformers' own tests, on a small repository in the place of theirs."""

import subprocess

import pytest

from tests.peers import suite

TEST = """
import torch, transformers

class TestTiny:
    def build(self):
        torch.manual_seed(0)
        config = transformers.LlamaConfig(vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4)
        return transformers.LlamaForCausalLM(config).eval()

    def test_assisted_decoding_matches(self):
        model, ids = self.build(), torch.tensor([[5, 9, 13]])
        options = {"max_new_tokens": 5, "do_sample": False, "return_dict_in_generate": True}
        found = model.generate(ids, assistant_model=model, **options)
        assert found.stats.num_tokens == 5
        assert torch.equal(found.sequences, model.generate(ids, **options).sequences)

    def test_prompt_lookup_decoding_is_refused(self):
        self.build().generate(torch.tensor([[5, 9, 13]]), prompt_lookup_num_tokens=2, num_beams=2, max_new_tokens=2)

    def test_prompt_lookup_decoding_is_wrong(self):
        assert False, "something new"

    def _check_generate_outputs(self, output):
        assert output.attentions is not None

    def test_assisted_decoding_without_attentions(self):
        options = {"max_new_tokens": 5, "do_sample": False, "return_dict_in_generate": True, "output_attentions": True}
        self._check_generate_outputs(self.build().generate(torch.tensor([[5, 9, 13]]), prompt_lookup_num_tokens=2, **options))

    def test_beams(self):
        assert False, "not chosen"
"""


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main", "-c", "uploadpack.allowFilter=true"]
    subprocess.run(["git", *who, "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    """Theirs in small: a tag, a folder tests/, and something beside it."""
    folder = tmp_path / "theirs"
    for name, text in {"tests/models/tiny/test_modeling_tiny.py": TEST, "tests/generation/__init__.py": "", "src/large.py": ""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init")
    git(folder, "add", "-A")
    git(folder, "commit", "-m", "all")
    git(folder, "tag", "v1.2.3")
    return folder.as_uri()


@pytest.mark.slow
def test_their_tests_run_over_our_loop(repository, tmp_path):
    folder = suite.fetch("1.2.3", repository, tmp_path / "place")
    assert folder is not None
    assert not (folder / "src").exists()
    assert suite.fetch("1.2.3", "file:///nowhere", tmp_path / "place") == folder  # fetched once
    found, last = suite.run(folder)
    assert "2 failed, 2 passed, 1 deselected" in last
    assert [line.split("::")[-1].split(":")[0] for line in suite.surprises(found, suite.expected())] == ["test_prompt_lookup_decoding_is_wrong"]


def test_tests_that_cannot_be_had(tmp_path, capsys, monkeypatch):
    assert suite.fetch("9.9.9", (tmp_path / "nothing").as_uri(), tmp_path / "place") is None
    assert "transformers' tests cannot be fetched: " in capsys.readouterr().out
    monkeypatch.setattr(suite, "fetch", lambda version: None)
    assert suite.main() == 0
    assert capsys.readouterr().out.startswith("not run: ")
