"""Rows as plain matrices, for models outside the pipeline."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_mtl.ingest.ctr_weight import fit_ctr_weights
from recsys_mtl.ingest.peers import PEERS

_WORD_RIDGE = 10.0
_ADVERTISER_STRENGTH = 10.0
_EARLY = 3


@dataclass(frozen=True, slots=True, eq=False)
class Matrices:
    """B rows of a landmarks artifact and their static traces."""

    words: np.ndarray
    """float64[B, V], 1 where the title has the word."""
    image: np.ndarray
    """float64[B, 8]"""
    genre: np.ndarray
    """float64[B, G], 1 for the row's."""
    counts: np.ndarray
    """float64[B, 3]: log(1 + impressions), log(1 + clicks) and the log of `click_rate_ratio`."""
    peers: np.ndarray
    """float64[B, 4]: the columns of `ingest.peers`."""

    @classmethod
    def of(cls, rows: pa.Table, world: Path) -> "Matrices":
        """Of rows of all parts: priors of click rates come from the train rows among them."""
        ads = pq.read_table(world / "creatives.parquet").take(rows["creative"])
        titles = ads["title"].combine_chunks()
        names = pc.unique(titles.flatten()).sort()
        words = np.zeros((len(ads), len(names)))
        place = pc.index_in(titles.flatten(), names).to_numpy()
        words[pc.list_parent_indices(titles).to_numpy(), place] = 1
        genres = np.array(rows["genre"].to_pylist())
        clicks, impressions = rows["clicks"].to_numpy(), rows["impressions"].to_numpy()
        ratio = click_rate_ratio(rows, clicks, impressions)
        return cls(
            words,
            np.stack([ads[f"image_{k}"].to_numpy() for k in range(8)], axis=1),
            (genres[:, None] == np.unique(genres)).astype(np.float64),
            np.column_stack([np.log1p(impressions), np.log1p(clicks), np.log(ratio)]),
            np.column_stack([rows[name].to_numpy() for name in PEERS]),
        )

    def take(self, rows: np.ndarray) -> "Matrices":
        """A subset; `rows` is bool[B] or int64[m]."""
        return Matrices(*(getattr(self, name)[rows] for name in self.__slots__))


def click_rate_ratio(rows: pa.Table, clicks: np.ndarray, impressions: np.ndarray) -> np.ndarray:
    """Smoothed click rate over the mean of the genre, float64[B]; 1 where nothing is known.

    Args:
        rows: of a landmarks artifact; priors are fitted to the train rows' own counts.
        clicks: int64[B].
        impressions: int64[B].
    """
    genres = np.array(rows["genre"].to_pylist())
    known = [rows["clicks"].to_numpy(), rows["impressions"].to_numpy(), genres]
    train = np.array(rows["part"].to_pylist()) == "train"
    weights = fit_ctr_weights("smoothed", *(v[train] for v in known))
    nothing = np.zeros_like(clicks)
    mean = weights.of(nothing, nothing, genres) - 1
    ratio: np.ndarray = (weights.of(clicks, impressions, genres) - 1) / mean
    return ratio


def score_columns(rows: pa.Table, matrices: Matrices, train: np.ndarray) -> np.ndarray:
    """What a linear model can make of title and advertiser: two numbers per row, float64[B, 2].

    The target is a stop within the row's first days. Words: its ridge regression. Advertiser: the
    shrunk mean error of the advertiser's other creatives.

    Args:
        rows: B rows of one landmark.
        matrices: of the same rows.
        train: bool[B], rows that teach.
    """
    entry, exit_ = rows["entry"].to_numpy(), rows["exit"].to_numpy()
    target = ((rows["stopped"].to_numpy() > 0) & (exit_ < entry + _EARLY)).astype(np.float64)
    center = target[train].mean()
    x = np.hstack([matrices.words, matrices.image, matrices.genre])
    seen = x[train]
    gram = seen.T @ seen + _WORD_RIDGE * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, seen.T @ (target[train] - center))
    error = (target - center - x @ weights) * train
    num_words = matrices.words.shape[1]
    _, advertiser = np.unique(rows["advertiser"].to_numpy(), return_inverse=True)
    total = np.bincount(advertiser, error)[advertiser] - error
    others = np.bincount(advertiser, train)[advertiser] - train
    of_advertiser = total / (others + _ADVERTISER_STRENGTH)
    return np.column_stack([matrices.words @ weights[:num_words], of_advertiser])
