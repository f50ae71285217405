"""The signal `logit`: the loss of a language model's head against labels and teachers' top-k records.

    objective = Objective(beta=0.0, temperature=1.0)
    losses = head_loss(hidden_N_D, weight_V_D, targets, objective)
    losses.total.backward()

Each position has a label, a record, or both, each with a weight. A record's `K` tokens and its tail are `K + 1`
outcomes; both sides keep their probabilities, and what the student gives to all other tokens together is
held against the tail. Divergences are those of TRL's distillation: `beta` 0 is the forward one, KL(teacher,
student), 1 the reverse one, and between them Jensen-Shannon's with the mixture beta * teacher + (1 - beta) *
student (Agarwal et al. 2024, "On-Policy Distillation of Language Models", eq. 1), times the squared
temperature (Hinton et al. 2015).

The logits (N, V) never exist as a whole: they are made a chunk of positions at a time, and their gradient is
written over them in the forward pass, after Hsu et al. 2024 ("Liger Kernel", section 3.2).

Dimensions: N positions, D hidden, V vocabulary, K tokens of a record, C positions of a chunk.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CHUNK = 128  # positions whose logits are in memory together; larger ones are no faster on a CPU
UNLABELLED = -100  # of a position without a label, as everywhere in torch
LEAST_TAIL = 1e-6  # what a teacher's tail counts at least, so that the reverse divergence is finite
TINY = 1e-30  # so small that a student's tail is never cut, and no float32 overflows by it


@dataclass(frozen=True, slots=True)
class Objective:
    """How student and teacher are held against each other; records must be of this temperature."""

    beta: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        assert 0 <= self.beta <= 1, f"beta is {self.beta}, and lies between 0 and 1"
        assert self.temperature > 0, f"the temperature is {self.temperature}, and lies above 0"


@dataclass(frozen=True, slots=True)
class Targets:
    """What N positions are trained towards. A position counts by its weights, which may be 0."""

    labels_N: Tensor  # int64, UNLABELLED where there is none
    ce_weights_N: Tensor  # of the label's cross-entropy
    kd_weights_N: Tensor  # of the divergence
    ids_N_K: Tensor  # int64; K is 0 where no position has a record
    probabilities_N_K: Tensor  # 0 where a record holds fewer than K tokens


@dataclass(frozen=True, slots=True)
class Losses:
    """The weighted sum, which has a gradient, and by position what it was made of, in nats."""

    total: Tensor
    ce_N: Tensor
    kd_N: Tensor


def head_loss(
    hidden_N_D: Tensor,
    weight_V_D: Tensor,
    targets: Targets,
    objective: Objective,
    chunk: int = CHUNK,
) -> Losses:
    """The loss of logits `hidden @ weight.T`, in float32, with gradients to both where they want one."""
    return Losses(*_Head.apply(hidden_N_D, weight_V_D, targets, objective, chunk))


def logits_loss(
    logits_N_V: Tensor, targets: Targets, objective: Objective, chunk: int = CHUNK
) -> Losses:
    """The same of logits that are there already, for heads that do more than a product."""
    return Losses(*_Logits.apply(logits_N_V, targets, objective, chunk))


class _Head(torch.autograd.Function):
    """Gradients are made in the forward pass, while a chunk's logits are there."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Targets,
        objective: Objective,
        chunk: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        place = hidden.device.type
        autocast = torch.is_autocast_enabled(place)
        dtype = torch.get_autocast_dtype(place) if autocast else hidden.dtype
        ce, kd = (torch.zeros(len(hidden), device=hidden.device) for _ in range(2))
        with torch.autocast(place, enabled=False):
            states, matrix = hidden.to(dtype), weight.to(dtype)
            of_hidden = torch.zeros_like(states) if wants_hidden else None
            of_weight = torch.zeros_like(matrix, dtype=torch.float32) if wants_weight else None
            for start in range(0, len(hidden), chunk):
                part = slice(start, start + chunk)
                logits = (states[part] @ matrix.T).float()
                of_logits, ce[part], kd[part] = _chunk(logits, _rows(targets, part), objective)
                of_logits = of_logits.to(dtype)
                if of_hidden is not None:
                    torch.mm(of_logits, matrix, out=of_hidden[part])
                if of_weight is not None:
                    if dtype == torch.float32:
                        of_weight.addmm_(of_logits.T, states[part])
                    else:
                        of_weight += of_logits.T @ states[part]
        ctx.save_for_backward(
            None if of_hidden is None else of_hidden.to(hidden.dtype),
            None if of_weight is None else of_weight.to(weight.dtype),
        )
        ctx.mark_non_differentiable(ce, kd)
        return _total(ce, kd, targets), ce, kd

    @staticmethod
    def backward(ctx: Any, of_total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, of_weight = ctx.saved_tensors
        ctx.maybe_clear_saved_tensors()  # scaled in place: there is no second backward pass
        scaled = [each if each is None else each.mul_(of_total) for each in (of_hidden, of_weight)]
        return (*scaled, None, None, None)


class _Logits(torch.autograd.Function):
    """The gradient by logits that someone else made, likewise in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Targets, objective: Objective, chunk: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        ce, kd = (torch.zeros(len(logits), device=logits.device) for _ in range(2))
        of_logits = torch.empty_like(logits)
        for start in range(0, len(logits), chunk):
            part = slice(start, start + chunk)
            own = logits[part].to(torch.float32, copy=True)
            of_logits[part], ce[part], kd[part] = _chunk(own, _rows(targets, part), objective)
        ctx.save_for_backward(of_logits)
        ctx.mark_non_differentiable(ce, kd)
        return _total(ce, kd, targets), ce, kd

    @staticmethod
    def backward(ctx: Any, of_total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        (of_logits,) = ctx.saved_tensors
        return of_logits * of_total, None, None, None


def _total(ce_N: Tensor, kd_N: Tensor, targets: Targets) -> Tensor:
    return ce_N @ targets.ce_weights_N.float() + kd_N @ targets.kd_weights_N.float()


def _rows(targets: Targets, part: slice) -> Targets:
    return Targets(
        targets.labels_N[part],
        targets.ce_weights_N[part].float(),
        targets.kd_weights_N[part].float(),
        targets.ids_N_K[part],
        targets.probabilities_N_K[part].float(),
    )


def _chunk(
    logits_C_V: Tensor, targets: Targets, objective: Objective
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient (C, V), cross-entropies (C,) and divergences (C,); the logits are written over."""
    if not targets.ids_N_K.shape[1]:
        return _cross_entropy(logits_C_V, targets)
    if objective.temperature == 1.0 or not targets.kd_weights_N.any():
        both = _Softmax(logits_C_V, targets)
        kd, coefficients = _divergence(both, targets, objective)
        both.write_gradient(targets.ce_weights_N, targets.kd_weights_N, coefficients)
        return both.exp_C_V, both.ce_C, kd
    nothing = torch.zeros_like(targets.ce_weights_N)
    tempered = _Softmax(logits_C_V / objective.temperature, targets)
    kd, coefficients = _divergence(tempered, targets, objective)
    tempered.write_gradient(nothing, targets.kd_weights_N * objective.temperature, coefficients)
    plain = _Softmax(logits_C_V, targets)
    plain.write_gradient(targets.ce_weights_N, nothing, coefficients)
    return plain.exp_C_V.add_(tempered.exp_C_V), plain.ce_C, kd


def _cross_entropy(logits_C_V: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """As `_chunk`, of labels alone."""
    labelled = targets.labels_N != UNLABELLED
    labels_C_1 = targets.labels_N.clamp(min=0).unsqueeze(1)
    highest_C_1 = logits_C_V.amax(dim=1, keepdim=True)
    label_C_1 = logits_C_V.gather(1, labels_C_1) - highest_C_1
    exp_C_V = logits_C_V.sub_(highest_C_1).exp_()
    sum_C_1 = exp_C_V.sum(dim=1, keepdim=True)
    ce = (sum_C_1.log() - label_C_1).squeeze(1) * labelled
    weights_C_1 = (targets.ce_weights_N * labelled).unsqueeze(1)
    gradient = exp_C_V.mul_(weights_C_1 / sum_C_1)
    return gradient.scatter_add_(1, labels_C_1, -weights_C_1), ce, torch.zeros_like(ce)


@dataclass(frozen=True, slots=True)
class _Coefficients:
    """P_b * dL/dP_b of a record's outcomes, of the tail dL/dP alone, and their sum over all outcomes."""

    top_C_K: Tensor
    tail_C: Tensor
    sum_C: Tensor


class _Softmax:
    """The softmax of a chunk, split into a record's tokens and the rest; logits are written over."""

    def __init__(self, logits_C_V: Tensor, targets: Targets) -> None:
        labels, ids = targets.labels_N, targets.ids_N_K
        self.labelled = labels != UNLABELLED
        self.labels_C_1 = labels.clamp(min=0).unsqueeze(1)
        # Places of a record that hold no token repeat its first one, so that none is met by accident;
        # a position without a record has one token, which its weight of 0 leaves out.
        self.known_C_K = targets.probabilities_N_K > 0
        self.first_C_1 = self.known_C_K.float().argmax(dim=1, keepdim=True)
        self.ids_C_K = torch.where(self.known_C_K, ids, ids.gather(1, self.first_C_1))
        self.counted_C_K = self.known_C_K.scatter(1, self.first_C_1, True)

        highest = logits_C_V.amax(dim=1, keepdim=True)
        top_C_K = logits_C_V.gather(1, self.ids_C_K) - highest
        label_C = (logits_C_V.gather(1, self.labels_C_1) - highest).squeeze(1)
        self.exp_C_V = logits_C_V.sub_(highest).exp_()
        self.exp_C_V.scatter_(1, self.ids_C_K, 0.0)
        rest = self.exp_C_V.sum(dim=1)
        self.sum_C = rest + (top_C_K.exp() * self.counted_C_K).sum(dim=1)
        log_sum = self.sum_C.log()
        self.log_top_C_K = top_C_K - log_sum.unsqueeze(1)
        self.tail_C = rest / self.sum_C
        self.ce_C = (log_sum - label_C) * self.labelled

    def write_gradient(self, ce_C: Tensor, kd_C: Tensor, of: _Coefficients) -> None:
        """Makes `exp_C_V` the gradient by the logits (of a divergence: times the temperature)."""
        ce = ce_C * self.labelled
        top_C_K = self.log_top_C_K.exp()
        at_top = top_C_K * ce.unsqueeze(1) + kd_C.unsqueeze(1) * (
            of.top_C_K - top_C_K * of.sum_C.unsqueeze(1)
        )
        at_first = at_top.gather(1, self.first_C_1)
        self.exp_C_V.mul_(((ce + kd_C * (of.tail_C - of.sum_C)) / self.sum_C).unsqueeze(1))
        self.exp_C_V.scatter_(1, self.ids_C_K, torch.where(self.counted_C_K, at_top, at_first))
        self.exp_C_V.scatter_add_(1, self.labels_C_1, -ce.unsqueeze(1))


def _divergence(
    student: _Softmax, targets: Targets, objective: Objective
) -> tuple[Tensor, _Coefficients]:
    """The divergence (C,) times the squared temperature, and what its gradient by logits is made of.

    With g_b = dL/dP_b for the outcomes b, and b(j) that of token j: dL/dz_j = P_j (g_b(j) - sum_b P_b g_b) / T.
    """
    asked = targets.kd_weights_N != 0
    known = student.known_C_K & asked.unsqueeze(1)
    q_top = targets.probabilities_N_K * known
    q_tail = (1 - q_top.sum(dim=1)).clamp(min=LEAST_TAIL)
    log_p = torch.cat([student.log_top_C_K, student.tail_C.clamp(min=TINY).log().unsqueeze(1)], 1)
    q = torch.cat([q_top, q_tail.unsqueeze(1)], 1)
    there = torch.cat([known, asked.unsqueeze(1)], 1)
    log_q = torch.where(there, q, 1.0).log()
    each, slope = _terms(log_p, log_q, objective.beta)
    each, slope = each * there, slope * there  # (C, K + 1)
    scale = objective.temperature**2
    of_tail = slope[:, -1] / student.tail_C.clamp(min=TINY)
    return scale * each.sum(dim=1), _Coefficients(slope[:, :-1], of_tail, slope.sum(dim=1))


def _terms(log_p: Tensor, log_q: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Each outcome's part of the divergence, and P times its derivative by P less what all outcomes share."""
    p, q = log_p.exp(), log_q.exp()
    if beta == 0:
        return q * (log_q - log_p), -q
    if beta == 1:
        return p * (log_p - log_q), p * (log_p - log_q)
    log_m = (beta * q + (1 - beta) * p).log()
    of_student = (1 - beta) * p * (log_p - log_m)
    return beta * q * (log_q - log_m) + of_student, of_student
