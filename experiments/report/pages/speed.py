"""The tables of docs/speed.md and README's lines about them, from the records. `python -m experiments.report.pages` writes them.

Records are the `bench-*.json` and `gpu-*.jsonl` in `experiments/records`, the newest of every label.
"""

from pathlib import Path
from typing import Any

from experiments.analysis.terminal import as_markdown
from experiments.bench.batches import table as table_of_batches
from experiments.bench.figures import describe
from experiments.recording.files import json_lines
from experiments.recording.published import RECORDS, ROOT, newest_of_each, read_record, refuse_dirty, updated

PAGE, README = ROOT / "docs" / "speed.md", ROOT / "README.md"
MARK = "bench"
PLAIN = ("bare loop", "generate", "generate, static and compiled", "openvino", "ctranslate2")  # others' decoding without drafts
WITH_INTERVALS = " with 95 % intervals over groups of the same prompts, and beside them without the prompts' own forwards"
RIVALS = {"draft_model": "generate, assisted", "prompt_lookup": "generate, prompt lookup"}  # ours -> others' version of the same method
ENGINE = {"none": "openvino", "draft_model": "openvino, draft model", "prompt_lookup": "openvino, prompt lookup"}  # ours -> OpenVINO's


def named(figures: dict[str, Any]) -> str:
    """A way, with what must be said beside its figures."""
    return figures["way"] + (f" ({figures['note']})" if figures["note"] else "")


def setting(record: dict[str, Any]) -> str:
    """Under what circumstances a record was made; a run under load says so first."""
    found, target = record["provenance"], record["config"]["target"]
    versions = f"torch {found['versions']['torch']}, transformers {found['versions']['transformers']}"
    model = f"{'random weights of size ' if record['prompts']['random'] else ''}`{target['name']}`"
    said = f"{model}, {work(record)}; {machine(record)}, {versions}, {found['date'][:10]}, commit {found['git_commit']}"
    if record["under_load"]:
        return f"**Measured under load, worth little** ({'; '.join(record['under_load'])}): {said}"
    return said


def machine(record: dict[str, Any]) -> str:
    """What a record was measured on."""
    found = record["provenance"]
    return f"{found['cpu']}, {found['threads']} thread{'s' * (found['threads'] > 1)}" if found["device"] == "cpu" else found["device"]


def work(record: dict[str, Any]) -> str:
    """What was run."""
    config, prompts, dtype = record["config"], record["prompts"], record["provenance"]["dtype"]
    if record["mode"] == "verify":
        return f"{config['verify']['rows']} row(s) behind {config['verify']['context']} cached positions"
    lengths = sorted({min(prompts["lengths"]), max(prompts["lengths"])})
    kind = "prompts of random ids" if prompts["random"] else "prompts"
    temperature = config["sampling"]["temperature"]
    distribution = f"T={temperature:g}" if temperature else "greedy"
    return f"{dtype}, {distribution}, {prompts['count']} {kind} of {' to '.join(map(str, lengths))} tokens, {config['max_new_tokens']} new tokens"


def decode_table(record: dict[str, Any]) -> str:
    """A row per way: time, ratios, and where the time went."""
    names = {way["way"] for way in record["ways"]}
    return as_markdown([decode_row(way, names) for way in record["ways"]])


def decode_row(way: dict[str, Any], names: set[str]) -> dict[str, str]:
    def share(key: str) -> str:
        return "-" if way[key] is None else f"{100 * way[key]:.1f} %"

    def times(peer: str) -> str:
        return "1" if way["way"] == peer else describe(way["ratios"][peer]) if peer in way["ratios"] else "-"

    name = way["way"] + (f" ({way['note']})" if way["note"] else "")
    row = {
        "way": f"**{name}**" if way["ours"] else name,
        "ms/token": f"{way['ms_per_token']:.2f}",
        "tokens/forward": f"{way['tokens_per_forward']:.2f}",
    }
    row |= {f"speed, `{peer}` = 1": times(peer) for peer in PLAIN if peer in names}
    method = way["way"].split(",")[0] if way["ours"] else ""
    row["speed, the same method there = 1"] = times(RIVALS.get(method, ""))
    if names & {*ENGINE.values()}:
        row["speed, the same method by OpenVINO = 1"] = times(ENGINE.get(method, ""))
    greedy = way["greedy"]
    return row | {
        "outside forwards": share("outside_forwards"),
        "the same, of steps alone": share("outside_forwards_of_steps"),
        "of bandwidth": share("of_bandwidth"),
        "warm-up, s": f"{way['warmup_seconds'][0]:.1f}" if way["warmup_seconds"] else "-",
        "same as `generate`": "-" if greedy is None else f"{greedy['identical']} of {greedy['compared']}",
    }


def batch_table(record: dict[str, Any]) -> str:
    """Tokens per second by batch size, a column per way, and the size beyond which each stops paying."""
    lines = record["lines"]
    rows = as_markdown(table_of_batches(lines, {line["way"]: named(line) for line in lines}))
    return f"{rows}\n\nTokens per second, times plain decoding in brackets{WITH_INTERVALS if 'interval' in lines[0] else ''}; {pays(record)}"


def pays(record: dict[str, Any]) -> str:
    """The batch size beyond which each way stops paying, in a sentence."""
    ends = [f"{way}: {'never' if last is None else f'up to {last} rows'}" for way, last in record["pays_until"].items()]
    return f"faster than plain decoding at every size measured, {'; '.join(ends)}."


