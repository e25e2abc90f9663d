"""Every causal LM class of transformers, tiny and random, on trial: `python -m experiments.exactness.families` makes docs/models.md."""
