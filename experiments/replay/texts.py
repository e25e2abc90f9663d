"""Recorded targets: the answers of a run folder, or plain texts whose model is not at hand, as prompts and tokens.

A JSONL line may be an arena-hard answer (`messages`, with the answer's text in `content` or `content.answer`), a line of an answer file of Spec-Bench
or MT-Bench (`choices`, whose prompts stand in the file of questions), or hold a prompt and a response under plain names, as GSM8K (`question`,
`answer`) and HumanEval (`prompt`, `canonical_solution`) do. Every answer of a conversation is a text of its own, after all that was said before it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from experiments.recording.files import json_lines
from experiments.recording.folder import WRITTEN_AGAIN, RunFolder
from experiments.recording.record import BASELINE, METHOD, record_of

PROMPT_FIELDS = ("prompt", "question", "instruction", "input", "text")
RESPONSE_FIELDS = ("response", "answer", "completion", "output", "canonical_solution", "solution")
ID_FIELDS = ("id", "question_id", "task_id", "uid")
WANTED = "recorded= a run folder or a .jsonl file"


@dataclass(frozen=True)
class RecordedText:
    """One answer of a target. `id` is unique within its recording."""

    id: str
    category: str
    prompt: list[int]  # never empty
    tokens: list[int]


@dataclass(frozen=True)
class Recording:
    """Texts, and what is known of how they were made. `config` is the run's; None for plain texts, of which nothing is known."""

    texts: list[RecordedText]
    config: dict[str, Any] | None = None
    eos_ids: list[int] = field(default_factory=list)
    live: dict[str, Any] | None = None  # the run's own figures for its method: steps, tokens

    @property
    def budget(self) -> int | None:
        """max_new_tokens of the run; None: every text ends where it ends."""
        return None if self.config is None else self.config["max_new_tokens"]


@dataclass(frozen=True)
class Reading:
    """How plain texts are read. `prompt_field`, `response_field`: null takes the first known name; `questions`: a JSONL file with prompts by id."""

    prompt_field: str | None = None
    response_field: str | None = None
    questions: str | None = None
    chat_template: bool = False  # the tokenizer's template around every message
    with_prompt: bool = True  # False: the answer alone, its first token given


@dataclass(frozen=True)
class Source:
    """Which answers are replayed: the folder of a run, or a file of texts that is read in the given way. Raises ValueError for a wrong number."""

    recorded: Path
    num_texts: int | None = None  # at most so many, evenly spaced
    reading: Reading = Reading()

    def __post_init__(self) -> None:
        if self.num_texts is not None and (not isinstance(self.num_texts, int) or self.num_texts < 1):
            raise ValueError(f"num_texts={self.num_texts}: give a whole number of at least 1, or null for all")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Source":
        """The source in a resolved configuration of a replay."""
        return cls(Path(config["recorded"]), config["num_texts"], Reading(**{part.name: config[part.name] for part in fields(Reading)}))


def read_run(folder: Path) -> Recording:
    """The baseline's answers of a run folder. Raises ValueError where the folder holds none, or none with prompt ids."""
    if not (folder / "config.yaml").exists() or not (folder / "records.jsonl").exists():
        raise ValueError(f"{folder} holds no records.jsonl and config.yaml; name the folder of an experiments.run, or a .jsonl file")
    run = RunFolder(folder)
    texts, eos, live = [], set(), {"num_steps": 0, "num_tokens": 0}
    for where, row in json_lines(folder / "records.jsonl", ours=True):
        record = record_of(row, where)
        if record.role == METHOD:
            live = {"num_steps": live["num_steps"] + record.num_steps, "num_tokens": live["num_tokens"] + len(record.tokens)}
        if record.role != BASELINE:
            continue
        if not record.prompt_ids:
            raise ValueError(f"{where}: the run was recorded without prompt_ids, which replay needs; run it again with this version")
        texts.append(RecordedText(record.prompt, record.category, record.prompt_ids, record.tokens))
        if record.ended == "eos":
            eos.add(record.tokens[-1])
    if not texts:
        raise ValueError(f"{folder} holds no finished answers; let the run get further")
    for part in ("target", "drafter", "sampling"):
        run.part(part)
    if not isinstance(run.config.get("max_new_tokens"), int):
        raise ValueError(f"{folder / 'config.yaml'}: is not the whole configuration of a run (max_new_tokens is no whole number); {WRITTEN_AGAIN}")
    return Recording(texts, run.config, sorted(eos), live)


