"""Options of `report`, which has no configuration. Imports nothing heavy: they are read before anything else is."""

from pathlib import Path

from experiments.parts.door.arguments import Parser


def parser() -> Parser:
    found = Parser("draftproof report", "Recorded runs as a table, as Markdown, as pictures, or as one HTML page.")
    found.add_argument("paths", nargs="*", type=Path, help="run folders, sweep folders or summary.json files; default: the newest sweep")
    found.add_argument("--table", choices=("terminal", "markdown"), help="print the comparison as one table and nothing else")
    found.add_argument("--categories", action="store_true", help="with the table: another one by category")
    found.add_argument("--html", type=Path, metavar="FILE", help="write one self-contained page here")
    found.add_argument("--markdown", type=Path, metavar="FILE", help="write Markdown here, its figures into a folder beside it")
    found.add_argument("--picture", type=Path, metavar="BASE", help="write the speedups as BASE-light.svg and BASE-dark.svg")
    found.add_argument("--answer-picture", type=Path, metavar="BASE", help="write one answer in colour as BASE-light.svg and BASE-dark.svg")
    found.add_argument(
        "--answer", metavar="PROMPT", help="with --answer-picture: the id of the prompt; default: a short one with all kinds of tokens"
    )
    found.add_argument(
        "--replay", nargs="+", type=Path, default=[], metavar="FILE", help="files of experiments.replay: ceilings for the gamma curves"
    )
    found.add_argument("--cost", nargs="+", type=Path, default=[], metavar="FILE", help="cost.json of experiments.cost: predicted against measured")
    found.add_argument("--spec-bench", nargs="+", type=Path, default=[], metavar="FILE", help="answer files of Spec-Bench to stand beside ours")
    found.add_argument("--spec-bench-baseline", type=Path, metavar="FILE", help="Spec-Bench's answers by plain decoding, for its speedups")
    found.add_argument("--vllm", nargs="+", type=Path, default=[], metavar="FILE", help="responses of vLLM with per-request speculative metrics")
    return found
