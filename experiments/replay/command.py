"""What a drafter would do on recorded answers, without the target: `draftproof replay recorded=RUN_FOLDER lengths=[2,4,8]`.

Exact at temperature 0: the counts are those of a live run with the same drafter. A sampled answer, or a text of unknown origin, is taken as it is:
a drafted token counts as accepted where it is the recorded one, which is what happens under `sample_match`, and under every exact rule for drafts
without distributions of their own. For sampled drafts under token-level speculative sampling the target's distributions are needed
(`experiments.replay.distributions`).
"""

from experiments.parts.command import entry
from experiments.replay.job import execute

main = entry("replay", lambda config, *_: execute(config))
