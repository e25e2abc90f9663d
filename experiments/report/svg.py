"""Drawings as SVG files for a README: text stays text, nothing is fetched, the background is the page's, and a drawing is always the same bytes."""

from dataclasses import dataclass, field
from html import escape

WIDTH = 560  # of every drawing, in its own units
SHOWN = 700  # pixels on a page that has as many
SANS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,'Liberation Mono','DejaVu Sans Mono',monospace"
LETTER = 0.56  # mean width of a letter over its size, for breaking lines; proportional fonts differ by a few percent
THEMES = {  # colours by what they are for; on white and on GitHub's dark grey
    "light": {
        "ink": "#1f2328",
        "soft": "#59636e",
        "grid": "#d1d9e0",
        "faster": "#0a5fa8",
        "slower": "#b3470b",
        "unsure": "#6e7781",
        "accepted": "#bfeac8",
        "accepted-edge": "#2f7d42",
        "rejected": "#fbdcd8",
        "rejected-edge": "#b3261e",
        "bonus": "#d6e6fb",
        "bonus-edge": "#0a5fa8",
    },
    "dark": {
        "ink": "#e6edf3",
        "soft": "#9da7b1",
        "grid": "#3d444d",
        "faster": "#58a6ff",
        "slower": "#f0883e",
        "unsure": "#9da7b1",
        "accepted": "#1f4d2d",
        "accepted-edge": "#6fcf87",
        "rejected": "#4a1f1f",
        "rejected-edge": "#ffb3ae",
        "bonus": "#17355c",
        "bonus-edge": "#79b8ff",
    },
}


@dataclass
class Drawing:
    """A picture of WIDTH by `height`; `title` and `description` are what a screen reader says. Colours are the names of a theme."""

    title: str
    description: str
    height: float = 0
    parts: list[str] = field(default_factory=list)

    def text(
        self, x: float, y: float, words: str, size: float, *, colour: str = "ink", anchor: str = "start", bold: bool = False, struck: bool = False
    ) -> None:
        """A line of words whose baseline is at y."""
        place = f' text-anchor="{anchor}"' if anchor != "start" else ""
        weight = ' font-weight="600"' if bold else ' text-decoration="line-through"' if struck else ""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{{{colour}}}"{place}{weight}>{_safe(words)}</text>')

    def code(self, x: float, y: float, words: str, size: float, width: float, *, colour: str = "ink", struck: bool = False) -> None:
        """Letters of a fixed width, `width` in all, whichever font is there."""
        line = ' text-decoration="line-through"' if struck else ""
        at = f'x="{x:g}" y="{y:g}" font-size="{size:g}" textLength="{width:g}" lengthAdjust="spacingAndGlyphs"'
        self.parts.append(f'<text class="m" {at} fill="{{{colour}}}"{line}>{_safe(words)}</text>')

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: str, width: float = 1, *, dashed: bool = False) -> None:
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        ends = f'x1="{start[0]:g}" y1="{start[1]:g}" x2="{end[0]:g}" y2="{end[1]:g}"'
        self.parts.append(f'<line {ends} stroke="{{{colour}}}" stroke-width="{width:g}"{dashes}/>')

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{{{colour}}}"/>')

    def box(self, x: float, y: float, width: float, height: float, colour: str, edge: str) -> None:
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self.parts.append(f'<rect {place} rx="3" fill="{{{colour}}}" stroke="{{{edge}}}" stroke-width="0.8"/>')

    def to_svg(self, theme: dict[str, str]) -> str:
        """The whole file."""
        size = f'viewBox="0 0 {WIDTH} {self.height:g}" width="{SHOWN}" height="{self.height * SHOWN / WIDTH:g}"'
        told = f'<title id="t">{escape(self.title, quote=False)}</title><desc id="d">{escape(self.description, quote=False)}</desc>'
        style = f"<style>text{{font-family:{SANS};white-space:pre}}text.m{{font-family:{MONO}}}</style>"
        body = "\n".join(self.parts)
        for name, colour in theme.items():
            body = body.replace(f'"{{{name}}}"', f'"{colour}"')
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="t d" xml:space="preserve">'
        return f"{head}{told}{style}\n{body}\n</svg>\n"


def wrapped(words: str, size: float, width: float) -> list[str]:
    """Lines that are not wider than `width`, broken between words; "; " stays at the end of a line."""
    lines, most = [""], max(1, int(width / (LETTER * size)))
    for word in words.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _safe(words: str) -> str:
    """Text of an SVG; what XML does not allow is shown by Unicode's pictures of it."""
    return escape("".join(chr(0x2400 + ord(letter)) if ord(letter) < 32 else letter for letter in words))
