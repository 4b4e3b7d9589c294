"""The frame of every page: one self-contained file in light and dark, and its banner."""

from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --line: #c8c8c8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181c; --line: #4a4d52; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
td.words { text-align: left; }
.banner { border-left: .6rem solid var(--tone); padding: .6rem 1rem; margin: 1rem 0;
  border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); }
.banner h2 { margin: 0; } .figure { background: #ffffff; color: #1a1a1a; overflow-x: auto; }
code, pre { font-size: 13px; overflow-x: auto; }
""".strip()


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page; equal inputs give equal bytes, and no part is fetched from elsewhere.

    Args:
        title: of the window.
        parts: HTML of the body; empty ones are left out.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def banner(tone: str, heading: str, meaning: str, sentences: Sequence[str] = ()) -> str:
    """What matters most, on top: a heading, what it means, and a list.

    Args:
        tone: colour of its edge, as CSS.
        heading: a word or two.
        meaning: one sentence.
        sentences: of the list; no list without them.
    """
    listed = "".join(f"<li>{escape(s)}</li>" for s in sentences)
    return (
        f'<div class="banner" style="--tone: {tone}"><h2>{escape(heading)}</h2>'
        f"<p>{escape(meaning)}</p>{f'<ul>{listed}</ul>' if listed else ''}</div>"
    )