def read_texts(path: Path, tokenizer: Any, reading: Reading | None = None) -> Recording:
    """The answers of a JSONL file (.gz too) as tokens of `tokenizer`. Raises ValueError naming file and line for whatever cannot be read."""
    reading = reading or Reading()
    questions = dict(_questions(reading.questions)) if reading.questions else {}
    found: dict[str, RecordedText] = {}
    for number, (where, row) in enumerate(json_lines(path, wanted=WANTED)):
        name = str(next((row[key] for key in ID_FIELDS if key in row), number))
        asked = questions.get(name, {})
        category = str(row.get("category") or asked.get("category") or path.name.split(".")[0])
        for turn, messages in enumerate(_answers(row, asked, reading, where), 1):
            key = name if turn == 1 else f"{name}/{turn}"
            if key in found:
                raise ValueError(f"{where}: the id {key!r} was used before; ids must be unique")
            text = _tokens(messages, tokenizer, reading)
            if text is not None:
                found[key] = RecordedText(key, category, *text)
    if not found:
        raise ValueError(f"{path}: holds no answers of more than one token")
    return Recording(list(found.values()))


def _questions(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for _, row in json_lines(Path(path)):
        yield str(next((row[key] for key in ID_FIELDS if key in row), "")), row


def _answers(row: dict[str, Any], asked: dict[str, Any], reading: Reading, where: str) -> Iterator[list[dict[str, str]]]:
    """Every answer of a row as a conversation that ends with it."""
    said: list[dict[str, str]] = []
    for role, content in _said(row, asked, reading, where):
        if not isinstance(content, str):
            raise ValueError(f"{where}: a message holds {type(content).__name__} where text is expected; name prompt_field and response_field")
        said.append({"role": role, "content": content})
        if role == "assistant":
            yield list(said)


def _said(row: dict[str, Any], asked: dict[str, Any], reading: Reading, where: str) -> Iterator[tuple[str, Any]]:
    """(role, text) in order."""
    plain = reading.prompt_field or reading.response_field
    if isinstance(row.get("messages"), list) and not plain:
        for message in row["messages"]:
            content = message.get("content")
            yield message.get("role"), content.get("answer") if isinstance(content, dict) else content
    elif isinstance(row.get("choices"), list) and row["choices"] and not plain:
        turns, prompts = row["choices"][0]["turns"], asked.get("turns") or [asked.get("prompt")]
        for index, turn in enumerate(turns):
            if index < len(prompts) and prompts[index]:
                yield "user", prompts[index]
            yield "assistant", turn.get("content") if isinstance(turn, dict) else turn
    else:
        response = reading.response_field or next((name for name in RESPONSE_FIELDS if name in row), None)
        prompt = reading.prompt_field or next((name for name in PROMPT_FIELDS if name in row), None)
        if response not in row or (reading.prompt_field and prompt not in row):
            wanted = "prompt_field and response_field"
            raise ValueError(f"{where}: has no answer under a known name; it has {', '.join(row) or 'nothing'}: name the right ones with {wanted}")
        if prompt is not None:
            yield "user", row[prompt]
        yield "assistant", row[response]


def _tokens(messages: list[dict[str, str]], tokenizer: Any, reading: Reading) -> tuple[list[int], list[int]] | None:
    """Prompt and answer; None for an answer that is too short to be replayed. Without a prompt the answer's first token is given."""
    before, answer = messages[:-1] if reading.with_prompt else [], messages[-1]["content"]
    tokens = list(tokenizer(answer, add_special_tokens=False, verbose=False)["input_ids"])
    if before and reading.chat_template:
        prompt = list(tokenizer.apply_chat_template(before, add_generation_prompt=True, return_dict=True)["input_ids"])
    else:
        prompt = list(tokenizer("\n\n".join([*(message["content"] for message in before), ""]), verbose=False)["input_ids"]) if before else []
    if not prompt:
        prompt, tokens = tokens[:1], tokens[1:]
    return (prompt, tokens) if prompt and tokens else None


def open_recording(source: Source, tokenizer: Any = None) -> Recording:
    """The texts of a source. Plain texts need the tokenizer."""
    path, most = source.recorded, source.num_texts
    recording = read_run(path) if path.is_dir() else read_texts(path, tokenizer, source.reading)
    texts = recording.texts
    if most is not None and most < len(texts):
        texts = [texts[index * len(texts) // most] for index in range(most)]
    return replace(recording, texts=texts)
