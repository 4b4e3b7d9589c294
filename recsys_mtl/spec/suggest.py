"""Did-you-mean."""

from collections.abc import Iterable
from difflib import get_close_matches

_MAX_LISTED = 12


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` is most likely a misspelling of, or None.

    Words within one edit (two for words of five letters and more) come first, because
    similarity alone prefers long words over the right short one.
    """
    words = sorted(set(known) - {word})
    edits = {w: _num_edits(word.lower(), w.lower()) for w in words}
    near = [w for w in words if edits[w] <= (1 if len(w) < 5 else 2)]
    if near:
        return min(near, key=lambda w: (edits[w], abs(len(w) - len(word))))
    similar = get_close_matches(word, words, n=1, cutoff=0.6)
    return similar[0] if similar else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?`, or the known words when they are few, or nothing."""
    words = sorted(set(known))
    best = closest(word, words)
    if best is not None:
        return f", did you mean {best!r}?"
    return f"; known: {', '.join(words)}" if 0 < len(words) <= _MAX_LISTED else ""


def _num_edits(a: str, b: str) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours from `a` to `b`."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        older, before, row = before, row, [i]
        for j, other in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]
