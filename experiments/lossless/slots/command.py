"""How far a distribution depends on the shape of the forward that it comes from. `draftproof slots`; settings in
`conf/slots.yaml`.

In exact arithmetic a forward over many slots gives every slot the distribution that a forward over one gives. In floating point it adds in another
order. Here the target reads its own sampled answers one slot at a time, as plain decoding does, and again in chains, in trees and beside other texts,
in every dtype. TV is between the plain distribution and the other one; "own rounding" is between plain decoding in this dtype and in the first one.
"""

from experiments.lossless.slots.job import execute
from experiments.parts.command import entry

main = entry("slots", lambda config, *_: execute(config))
