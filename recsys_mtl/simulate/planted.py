"""Mathematics of worlds with a planted truth: task directions, degrees, base rates, labels.

    P = V L V^T,  W = V L^(1/2) V^T U,  U U^T = I        hence W W^T = P exactly
    z_t = w_t . q,  q ~ N(0, I)                          corr(z_i, z_j) = P_ij
    f_t = clip((sum_{k<=d_t} z_t^k - mean) / sd, -4, 8)  the clip is part of the truth
    c_t = sigmoid(b_t + signal_t)                        rate given the parent
    p_t = c_t p_parent(t)                                end to end

P is the correlation of the linear scores; that of the f_t is smaller and depends on the
degrees. W uses the symmetric root of P, since the eigenvectors V of a P with equal
eigenvalues are arbitrary and the root is not.

Source: the construction of W and the degrees follow the generator of MultiTab-Bench
(arXiv 2511.09970); groups, biases, chains and missing labels are ours.
"""

import math
from collections.abc import Mapping

import numpy as np

_CLIP = (-4.0, 8.0)
_ROUNDING = 1e-9
_BISECTIONS = 60


def block_correlation(num_groups: int, group_size: int, inside: float, across: float) -> np.ndarray:
    """Correlation of tasks in groups: `inside` a group, `across` groups, 1 on the diagonal.

    With G groups of n the eigenvalues are 1 - inside, 1 + (n-1) inside - n across and
    1 + (n-1) inside + n (G-1) across. Groups of one task give one correlation for all pairs.

    Returns:
        float64[T, T] with T = num_groups group_size, group by group.

    Raises:
        ValueError: if an eigenvalue is negative, so that no directions exist; names the bound.
    """
    n = group_size
    if n > 1:
        _check("inside", inside, (-1 / (n - 1), 1.0))
    level = 1 + (n - 1) * inside if n > 1 else 1.0
    if num_groups > 1:
        _check("across", across, (-level / (n * (num_groups - 1)), level / n))
    group = np.repeat(np.arange(num_groups), n)
    correlation = np.where(group[:, None] == group, inside, across).astype(np.float64)
    np.fill_diagonal(correlation, 1.0)
    return correlation


def _check(name: str, value: float, bounds: tuple[float, float]) -> None:
    low, high = bounds
    if not low - _ROUNDING <= value <= high + _ROUNDING:
        raise ValueError(
            f"{name} is {value:g}; no task directions have this correlation, "
            f"{name} must lie between {low:.4g} and {high:.4g}"
        )


def task_directions(
    correlation: np.ndarray, num_factors: int, rng: np.random.Generator
) -> np.ndarray:
    """Unit directions with exactly the wanted pairwise cosines.

    Args:
        correlation: float64[T, T], positive semi-definite with unit diagonal.
        num_factors: dimension D of the latent space, at least T.
        rng: draws the rotation U.

    Returns:
        W float64[T, D] with W W^T = correlation.

    Raises:
        ValueError: if an eigenvalue is negative (clamping it would change the correlation),
            or the space is too small.
    """
    num_tasks = len(correlation)
    if num_factors < num_tasks:
        raise ValueError(f"{num_tasks} directions need as many factors; there are {num_factors}")
    values, vectors = np.linalg.eigh(correlation)
    if values[0] < -_ROUNDING:
        raise ValueError(f"no correlation: its lowest eigenvalue is {values[0]:.4g}, below 0")
    rotation, _ = np.linalg.qr(rng.normal(size=(num_factors, num_tasks)))
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    directions: np.ndarray = root @ rotation.T
    return directions


def factor_table(num_ids: int, num_factors: int, rng: np.random.Generator) -> np.ndarray:
    """Latent factors of the ids of one field, with mean 0 and covariance I over the ids.

    Returns:
        float64[V, D], V = num_ids > D.
    """
    drawn = rng.normal(size=(num_ids, num_factors))
    orthonormal, _ = np.linalg.qr(drawn - drawn.mean(0))
    table: np.ndarray = orthonormal * math.sqrt(num_ids)
    return table


