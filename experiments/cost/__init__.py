"""What speculation should gain here, predicted from measured times, and compared with recorded runs: `draftproof cost`.

On the top floor: it imports the main job, which it runs for a sweep of its own. Nobody imports it.
"""