def verify_table(record: dict[str, Any]) -> str:
    """A forward over N slots, times one over a single slot."""
    curves = record["curves"]
    rows = []
    for index, point in enumerate(curves[0]["points"]):
        cells = {curve["bed"]: f"{curve['points'][index]['ratio']:.2f} ({curve['points'][index]['ms']:.2f} ms)" for curve in curves}
        rows.append({"slots": str(point["slots"]), **cells})
    return as_markdown(rows)


def memory_table(record: dict[str, Any]) -> str:
    found = record["growth"]
    later = f"{len(record['readings'])} prompts in one process, the first {record['config']['memory']['warmup']} as warm-up"
    return f"{later}: the peak grew by {found['grew'] / 2**20:.1f} MiB, {found['per_prompt'] / 1024:.2f} KiB per prompt."


TABLES = {"decode": decode_table, "batch": batch_table, "verify": verify_table, "memory": memory_table}


def gpu_table(lines: list[dict[str, Any]]) -> str:
    """What was checked and measured on a GPU: a row per way and prompt length."""
    checks = [line for line in lines if line["stage"] == "checks" and "passed" in line]
    start = next(line["provenance"] for line in lines if line["stage"] == "start")
    machine = f"{start['device']}, {start['dtype']}, torch {start['versions']['torch']}, {start['date'][:10]}, commit {start['git_commit']}"
    told = f"{sum(line['passed'] for line in checks)} of {len(checks)} checks passed; {machine}. Random weights; acceptance is set, costs are real."
    rows = [gpu_row(line) for line in lines if "way" in line and "decode_ms_per_token" in line]
    return f"{told}\n\n{as_markdown(rows)}" if rows else told


def gpu_row(line: dict[str, Any]) -> dict[str, str]:
    return {
        "target": line["stage"].split()[-1],
        "way": f"**{named(line)}**" if line["ours"] else named(line),
        "prompt": f"{line['prompt_tokens']} tokens",
        "ms/token behind the prompt": "-" if line["decode_ms_per_token"] is None else f"{line['decode_ms_per_token']:.2f}",
        "times plain": f"{line['speedup']:.2f}" if "speedup" in line else "-",
        "of bandwidth": "-" if line["of_bandwidth"] is None else f"{100 * line['of_bandwidth']:.0f} %",
    }


def records_of(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The newest record of every label. Raises ValueError for one that no table may be made from."""
    return [(path, read_record(path)) for path in newest_of_each("bench-*.json", folder)]


def table(folder: Path = RECORDS) -> str:
    """Markdown of all records. Says so where there are none. Raises ValueError for a record that no table may be made from."""
    parts = [f"{setting(record)} (`{path.name}`):\n\n{TABLES[record['mode']](record)}" for path, record in records_of(folder)]
    for path in newest_of_each("gpu-*.jsonl", folder):
        lines = [line for _, line in json_lines(path)]
        refuse_dirty(path, next((line.get("provenance") for line in lines if line.get("stage") == "start"), None))
        parts.append(f"`{path.name}`: {gpu_table(lines)}")
    return "\n\n".join(parts) or "No benchmark has been recorded yet."


def highlights(folder: Path = RECORDS) -> str:
    """README's lines: our ways over `generate` on a real model, and how far batches pay."""
    held = [record for _, record in records_of(folder) if not record["prompts"]["random"] and not record["under_load"]]
    decoded, batches = ([record for record in held if record["mode"] == mode] for mode in ("decode", "batch"))
    lines = [f"- {work(record)}, times `generate` (95 %): {over_generate(record)}." for record in decoded]
    over = [(work(record), over_engine(record)) for record in decoded]
    lines += [f"- {worked}, times OpenVINO's own plain decoding, draft model or lookup (95 %): {found}." for worked, found in over if found]
    lines += [f"- {work(record)}, in batches of 1 to {max(line['rows'] for line in record['lines'])}: {pays(record)}" for record in batches]
    told = " and ".join(dict.fromkeys(f"`{record['config']['target']['name']}` on {machine(record)}" for record in (*decoded, *batches)))
    return "\n".join([f"{told}:", "", *lines]) if lines else "No benchmark has been recorded yet."


def over_generate(record: dict[str, Any]) -> str:
    """Our ways, plain decoding aside, and how many times as fast as `generate` they are."""
    found = [
        (named(way), way["ratios"]["generate"]) for way in record["ways"] if way["ours"] and way["way"] != "none" and "generate" in way["ratios"]
    ]
    return "; ".join(f"{way} {describe(ratio)}" for way, ratio in found)


def over_engine(record: dict[str, Any]) -> str:
    """Our ways and how many times as fast as OpenVINO's version of the same method they are; empty where OpenVINO was not timed."""
    found = [(way, way["ratios"].get(ENGINE.get(way["way"].split(",")[0], ""))) for way in record["ways"] if way["ours"]]
    return "; ".join(f"{named(way)} {describe(ratio)}" for way, ratio in found if ratio)


def pages() -> dict[Path, str]:
    """The pages that are written here, as they ought to be."""
    return {path: updated(path.read_text(encoding="utf-8"), MARK, make()) for path, make in ((PAGE, table), (README, highlights))}
