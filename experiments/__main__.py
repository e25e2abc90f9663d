"""`python -m experiments`: the command `draftproof`, wherever it is not on the path."""

import sys

from experiments.parts.door.enter import door

if __name__ == "__main__":
    door(sys.argv[1:])
