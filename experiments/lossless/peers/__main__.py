"""`python -m experiments.lossless.peers`: other people's decoding under the tests that ours stands under, as tables and as one JSON file.

Exit codes: 0 done, whatever the peers' verdicts; 1 a control came out wrong, so the verdicts mean nothing; 2 the configuration is wrong.
"""

from experiments.parts.door.enter import enter

if __name__ == "__main__":
    enter("peers")
