"""Wrong block verifications are convicted, by the amounts computed for them independently; one of them only shows from step to step."""

import pytest

from experiments.lossless.enumeration.proposals import chain
from experiments.lossless.enumeration.step_distribution import assert_exact, examine, tv
from experiments.lossless.enumeration.tables import GOLDEN, INSTANCES
from experiments.lossless.mutants.blocks import BLOCK_MUTANTS, BlockRule
from experiments.lossless.mutants.chains import Mutant
from tests.experiments.lossless.reused_noise import first_tokens
from verifiers.block import Block
from verifiers.rejection import Rejection

LENGTH = 3
REUSED = 0.03383958058492744  # TV of the first three tokens, gamma = 2; 400,000 simulated texts agree with the distribution within their noise


@pytest.mark.parametrize("instance", INSTANCES, ids=lambda instance: instance.name)
@pytest.mark.parametrize("gamma", [0, 1, 3])
def test_rule_that_the_mutants_vary_is_the_production_rule(instance, gamma):
    proposals = chain(instance, gamma)
    reports = [examine(instance, proposals, verifier) for verifier in (BlockRule(), Block())]
    assert_exact(reports[0], reports[1].expected)
    assert tv(reports[0].distribution, reports[1].distribution) < 1e-14


@pytest.mark.parametrize("mutant", BLOCK_MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_rejected(mutant: Mutant):
    report = examine(GOLDEN, mutant.proposals(), mutant.verifier)
    with pytest.raises(AssertionError, match="off by TV"):
        assert_exact(report)
    assert report.error == pytest.approx(mutant.error, abs=1e-6)


def test_noise_keyed_by_absolute_position_biases_block_verification_from_step_to_step():
    assert tv(first_tokens(Block(), length=LENGTH), GOLDEN.target_distribution(LENGTH)) == pytest.approx(REUSED, abs=1e-12)


@pytest.mark.parametrize(("verifier", "reuse"), [(Block(), False), (Rejection(), False), (Rejection(), True)])
def test_noise_keyed_by_step_is_exact_and_token_level_forgives_reuse(verifier, reuse):
    distribution = first_tokens(verifier, length=LENGTH, reuse=reuse)
    assert sum(distribution.values()) == pytest.approx(1, abs=1e-12)
    assert tv(distribution, GOLDEN.target_distribution(LENGTH)) < 1e-12
