"""What is legal is let through: Python as people write it, Hydra's own ways, values that stand for others. All of these were refused once."""

from pathlib import Path

import pytest

from experiments.parts.door.check import check
from experiments.parts.door.signatures import signature

BASE = "from spec import Drafter\n"
WAYS = {  # a module that has a class or function Mine which can be built without arguments
    "conditional": "try:\n    class Mine(Drafter): ...\nexcept ImportError:\n    Mine = None\n",
    "lazy": "def __getattr__(name):\n    return type(name, (Drafter,), {})\n",
    "made": "globals().update(Mine=type('Mine', (Drafter,), {}))\n",
    "twice": "def Mine(a): ...\nclass Mine(Drafter): ...\n",
    "assigned": "def Mine(a): ...\nMine = Drafter\n",
    "keyword_only": "from dataclasses import KW_ONLY, dataclass\n@dataclass\nclass Mine(Drafter):\n    _: KW_ONLY\n    depth: int = 2\n",
    "alias": "from dataclasses import dataclass as data\n@data\nclass Mine(Drafter):\n    depth: int = 2\n",
    "new": "class Mine(Drafter):\n    def __new__(cls, depth=2): ...\n",
    "assigned_init": "def start(self, depth=2): ...\nclass Mine(Drafter):\n    __init__ = start\n",
    "metaclass": "class Meta(type):\n    def __call__(cls, depth=2): ...\nclass Mine(metaclass=Meta): ...\n",
    "overloaded": "from typing import overload\nclass Mine:\n    @overload\n    def __init__(self, a): ...\n    def __init__(self, depth=2): ...\n",
    "decorated": "def plain(f):\n    return lambda depth=2: f(depth, 1)\n@plain\ndef Mine(depth, extra): ...\n",
    "several_bases": "class A:\n    def __init__(self, depth=2): ...\nclass B:\n    def __init__(self, must): ...\nclass Mine(A, B): ...\n",
    "builtin_base": "class Mine(dict): ...\n",
    "named_tuple": "from typing import NamedTuple\nclass Mine(NamedTuple):\n    depth: int = 2\n",
    "prose": "class Mine(Drafter):\n    def __init__(self, depth: 'how deep to go' = 2): ...\n",
    "literal": "from typing import Literal\nclass Mine(Drafter):\n    def __init__(self, depth: Literal[1, 2, 4] = 2): ...\n",
    "implicit_null": "class Mine(Drafter):\n    def __init__(self, depth: int = None): ...\n",
}
WITHOUT = ("conditional", "twice", "assigned", "marked", "latin")  # take no setting


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "ways").mkdir()
    for name, text in WAYS.items():
        (tmp_path / "ways" / f"{name}.py").write_text(BASE + text)
    (tmp_path / "ways" / "__init__.py").write_text("class Outer:\n    class Mine: ...\n")
    (tmp_path / "ways" / "marked.py").write_bytes(b"\xef\xbb\xbfclass Mine: ...\n")
    (tmp_path / "ways" / "latin.py").write_bytes('# -*- coding: latin-1 -*-\nclass Mine:\n    """\xe4"""\n'.encode("latin-1"))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("way", [*WAYS, "marked", "latin"])
def test_python_as_people_write_it(package: Path, way: str) -> None:
    assert check("config", [f"drafter._target_=ways.{way}.Mine"]).jobs
    if way not in WITHOUT:
        assert check("config", [f"drafter._target_=ways.{way}.Mine", "drafter.depth=2"]).jobs


def test_null_is_legal_where_it_is_the_default(package: Path) -> None:
    assert check("config", ["drafter._target_=ways.implicit_null.Mine", "drafter.depth=null"]).jobs


def test_a_class_inside_a_class_is_left_to_python(package: Path) -> None:
    assert signature("ways.Outer.Mine") is None
    with pytest.raises(ValueError, match=r"no module 'ways\.nothing'"):
        signature("ways.nothing.Mine")


@pytest.mark.parametrize(
    "arguments",
    [
        ["peers=generate"],
        ["peers=[generate,assisted]", "drafter=draft_model"],
        ["-m", "drafter=glob(*lookup*)"],
        ["hydra.mode=MULTIRUN", "seed=1,2"],
        ["drafter=draft_model", "drafter/stopping=null"],
        ["drafter._target_=drafters.draft_model.DraftModel", "+drafter/stopping=constant"],
        ["sampling.temperature=1"],
        ["num_prompts=null", "experiment=null"],
        ["+battery.effort.samples=2000", "+battery.num_prompts=1"],
        ["-m", "seed=range(3)", "drafter.num_tokens=choice(2,4)"],
    ],
)
def test_hydras_own_ways(arguments: list[str]) -> None:
    assert check("config", arguments).jobs


def test_what_stands_for_another_setting_has_its_kind(tmp_path: Path) -> None:
    (tmp_path / "drafter").mkdir()
    lines = ("num_tokens: ${batch_size} # from 1 to 8", "max_ngram: 3 # one of my favourite numbers; how many")
    (tmp_path / "drafter" / "mine.yaml").write_text("\n".join(["_target_: drafters.prompt_lookup.PromptLookup", *lines]) + "\n")
    assert check("config", ["--config-dir", str(tmp_path), "drafter=mine"]).jobs
    with pytest.raises(ValueError, match=r"drafter\.num_tokens=9: give a number from 1 to 8"):
        check("config", ["--config-dir", str(tmp_path), "drafter=mine", "batch_size=9"])
    with pytest.raises(ValueError, match=r"peers\.generate\.batch_size=0"):
        check("config", ["peers=[generate]", "peers.generate.batch_size=0"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-m", "drafter.num_tokens=range(3,1)"], "gives no job"),
        (["-m", "drafter.num_tokens=interval(1,10)"], "cannot be read"),
        (["--config-name", "nosuch"], "a job has its own configuration"),
        (["--cfg", "job", "nosuch=3"], 'unknown setting "nosuch"'),
        (["-m=3"], "-m takes no value"),
        (["+battery.effort.samples=x"], "effort.samples=x: give a whole number"),
        (["drafter=draft_model", "drafter.stopping=constant"], "drafter/stopping=constant"),
        (["+="], "is no setting"),
    ],
)
def test_and_what_is_not_is_said(arguments: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check("config", arguments)
