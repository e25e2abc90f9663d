"""A prompt and sets of them: made from the rows of a data set, those of some categories, a sample, a few of every kind."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from experiments.parts.data.columns import Columns, Row


@dataclass(frozen=True)
class Prompt:
    """One text, or the user's side of a conversation. `id` is unique within its set; `category` groups prompts in the summary."""

    id: str
    category: str
    turns: tuple[str, ...]

    @property
    def text(self) -> str:
        """The first turn."""
        return self.turns[0]


@dataclass(frozen=True)
class Selection:
    """Which prompts of a set are taken: those of some categories or groups of categories, and of these a sample.

    The sample depends on seed and ids alone, not on the order of the rows, and a smaller one is part of a larger one.
    """

    categories: Sequence[str] | None = None
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    num_rows: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("num_rows", 1 if self.num_rows is None else self.num_rows, 1), ("seed", self.seed, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"data.{name}={value}: give a whole number of at least {least}")

    def __call__(self, found: Mapping[str, str]) -> set[str]:
        """The ids that are taken of those found, given as a map from id to category. Raises ValueError for a category that does not exist."""
        known = set(found.values())
        wanted: set[str] = set()
        for name in self.categories or known:
            if name not in known and name not in self.groups:
                raise ValueError(f"data.categories names {name}; the data set has {', '.join(sorted(known | set(self.groups)))}")
            wanted |= set(self.groups.get(name, [name]))
        ids = [name for name, category in found.items() if category in wanted]
        ids.sort(key=lambda name: hashlib.sha256(f"{self.seed}/{name}".encode()).digest())
        return set(ids[: self.num_rows])


def read_prompts(rows: Sequence[Row], layout: Columns, selection: Selection | None = None) -> list[Prompt]:
    """The prompts of the rows that are selected, in the order of the rows. Raises ValueError naming the row that is wrong."""
    categories: dict[str, str] = {}
    for row in rows:
        name = layout.id(row)
        if name in categories:
            hint = "; data.columns.id=null numbers the rows instead" if layout.columns.get("id") else ""
            raise ValueError(f"{row.where}: the id {name!r} was used before; ids must be unique, since results are recorded under them{hint}")
        categories[name] = layout.category(row)
    if not categories:
        raise ValueError("the data set holds no prompts; choose another split or file")
    taken = (selection or Selection())(categories)
    if not taken:
        raise ValueError("no prompt of the data set is in data.categories; choose others, or null for all")
    prompts = [Prompt(name, category, layout.texts(row)) for row, (name, category) in zip(rows, categories.items(), strict=True) if name in taken]
    _refuse_clashes(prompts)
    return prompts


def turn_id(name: str, turn: int) -> str:
    """The id under which a turn of a prompt is recorded: the prompt's own, and `<id>/2` for its second turn."""
    return name if turn == 1 else f"{name}/{turn}"


def fingerprint(prompts: Sequence[Prompt]) -> str:
    """A hash of what is asked: ids, categories and texts. Equal for equal data, wherever it was loaded from."""
    digest = hashlib.sha256()
    for prompt in prompts:
        for part in (prompt.id, prompt.category, *prompt.turns, ""):
            digest.update(f"{len(part)}:{part}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def choose(prompts: Sequence[Prompt], count: int | None) -> list[Prompt]:
    """At most `count` prompts, taken in turn from every category so that a small number still covers all; the order of the set is kept."""
    if count is None or count >= len(prompts):
        return list(prompts)
    rank: dict[str, int] = {}
    places = []
    for index, prompt in enumerate(prompts):
        rank[prompt.category] = rank.get(prompt.category, -1) + 1
        places.append((rank[prompt.category], index))
    return [prompts[index] for index in sorted(index for _, index in sorted(places)[:count])]


def _refuse_clashes(prompts: Sequence[Prompt]) -> None:
    ids = {prompt.id for prompt in prompts}
    for prompt in prompts:
        for turn in range(2, len(prompt.turns) + 1):
            if turn_id(prompt.id, turn) in ids:
                raise ValueError(f"the id {turn_id(prompt.id, turn)!r} is also that of turn {turn} of {prompt.id!r}; rename one, or set data.turns=1")
