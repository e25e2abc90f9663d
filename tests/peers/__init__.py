"""Others' test suites over our code: `make test-peers`.

`test_assisted.py` and `test_rejection_sampler.py` are our own words for what transformers' and vLLM's tests ask. `suite.py` fetches transformers'
own tests of the installed version, where a network allows it, and runs those of assisted decoding with our loop behind `generate`. Nothing of theirs
is kept in this repository.
"""
