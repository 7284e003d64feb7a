"""Labels of a teacher's output: its probabilities, and the loss of a student that learns them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from samnet.training.unlabelled.soft_labels import likely_labels, soft_labels, soft_loss


def logits_of(probabilities: list[list[float]]) -> Tensor:
    """Return logits `(1, K, 1, W)` of the probabilities of W pixels."""
    return torch.tensor(probabilities, dtype=torch.float64).log().T[None, :, None, :]


def test_likeliest_class_is_sure_above_the_threshold() -> None:
    logits = logits_of([[0.96, 0.02, 0.02], [0.04, 0.94, 0.02], [0.01, 0.02, 0.97]])
    labels, is_sure = likely_labels(logits, has_regions=False)
    assert labels.flatten().tolist() == [0, 1, 2]
    assert is_sure.flatten().tolist() == [True, False, True]


def test_regions_are_decided_each_by_itself() -> None:
    logits = torch.tensor([4.0, -4.0, 1.0, -1.0]).reshape(1, 2, 1, 2)
    labels, is_sure = likely_labels(logits, has_regions=True)
    assert labels.flatten().tolist() == [1, 0, 1, 0]
    assert is_sure.flatten().tolist() == [True, True, False, False]


@pytest.mark.parametrize("has_regions", [False, True])
def test_student_that_agrees_has_no_gradient_and_any_other_a_higher_loss(has_regions: bool) -> None:
    # Also where the teacher is unsure: the student is to be as unsure, not to decide.
    teacher = logits_of([[0.55, 0.3, 0.15], [0.4, 0.35, 0.25]])
    labels = soft_labels(teacher, has_regions)
    student = teacher.clone().requires_grad_()
    loss = soft_loss(student, labels, has_regions)
    loss.backward()
    assert student.grad.abs().max() < 1e-12
    surer = soft_loss(2 * teacher, labels, has_regions)
    assert surer > loss
    assert soft_loss(teacher + torch.tensor([0, 1, 0])[:, None, None], labels, has_regions) > loss


def test_loss_is_that_of_hard_labels_where_the_teacher_is_certain() -> None:
    student = logits_of([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    labels = soft_labels(logits_of([[1, 1e-12, 1e-12], [1e-12, 1e-12, 1]]), False)
    expected = -(torch.tensor([0.7, 0.8], dtype=torch.float64).log()).mean()
    assert float(soft_loss(student, labels, False)) == pytest.approx(float(expected), rel=1e-6)
