"""HTML tables of the report."""

from collections.abc import Collection, Sequence
from html import escape


def table(header: Sequence[str], rows: Sequence[Sequence[str]], words: Collection[int] = ()) -> str:
    """A table of escaped cells; columns in `words` are set as text, others as numbers."""
    head = "".join(f"<th>{escape(h)}</th>" for h in header)
    body = "".join(
        f"<tr>{''.join(_cell(c, i in words) for i, c in enumerate(r))}</tr>" for r in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(text: str, is_words: bool) -> str:
    tag = '<td class="words">' if is_words else "<td>"
    return f"{tag}{escape(text)}</td>"
