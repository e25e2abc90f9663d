"""Settings of the whole suite: one torch thread, and property tests that draw the same examples on every run."""

import torch
from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")
torch.set_num_threads(1)
