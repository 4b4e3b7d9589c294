"""What a policy is worth on rows with known outcome: `value.json`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.decisions.replay import Replay, in_words, replay
from recsys_mtl.decisions.thresholds import Judges, Rates, Threshold
from recsys_mtl.spec.feature_spec import SurvivalLabel
from recsys_mtl.spec.policy_file import Policy

MIN_ROWS = 30
"""Test rows of a genre below which its rates are not told."""


@dataclass(frozen=True, slots=True)
class Value:
    """How right thresholds are by genre, and the policy played back."""

    genres: dict[str, dict[str, Rates]]
    """By cause and genre, on test rows."""
    replay: Replay | None
    sentences: list[str]
    """The playback in words."""

    @classmethod
    def of(
        cls,
        policy: Policy,
        label: SurvivalLabel,
        thresholds: Sequence[Threshold],
        test: pa.Table,
        days: pa.Table,
    ) -> "Value":
        """Measure a policy.

        Args:
            policy: the rules.
            label: of the read-outs.
            thresholds: of the policy's causes.
            test: as `choose_thresholds` takes it, and `genre`.
            days: as `replay` takes it.
        """
        genres = {
            threshold.cause: _by_genre(threshold, label, policy.horizon, test)
            for threshold in thresholds
            if threshold.value is not None
        }
        played = replay(days, policy, label, thresholds)
        return cls(genres, played, in_words(played, policy.horizon))

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _by_genre(
    threshold: Threshold, label: SurvivalLabel, horizon: int, test: pa.Table
) -> dict[str, Rates]:
    judges = Judges.of(test, threshold.cause, label, horizon)
    genre = test["genre"].cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False).astype(str)
    names, counts = np.unique(genre, return_counts=True)
    return {
        str(name): judges.rates(threshold.value, genre == name)
        for name in names[counts >= MIN_ROWS]
    }


def with_genre(test: pa.Table, rows: pa.Table) -> pa.Table:
    """Predicted rows with the genre of the landmark rows that they are of."""
    at = pc.index_in(test["row_id"], value_set=rows["row_id"].combine_chunks())
    return test.append_column("genre", rows["genre"].combine_chunks().take(at))
