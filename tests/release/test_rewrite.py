"""Sources under other names: imports, strings, comments and YAML, and what is no name of ours."""

import pytest

from release.house import House
from release.hub import Flat
from release.rewrite import rewritten, rewritten_yaml
from release.wheel import Inside

INSIDE, FLAT = Inside(House()), Flat(House())

IN_THE_WHEEL = {
    "import spec.masks as masks": "import draftproof.spec.masks as masks",
    "import spec": "import draftproof.spec; from draftproof import spec",
    "import spec.model": "import draftproof.spec.model; from draftproof import spec",
    "import os, conf as found": "import os; import draftproof.conf as found",
    "from drafters.none import NoDraft  # plain": "from draftproof.drafters.none import NoDraft  # plain",
    "from experiments import parts": "from draftproof.experiments import parts",
    "from spec import (\n    Draft,\n    decode,\n)": "from draftproof.spec import (\n    Draft,\n    decode,\n)",
    "def later():\n    é = 'ü'; from spec.tree import depths": "def later():\n    é = 'ü'; from draftproof.spec.tree import depths",
    "x = 'drafters.none:NoDraft'": "x = 'draftproof.drafters.none:NoDraft'",
    "x = 'experiments.run.command:main'": "x = 'draftproof.experiments.run.command:main'",
    "x = 'experiments.parts.random_target.'": "x = 'draftproof.experiments.parts.random_target.'",
    "x = f'{a}: python -m experiments.run {spec.tree}'": "x = f'{a}: python -m draftproof.experiments.run {spec.tree}'",
    "x = f'{{{a}}} spec.decode'": "x = f'{{{a}}} draftproof.spec.decode'",
    '"""`spec.decode`; `python -m experiments JOB`."""': '"""`draftproof.spec.decode`; `python -m draftproof.experiments JOB`."""',
    "x = 1  # see spec.state.carried": "x = 1  # see draftproof.spec.state.carried",
}
AS_THEY_ARE = [
    "from draftproof import stranger",
    "from specification import spec",
    "spec = find_spec(top)\nspec.origin",
    "x = 'take another of our drafters.'",
    "x = 'drafters.oracle.acceptance'",
    "x = 'drafter@drafters.jacobi=jacobi'",
    "x = 'my/spec.decode.txt and mine.spec.decode'",
    "x = 'conf/target/hub.yaml'",
    "x = 'drafters'",
]


@pytest.mark.parametrize("source", IN_THE_WHEEL)
def test_a_name_of_ours_gets_another(source: str) -> None:
    assert rewritten(source, INSIDE) == IN_THE_WHEEL[source]


@pytest.mark.parametrize("source", AS_THEY_ARE)
def test_what_is_no_name_of_ours_stays(source: str) -> None:
    assert rewritten(source, INSIDE) == source


def test_strings_can_stay() -> None:
    assert rewritten("from spec import x\ny = 'spec.tree'", INSIDE, strings=False) == "from draftproof.spec import x\ny = 'spec.tree'"


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("from spec.decode import decode", "from .spec_decode import decode"),
        ("import spec.masks as masks", "from . import spec_masks as masks"),
        ("x = 'drafters.none:NoDraft'", "x = '.drafters_none:NoDraft'"),
        ("x = 'give verifiers.recursive.Recursive()'", "x = 'give verifiers_recursive.Recursive()'"),
    ],
)
def test_names_in_a_flat_folder(source: str, wanted: str) -> None:
    assert rewritten(source, FLAT) == wanted


@pytest.mark.parametrize("source", ["import spec.masks", "from spec import masks"])
def test_imports_that_a_flat_folder_cannot_have_are_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"write import spec\.masks as"):
        rewritten(source, FLAT)


def test_configurations() -> None:
    text = "# python -m experiments.run\n_target_: drafters.none.NoDraft\na: {_target_: experiments.parts.command.RememberSweep}\n"
    settings = "- drafter@drafters.none: none\n# that of drafters.draft_model\n"
    assert rewritten_yaml(text + settings, INSIDE) == (
        "# python -m draftproof.experiments.run\n_target_: draftproof.drafters.none.NoDraft\n"
        "a: {_target_: draftproof.experiments.parts.command.RememberSweep}\n" + settings
    )
