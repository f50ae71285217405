"""The head's loss and gradients are those of full-vocabulary references, however the positions are cut."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainer.signals.logit import UNLABELLED, Objective, Targets, head_loss

N, D, V, K = 37, 12, 90, 8


def problem(seed: int = 0, k: int = K) -> tuple[Tensor, Tensor, Targets]:
    """Positions with a label, a record, both or neither; some records hold fewer than K tokens."""
    torch.manual_seed(seed)
    hidden, weight = torch.randn(N, D), torch.randn(V, D)
    teacher = (2 * torch.randn(N, V)).softmax(dim=1)
    probabilities, ids = teacher.topk(k, dim=1)
    ids[::5, k // 2 :], probabilities[::5, k // 2 :] = 0, 0.0
    labels = torch.randint(0, V, (N,))
    labels[::7] = UNLABELLED
    labels[1::3] = ids[1::3, 0]
    kd = torch.rand(N) * (torch.arange(N) % 4 != 0)
    probabilities[kd == 0] = 0.0
    return hidden, weight, Targets(labels, torch.rand(N), kd, ids, probabilities)


def reference(hidden: Tensor, weight: Tensor, targets: Targets, objective: Objective) -> Tensor:
    """The same by autograd, in float64, position by position over the whole vocabulary."""
    logits = hidden.double() @ weight.double().T
    total = torch.zeros((), dtype=torch.float64)
    for n in range(len(hidden)):
        if targets.labels_N[n] != UNLABELLED:
            ce = functional.cross_entropy(logits[n], targets.labels_N[n])
            total = total + targets.ce_weights_N[n] * ce
        if targets.kd_weights_N[n] == 0:
            continue
        p_all = (logits[n] / objective.temperature).softmax(dim=0)
        known = targets.probabilities_N_K[n] > 0
        q = targets.probabilities_N_K[n][known].double()
        p = p_all[targets.ids_N_K[n][known]]
        rest = torch.ones(V, dtype=torch.bool)
        rest[targets.ids_N_K[n][known]] = False
        p = torch.cat([p, p_all[rest].sum().unsqueeze(0)])
        q = torch.cat([q, (1 - q.sum()).clamp(min=1e-6).unsqueeze(0)])
        m = objective.beta * q + (1 - objective.beta) * p
        forward, reverse = (q * (q / p).log()).sum(), (p * (p / q).log()).sum()
        mixed = objective.beta * (q * (q / m).log()).sum()
        mixed = mixed + (1 - objective.beta) * (p * (p / m).log()).sum()
        kd = {0.0: forward, 1.0: reverse}.get(objective.beta, mixed)
        total = total + targets.kd_weights_N[n] * objective.temperature**2 * kd
    return total


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_loss_and_gradients_are_those_of_autograd(beta: float, temperature: float) -> None:
    hidden, weight, targets = problem()
    objective = Objective(beta, temperature)
    found = []
    for loss in (
        lambda h, w: head_loss(h, w, targets, objective, chunk=10).total,
        lambda h, w: reference(h, w, targets, objective),
    ):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        total = loss(h, w)
        (3 * total).backward()
        found.append((total.detach().float(), h.grad, w.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_whole_distribution_as_a_record_is_full_distillation(temperature: float) -> None:
    torch.manual_seed(3)
    hidden, weight = torch.randn(N, D), torch.randn(V, D)
    teacher = torch.randn(N, V).softmax(dim=1)
    none = torch.full((N,), UNLABELLED)
    every = torch.arange(V).expand(N, V)
    targets = Targets(none, torch.zeros(N), torch.full((N,), 1 / N), every, teacher)
    total = head_loss(hidden, weight, targets, Objective(0.0, temperature)).total
    student = (hidden @ weight.T / temperature).log_softmax(dim=1)
    whole = functional.kl_div(student, teacher, reduction="batchmean") * temperature**2
    torch.testing.assert_close(total, whole, rtol=1e-4, atol=1e-5)


def test_the_cut_into_chunks_and_batches_changes_nothing() -> None:
    hidden, weight, targets = problem()
    whole = head_loss(hidden, weight, targets, Objective(0.5), chunk=N)
    parts = [head_loss(hidden, weight, targets, Objective(0.5), chunk=c) for c in (1, 7, 36)]
    for part in parts:
        torch.testing.assert_close(part.total, whole.total, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(part.kd_N, whole.kd_N, rtol=1e-5, atol=1e-6)


def test_a_frozen_head_gets_no_gradient_and_neither_do_frozen_states() -> None:
    hidden, weight, targets = problem()
    head_loss(hidden.requires_grad_(), weight, targets, Objective()).total.backward()
    assert weight.grad is None
    assert hidden.grad is not None
    head_loss(hidden.detach(), weight.requires_grad_(), targets, Objective()).total.backward()
    assert weight.grad is not None


def test_bfloat16_is_near_float32() -> None:
    hidden, weight, targets = problem()
    exact = head_loss(hidden, weight, targets, Objective())
    short = hidden.bfloat16().requires_grad_(), weight.bfloat16().requires_grad_()
    rough = head_loss(*short, targets, Objective())
    rough.total.backward()
    assert rough.total.dtype == torch.float32
    torch.testing.assert_close(rough.total, exact.total, rtol=2e-2, atol=0.1)
    assert all(each.grad is not None and each.grad.dtype == torch.bfloat16 for each in short)


def test_a_tail_that_the_student_all_but_rules_out_still_teaches() -> None:
    """By hand: q (0.9, tail 0.1) against logits 40, 0, 1 and -1."""
    logits = torch.tensor([[40.0, 0.0, 1.0, -1.0]], dtype=torch.float64).requires_grad_()
    p = logits.softmax(1)
    exact = 0.9 * (0.9 / p[0, 0]).log() + 0.1 * (0.1 / p[0, 1:].sum()).log()
    exact.backward()
    hidden = logits.detach().float().requires_grad_()
    targets = Targets(
        torch.tensor([-100]),
        torch.zeros(1),
        torch.ones(1),
        torch.tensor([[0]]),
        torch.tensor([[0.9]]),
    )
    losses = head_loss(hidden, torch.eye(4), targets, Objective())
    losses.total.backward()
    torch.testing.assert_close(losses.total, exact.detach().float())
    torch.testing.assert_close(hidden.grad, logits.grad.float())


def test_a_student_that_is_sure_of_something_else_gets_finite_gradients() -> None:
    hidden, weight = (
        torch.full((1, 1), 200.0).requires_grad_(),
        torch.tensor([[1.0], [0.0], [-1.0]]),
    )
    for beta in (0.0, 0.5, 1.0):
        targets = Targets(
            torch.tensor([2]), torch.ones(1), torch.ones(1), torch.tensor([[1]]), torch.ones(1, 1)
        )
        losses = head_loss(hidden, weight, targets, Objective(beta))
        losses.total.backward()
        assert torch.isfinite(losses.total)
        assert torch.isfinite(hidden.grad).all()
