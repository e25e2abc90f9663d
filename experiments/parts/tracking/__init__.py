"""Where a run's curves go besides its own folder (`conf/tracking/`). Only this folder knows W&B.

Imports what `parts` may import.
"""
