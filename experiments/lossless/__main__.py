"""The battery. `python -m experiments.lossless`: does what a drafter, a verifier and a sampler put out follow the target's own distribution?

Takes the groups of the main job, with -m sweeps. `--holm FOLDER` judges the statistical checks of several runs anew, corrected for their number.
Exit codes: 0 passed, 1 failed, 2 the input or configuration is wrong, 130 stopped by Ctrl-C.
"""

from experiments.parts.door.enter import enter

if __name__ == "__main__":
    enter("lossless")
