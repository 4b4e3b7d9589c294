"""AUC within users, averaged over users by their impressions."""

import numpy as np

from recsys_mtl.metrics.clusters import Clusters, cluster_se
from recsys_mtl.metrics.estimate import Estimate, undefined, unusable
from recsys_mtl.metrics.ranks import run_starts


def gauc(scores: np.ndarray, labels: np.ndarray, users: Clusters) -> Estimate:
    """GAUC = sum_u n_u A_u / sum_u n_u over the U users that have both classes.

    One influence value per user, psi_u = n_u (A_u - GAUC) / mean n_u.

    Args:
        scores: float64[n], any scale.
        labels: bool[n], or 0 and 1.
        users: user of each of the n rows.

    Returns:
        The estimate; `n`, `n_pos` and `n_clusters` count what is in the value, and
        `skipped_users_share`, `skipped_rows_share` what is not. O(n log n).
    """
    labels = labels.astype(bool)
    reason = unusable(scores, labels, both_classes=False)
    if reason:
        return undefined(reason, labels, users)
    rows = np.bincount(users.codes, minlength=users.count)
    n_pos = np.bincount(users.codes[labels], minlength=users.count)
    n_neg = rows - n_pos
    used = (n_pos > 0) & (n_neg > 0)
    if not used.any():
        return undefined("no user has both classes", labels, users)
    wins = _wins(scores, labels, users, n_pos)
    weight = rows[used]
    user_auc = wins[used] / (n_pos[used] * n_neg[used])
    value = float(np.dot(weight, user_auc) / weight.sum())
    psi = weight * (user_auc - value) / weight.mean()
    units = Clusters.singletons(len(psi))
    se = cluster_se(psi, units)
    return Estimate(
        value=value,
        se=se,
        n=int(weight.sum()),
        n_pos=int(n_pos[used].sum()),
        n_clusters=units.count,
        reason="" if se is not None else "one user with both classes: no standard error",
        extra={
            "skipped_users_share": 1 - units.count / users.count,
            "skipped_rows_share": 1 - int(weight.sum()) / len(labels),
        },
        psi=psi,
        clusters=units,
    )


def _wins(scores: np.ndarray, labels: np.ndarray, users: Clusters, n_pos: np.ndarray) -> np.ndarray:
    """float64[G]: pairs of a user's rows in which the positive is above, ties one half."""
    order = np.lexsort((scores, users.codes))
    codes, positive = users.codes[order], labels[order]
    starts = run_starts(codes, scores[order])
    lengths = np.diff(starts, append=len(codes))
    mid_rank = np.repeat(starts + (lengths + 1) / 2, lengths)
    first_row = np.cumsum(np.bincount(codes, minlength=users.count)) - np.bincount(
        codes, minlength=users.count
    )
    rank_sum = np.bincount(
        codes[positive],
        weights=mid_rank[positive] - first_row[codes[positive]],
        minlength=users.count,
    )
    wins: np.ndarray = rank_sum - n_pos * (n_pos + 1) / 2
    return wins
