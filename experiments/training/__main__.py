"""The recipe of the embedded pair: a byte-level tokenizer, a 5M target trained on the standard library, a drafter distilled from it.

Run `python -m experiments.training`; every number is in `conf/train_pair.yaml`. An interrupted run goes on from its last checkpoint.
"""

from experiments.parts.door.enter import enter

if __name__ == "__main__":
    enter("train")