def hermite_coefficients(degree: int) -> np.ndarray:
    """C_0 ... C_d with sum_{1<=k<=d} z^k = sum_m C_m He_m(z).

    For z ~ N(0, 1) the sum has mean C_0 and variance sum_{m>=1} m! C_m^2, and two such sums
    of scores with correlation rho have covariance sum_{m>=1} m! C_im C_jm rho^m.

    Returns:
        float64[d + 1].
    """
    coefficients = np.zeros(degree + 1)
    for power in range(1, degree + 1):
        for half in range(power // 2 + 1):
            m = power - 2 * half
            ways = math.factorial(power) / (math.factorial(m) * math.factorial(half) * 2**half)
            coefficients[m] += ways
    return coefficients


def response(z: np.ndarray, degree: int) -> np.ndarray:
    """The polynomial z + ... + z^d, scaled to mean 0 and variance 1 under N(0, 1), clipped.

    Args:
        z: float64[N]
        degree: d >= 1; 1 leaves z as it is, up to the clip.

    Returns:
        float64[N]
    """
    c = hermite_coefficients(degree)
    variance = sum(math.factorial(m) * c[m] ** 2 for m in range(1, degree + 1))
    total = sum(z**k for k in range(1, degree + 1))
    scaled: np.ndarray = np.clip((total - c[0]) / math.sqrt(variance), *_CLIP)
    return scaled


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-logit)), finite for every logit."""
    rate: np.ndarray = 0.5 * (1 + np.tanh(0.5 * logit))
    return rate


def solve_biases(
    signals: Mapping[str, np.ndarray], base_rates: Mapping[str, float], parents: Mapping[str, str]
) -> dict[str, float]:
    """Biases b_t that give every task its end-to-end base rate on the given rows.

    Bisection, parent by parent; the rate rises with b_t.

    Args:
        signals: by task float64[N], the logit without its bias; parents before children.
        base_rates: by task the wanted mean of p_t.
        parents: task to the task that must happen first; absent where there is none.

    Raises:
        ValueError: if a base rate is not between 0 and that of the parent.
    """
    biases: dict[str, float] = {}
    p: dict[str, np.ndarray] = {}
    for task, signal in signals.items():
        above = p[parents[task]] if task in parents else np.ones(len(signal))
        rate, most = base_rates[task], float(above.mean())
        if not 0 < rate < most:
            raise ValueError(
                f"base rate of {task!r} is {rate:g}; it must lie between 0 and {most:.4g}, "
                "the rate of what comes before it"
            )
        biases[task] = _bisect(signal, above, rate)
        p[task] = above * sigmoid(biases[task] + signal)
    return biases


def _bisect(signal: np.ndarray, above: np.ndarray, rate: float) -> float:
    low, high = -60.0 - float(signal.max()), 60.0 - float(signal.min())
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if np.mean(above * sigmoid(middle + signal)) < rate:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def end_to_end(
    step_rates: Mapping[str, np.ndarray], parents: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Probabilities p_t, float64[N]: products of the step rates c_t along the parents."""
    p: dict[str, np.ndarray] = {}
    for task, rate in step_rates.items():
        p[task] = rate * p[parents[task]] if task in parents else rate
    return p


def draw_labels(
    step_rates: Mapping[str, np.ndarray], parents: Mapping[str, str], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Outcomes, bool[N]: a Bernoulli step c_t wherever the parent happened."""
    labels: dict[str, np.ndarray] = {}
    for task, rate in step_rates.items():
        happens = rng.random(len(rate)) < rate
        labels[task] = happens & labels[parents[task]] if task in parents else happens
    return labels


def draw_missing(
    missing_rates: Mapping[str, float], num_rows: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Rows on which a label is not known, bool[N] by task; independent of everything else."""
    return {task: rng.random(num_rows) < rate for task, rate in missing_rates.items()}
