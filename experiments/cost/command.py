"""What speculation should gain here, and what it did. `draftproof cost drafter=draft_model 'gammas=[1,2,4,8]'`, or `'runs=[FOLDER]'`.

Times the target's forward against slots, context and batch, the drafter, and the rest of a step; fits them; predicts the speedup of recorded runs
(else of a small sweep of its own) and the best gamma; and says which phase took another time than predicted. Settings: `conf/cost.yaml`.
"""

from experiments.cost.job import execute
from experiments.parts.build import check_parts
from experiments.parts.command import entry

main = entry("cost", lambda config, folder, _: execute(config, folder), before=check_parts, keeps_folder=True)
