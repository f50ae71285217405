"""Distribution matching by worked examples, and against scipy on whole distributions."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from evals.distribution import Told, clustered, matching
from router.teachers.local import Foretelling


def told(p: np.ndarray, q: np.ndarray, labels: list[int], ids: np.ndarray | None = None) -> Told:
    """Teacher and model over one small vocabulary, of which the ids are kept (all of it if not given)."""
    T, V = p.shape
    kept = np.tile(np.arange(V), (T, 1)) if ids is None else ids
    order = np.argsort(-np.take_along_axis(p, kept, 1), axis=1)
    kept = np.take_along_axis(kept, order, 1)
    rows, label = np.arange(T), np.array(labels)
    held = Foretelling(
        np.log(np.take_along_axis(q, kept, 1)), np.log(q[rows, label]), q.argmax(1), q.max(1)
    )
    return Told(kept, np.take_along_axis(p, kept, 1), label, held)


@pytest.fixture
def both() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.dirichlet(np.ones(6), 40), rng.dirichlet(np.ones(6), 40)


def test_divergences_are_scipys_on_the_whole_vocabulary(
    both: tuple[np.ndarray, np.ndarray],
) -> None:
    """Source: scipy.stats.entropy and scipy.spatial.distance.jensenshannon (squared); gaps by numpy."""
    p, q = both
    labels = p.argmax(1).tolist()
    found = matching([told(p, q, labels)] * 2).figures
    assert found["kl"].mean == pytest.approx(entropy(p, q, axis=1).mean())
    assert found["reverse_kl"].mean == pytest.approx(entropy(q, p, axis=1).mean())
    assert found["js"].mean == pytest.approx((jensenshannon(p, q, axis=1) ** 2).mean())
    assert found["entropy_gap"].mean == pytest.approx(
        (entropy(q, axis=1) - entropy(p, axis=1)).mean()
    )
    assert found["top1"].mean == pytest.approx((p.argmax(1) == q.argmax(1)).mean())
    rows = np.arange(40)
    gap = np.log(p[rows, labels]) - np.log(q[rows, labels])
    assert found["nll_gap"].mean == pytest.approx(gap.mean())


def test_the_tail_is_one_outcome_by_hand() -> None:
    """Kept of p = (.5, .3, .2) is the first token: KL of (.5, .5) to (.25, .75) is .5 ln 2 + .5 ln(2/3)."""
    p, q = np.array([[0.5, 0.3, 0.2]]), np.array([[0.25, 0.25, 0.5]])
    found = matching([told(p, q, [0], ids=np.array([[0]]))] * 2).figures
    assert found["kl"].mean == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))


def test_fewer_kept_tokens_never_say_more(both: tuple[np.ndarray, np.ndarray]) -> None:
    p, q = both
    labels = [0] * 40
    whole = matching([told(p, q, labels)] * 2).figures["kl"].mean
    some = matching([told(p, q, labels, ids=np.argsort(-p, 1)[:, :3])] * 2).figures["kl"].mean
    assert 0 <= some <= whole + 1e-12


def test_equal_distributions_are_at_no_distance(both: tuple[np.ndarray, np.ndarray]) -> None:
    p, _ = both
    found = matching([told(p, p, p.argmax(1).tolist())] * 2).figures
    for name in ("kl", "reverse_kl", "js", "entropy_gap", "nll_gap"):
        assert found[name].mean == pytest.approx(0, abs=1e-12)
    assert found["top1"].mean == 1.0


def test_tokens_without_a_teachers_distribution_are_counted_and_left_out(
    both: tuple[np.ndarray, np.ndarray],
) -> None:
    p, q = both
    one = told(p, q, [0] * 40)
    p_none = one.p_T_K.copy()
    p_none[10:] = 0
    found = matching([Told(one.ids_T_K, p_none, one.labels_T, one.held)] * 2)
    assert (found.tokens, found.covered, found.figures["kl"].n) == (80, 20, 20)
    assert found.figures["nll"].n == 80
    nothing = matching([])
    assert (nothing.figures, nothing.calibration_error) == ({}, None)


def test_calibration_error_by_hand() -> None:
    """Confidence .9 at four tokens of which three come, .6 at one that does not: (4 x .15 + 1 x .6) / 5."""
    q = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]])
    found = matching([told(q, q, [0, 0, 0, 1, 1])])
    assert found.calibration_error == pytest.approx((4 * 0.15 + 0.6) / 5)


def test_tokens_of_an_answer_count_as_one_cluster() -> None:
    """Twenty answers of five equal tokens tell as much as twenty tokens."""
    values = np.random.default_rng(0).random(20)
    alone = clustered([np.array([value]) for value in values])
    repeated = clustered([np.full(5, value) for value in values])
    assert (repeated.mean, repeated.lo, repeated.hi) == pytest.approx(
        (alone.mean, alone.lo, alone.hi)
    )
    half = 1.959964 * values.std(ddof=1) / 20**0.5
    assert alone.hi - alone.mean == pytest.approx(half)
