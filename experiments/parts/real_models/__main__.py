"""`python -m experiments.parts.real_models`: what `draftproof models` does.

Exit codes: 0 done, 2 a model cannot be fetched, or a name or a folder is wrong, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from experiments.parts.door.enter import enter

if __name__ == "__main__":
    enter("models")
