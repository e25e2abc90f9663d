"""What speculation should gain here, and what it did. `python -m experiments.cost drafter=draft_model 'gammas=[1,2,4,8]'`, or `'runs=[FOLDER]'`.

Times the target's forward against slots, context and batch, the drafter, and the rest of a step; fits them; predicts the speedup of recorded runs
(else of a small sweep of its own) and the best gamma; and says which phase took another time than predicted. Settings: `conf/cost.yaml`.
"""

from experiments.parts.door.enter import enter

if __name__ == "__main__":
    enter("cost")
