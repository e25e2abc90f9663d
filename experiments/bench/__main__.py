"""The entry point. `python -m experiments.bench`; settings in `conf/bench.yaml`, modes in the modules beside this one.

Exit codes: 0 done, 2 the input or configuration is wrong, 130 stopped by Ctrl-C.
"""

from experiments.parts.door.enter import enter

if __name__ == "__main__":
    enter("bench")
