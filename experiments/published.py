"""Test accuracies in percent from the papers, to stand beside ours: facts, not results of this project.

The papers' Omniglot figures rest on splits of their own (vinyals or finn), not on lake's evaluation alphabets.
"""

OMNIGLOT = {
  "maml": {(5, 1): 98.7, (5, 5): 99.9, (20, 1): 95.8, (20, 5): 98.9},  # arXiv:1703.03400, transductive
  "first_order_maml": {(5, 1): 98.3, (5, 5): 99.2, (20, 1): 89.4, (20, 5): 97.9},  # arXiv:1803.02999, transductive
  "prototypical": {(5, 1): 98.8, (5, 5): 99.7, (20, 1): 96.0, (20, 5): 98.9},  # arXiv:1703.05175
}


def accuracy(learner: str, data: str, ways: int, shots: int) -> float | None:
  """The published accuracy in percent, or None where there is none."""
  return OMNIGLOT.get(learner, {}).get((ways, shots)) if data == "omniglot" else None
