"""Other people's decoding behind one interface, so that it can be tested and timed like ours."""

from experiments.peers.interface import Peer, PeerResult
from experiments.peers.ours import Ours
from experiments.peers.transformers_generate import Assisted, Generate, OtherTokenizer, PromptLookup

__all__ = ["Assisted", "Generate", "OtherTokenizer", "Ours", "Peer", "PeerResult", "PromptLookup"]
