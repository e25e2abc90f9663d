"""The entry point. `draftproof bench`; settings in `conf/bench.yaml`, modes in the modules beside this one.

Exit codes: 0 done, 2 the input or configuration is wrong, 130 stopped by Ctrl-C.
"""

from experiments.bench.job import execute
from experiments.parts.command import entry

main = entry("bench", lambda config, folder, _: execute(config, folder))
