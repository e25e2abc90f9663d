"""The tables of docs/speed.md and README's lines about them, from the records. `python -m experiments.report.pages` writes them.

Records are the `bench-*.json` and `gpu-*.jsonl` in `experiments/records`, the newest of every label.
"""

from pathlib import Path
from typing import Any

from experiments.analysis.terminal import as_markdown
from experiments.bench.batches import table as table_of_batches
from experiments.bench.figures import OTHERS_PLAIN, PLAIN, against, describe, fastest_plain, gains
from experiments.recording.files import json_lines
from experiments.recording.published import RECORDS, ROOT, newest_of_each, read_record, refuse_dirty, updated

PAGE, README = ROOT / "docs" / "speed.md", ROOT / "README.md"
MARK = "bench"
RIVALS = {"draft_model": "generate, assisted", "prompt_lookup": "generate, prompt lookup"}  # ours -> others' version of the same method
ENGINE = {"none": "openvino", "draft_model": "openvino, draft model", "prompt_lookup": "openvino, prompt lookup"}  # ours -> OpenVINO's
PEERS = {
    "transformers' plain decoding, assisted decoding and lookup": {"none": "generate", **RIVALS},
    "OpenVINO's plain decoding, draft model and lookup": ENGINE,
}


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
    wide = ", weights in float32" if config["target"].get("store") == "float32" else ""
    asked = f"{prompts['count']} {kind} of {' to '.join(map(str, lengths))} tokens"
    return f"{dtype}{wide}, {distribution}, {asked}, {config['max_new_tokens']} new tokens"


def decode_table(record: dict[str, Any]) -> str:
    """A row per way: time, ratios, and where the time went."""
    rows = as_markdown([decode_row(way, record["ways"]) for way in record["ways"]])
    return f"{rows}\n\nEnd to end, the prompts' own forwards included; 95 % intervals over {units(record)}, which are the prompts. {both(record)}"


def units(record: dict[str, Any]) -> str:
    """Over how many units the intervals of a decoding record are."""
    count = record["prompts"]["count"]
    return f"{count} unit{'s' * (count != 1)}"


def both(record: dict[str, Any]) -> str:
    """What the two gains are over."""
    fastest = fastest_plain(record["ways"])
    named_fastest = "none was timed" if fastest is None else f"here `{fastest['way']}`"
    return f"Own plain: `none` under the same runtime, what speculation gains; fastest plain: of all ways, {named_fastest}, what a user gains."


def decode_row(way: dict[str, Any], ways: list[dict[str, Any]]) -> dict[str, str]:
    named_ways = {each["way"]: each for each in ways}
    names = set(named_ways)

    def share(key: str) -> str:
        return "-" if way[key] is None else f"{100 * way[key]:.1f} %"

    def times(peer: str) -> str:
        return "1" if way["way"] == peer else describe(against(way, named_ways[peer])) if peer in named_ways else "-"

    name = way["way"] + (f" ({way['note']})" if way["note"] else "")
    row = {
        "way": f"**{name}**" if way["ours"] else name,
        "ms/token, end to end": f"{way['ms_per_token']:.2f}",
        "tokens/forward": f"{way['tokens_per_forward']:.2f}",
    }
    found = gains(ways, way)
    row |= {"over own plain": describe(found["over_own_plain"]), "over fastest plain": describe(found["over_fastest_plain"])}
    row |= {f"speed, `{peer}` = 1": times(peer) for peer in OTHERS_PLAIN if peer in names}
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
    groups = lines[0].get("units") or len(lines[0].get("seconds") or ())
    over = f" with 95 % intervals over {groups} units (groups of the same prompts)" if groups else ""
    return f"{rows}\n\nTokens per second, times our own plain decoding by the same runtime in brackets{over}; {pays(record)}"


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


def store_table(record: dict[str, Any]) -> str:
    """Products by rows in three forms of the same weights, and a random model in each: plain decoding, memory, a forward over N slots."""
    products = [{"rows": str(line["rows"])} | {name: f"{ms:.2f} ms" for name, ms in line["ms"].items()} for line in record["products"]]
    forwards = {curve["bed"]: {f"{point['slots']} slots": f"{point['ms']:.1f} ms" for point in curve["points"]} for curve in record["curves"]}
    models = [
        {"weights": line["store"], "tokens/s": f"{line['tokens_per_second']:.1f}", "memory": f"{line['must_hold'] / 2**20:.0f} MiB"}
        | forwards[line["store"]]
        for line in record["decoding"]
    ]
    size = record["config"]["store"]["size"]
    return (
        f"Products of the target's linear layers, {record['kernel']['instructions']}:\n\n{as_markdown(products)}\n\n"
        f"A random model of size `{size}`, plain decoding and a forward over N slots:\n\n{as_markdown(models)}"
    )


TABLES = {"decode": decode_table, "batch": batch_table, "verify": verify_table, "memory": memory_table, "store": store_table}


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
        "ms/token, decode-only": "-" if line["decode_ms_per_token"] is None else f"{line['decode_ms_per_token']:.2f}",
        "times own plain, decode-only": f"{line['speedup']:.2f}" if "speedup" in line else "-",
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
    held = [record for record in held if record["config"]["target"].get("store") != "float32"]  # what a user gets by default
    decoded, batches = ([record for record in held if record["mode"] == mode] for mode in ("decode", "batch"))
    lines = [f"- {work(record)}, end to end, 95 % over {units(record)}: {'. '.join(compared(record))}." for record in decoded]
    lines += [f"- {work(record)}, in batches of 1 to {max(line['rows'] for line in record['lines'])}: {pays(record)}" for record in batches]
    told = " and ".join(dict.fromkeys(f"`{record['config']['target']['name']}` on {machine(record)}" for record in (*decoded, *batches)))
    return "\n".join([f"{told}:", "", *lines]) if lines else "No benchmark has been recorded yet."


def compared(record: dict[str, Any]) -> list[str]:
    """Our ways over others' versions of the same method, and those that draft over both plain decodings; a sentence each."""
    ways, fastest = record["ways"], fastest_plain(record["ways"])
    told = [(f"Times {name}", over_same(record, peers)) for name, peers in PEERS.items()]
    drafting = [(named(way), gains(ways, way)) for way in ways if way["ours"] and way["way"].split(",")[0] != PLAIN]
    over = {"Times our own plain decoding by the same runtime (what speculation gains)": "over_own_plain"}
    if fastest is not None:
        over[f"Times the fastest plain decoding, {fastest['way']} (what a user gains)"] = "over_fastest_plain"
    told += [(name, "; ".join(f"{way} {describe(found[key])}" for way, found in drafting)) for name, key in over.items()]
    return [f"{name}: {found}" for name, found in told if found]


def over_same(record: dict[str, Any], peers: dict[str, str]) -> str:
    """Our ways and how many times as fast as somebody's version of the same method they are; empty where that was not timed."""
    ways = {way["way"]: way for way in record["ways"]}
    found = [(way, ways.get(peers.get(way["way"].split(",")[0], ""))) for way in record["ways"] if way["ours"]]
    return "; ".join(f"{named(way)} {describe(against(way, peer))}" for way, peer in found if peer)


def pages() -> dict[Path, str]:
    """The pages that are written here, as they ought to be."""
    return {path: updated(path.read_text(encoding="utf-8"), MARK, make()) for path, make in ((PAGE, table), (README, highlights))}
