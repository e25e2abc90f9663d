"""The main job. `python -m experiments.run`: every prompt decoded by the method and by plain decoding, side by side, recorded as it goes.

Exit codes: 0 done; 1 a job of a sweep failed, a run failed its proof (or `certify=true` got none), or the disk is full; 2 the input or configuration
is wrong; 130 stopped by Ctrl-C. What was finished is kept, and the same command with `resume=true` goes on from there.
"""

from experiments.parts.door.enter import enter

if __name__ == "__main__":
    enter("run")
