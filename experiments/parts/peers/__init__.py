"""Other people's decoding as roles, so that it can be tested and timed like ours.

Imports what `parts` may import.
"""

from experiments.parts.peers.transformers_generate import Assisted, Generate, OtherTokenizer, PromptLookup

__all__ = ["Assisted", "Generate", "OtherTokenizer", "PromptLookup"]
