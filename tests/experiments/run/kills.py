"""Sweeps that are killed at random moments and started again until they are done: `python -m tests.experiments.run.kills [KILLS] [SEED]`.

Each sweep has three drafters at two samplings. kill -9 and kill -15 take turns by chance. At the end every sweep holds the records of one that was
not killed: none lost, none twice, none different but for its clocks. Prints a line per kill and a count at the end; exit code 1 if anything differs.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
CODE = "import sys; import draftproof; sys.argv[0] = 'draftproof'; draftproof.main()"
SMALL = ("num_prompts=6", "max_new_tokens=24", "warmup=0", "check_state=false")
SWEEP = ("-m", "drafter=prompt_lookup,draft_model,lookahead", "sampling=greedy,sample", *SMALL)
CLOCKS = ("seconds", "prefill_seconds", "end_to_end_seconds", "peak_memory")


def start(folder: Path) -> subprocess.Popen[bytes]:
    """The sweep, going on where it stopped."""
    command = [sys.executable, "-c", CODE, "run", *SWEEP, f"hydra.sweep.dir={folder}", "resume=true"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def records(folder: Path) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """Every record without its clocks, by job, prompt and role."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("*/records.jsonl")):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            kept = {name: value for name, value in row.items() if name not in CLOCKS and "seconds" not in name}
            found.setdefault((file.parent.name, row["prompt"], row["role"]), []).append(kept)
    return found


def main(kills: int = 100, seed: int = 0) -> int:
    """Kills until there were that many; every sweep is finished, also the last."""
    chance, done, exits, wrong = random.Random(seed), 0, Counter[str](), 0
    with tempfile.TemporaryDirectory() as name:
        alone = Path(name) / "alone"
        begun = time.monotonic()
        assert start(alone).wait() == 0
        length, expected, sweeps = time.monotonic() - begun, records(alone), 0
        print(f"left alone: {len(expected)} records in {length:.0f} s", flush=True)
        while done < kills:
            sweeps += 1
            folder = Path(name) / str(sweeps)
            while True:
                process, number = start(folder), chance.choice((signal.SIGKILL, signal.SIGTERM))
                try:
                    code = process.wait(chance.uniform(0.1, 0.8 * length) if done < kills else None)
                    assert code == 0, f"sweep {sweeps} ended with {code}"
                    break
                except subprocess.TimeoutExpired:
                    os.kill(process.pid, number)
                    done += 1
                    exits[f"{number.name}: exit {process.wait()}"] += 1
                    print(f"{done}: {number.name} in sweep {sweeps}, {sum(map(len, records(folder).values()))} records so far", flush=True)
            found = records(folder)
            problems = [key for key in expected.keys() | found.keys() if found.get(key) != expected.get(key)]
            wrong += len(problems)
            print(f"sweep {sweeps} is whole: {len(found)} records, {len(problems)} lost, doubled or different {problems[:3]}", flush=True)
    print(f"{done} kills ({dict(exits)}) in {sweeps} sweeps of {len(expected)} records: {wrong} lost, doubled or different")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
