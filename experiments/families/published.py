"""Test accuracies in percent from the papers, for comparison; these are not results of this project.

The papers report Omniglot on other splits (vinyals or finn), not on lake's evaluation alphabets.
"""

_SETTINGS = ((5, 1), (5, 5), (20, 1), (20, 5))
OMNIGLOT = {
  ("maml", "transductive"): (98.7, 99.9, 95.8, 98.9),  # arXiv:1703.03400
  ("first_order_maml", "transductive"): (98.3, 99.2, 89.4, 97.9),  # arXiv:1803.02999
  ("reptile", "support"): (95.4, 98.9, 88.1, 96.7),  # arXiv:1803.02999
  ("reptile", "transductive"): (97.7, 99.5, 89.4, 97.1),  # arXiv:1803.02999
  ("anil", "transductive"): (None, None, 96.2, 98.0),  # arXiv:1909.09157
  ("meta_sgd", "transductive"): (99.5, 99.9, 95.9, 99.0),  # arXiv:1707.09835
  ("maml_plus_plus", "transductive"): (99.5, 99.9, 97.7, 99.3),  # arXiv:1810.09502, an ensemble of 5
  ("imaml", "transductive"): (99.2, 99.7, 94.5, 98.7),  # arXiv:1909.04630, by gradient descent
  ("prototypical", "running statistics"): (98.8, 99.7, 96.0, 98.9),  # arXiv:1703.05175
  ("matching", "running statistics"): (98.1, 98.9, 93.8, 98.5),  # arXiv:1606.04080
  ("siamese", "running statistics"): (97.3, 98.4, 88.1, 97.0),  # re-implemented in arXiv:1606.04080
  ("relation", "running statistics"): (99.6, 99.8, 97.6, 99.1),  # arXiv:1711.06025
}
# Errors in percent on Lake's 20 fixed 20-way one-shot runs within an alphabet: Lake et al. 2015, Koch et al. 2015, Lake
# et al. 2019 (arXiv:1902.03477).
ONE_SHOT_ERROR = {"people": 4.5, "siamese": 8.0, "prototypical": 13.7}


def accuracy(learner: str, query_norm: str, data: str, ways: int, shots: int) -> float | None:
  """Returns the published accuracy in percent, or None."""
  if data != "omniglot" or (ways, shots) not in _SETTINGS or (learner, query_norm) not in OMNIGLOT:
    return None
  return OMNIGLOT[learner, query_norm][_SETTINGS.index((ways, shots))]


# SimCLR on CIFAR-10 with a ResNet-18: k-NN after 200 epochs, a linear probe after 1,000 (see the results page).
REPRESENTATIONS = {("simclr", "linear_probe", "cifar10"): 90.7, ("simclr", "knn", "cifar10"): 84.8}


def representation(learner: str, measure: str, data: str) -> float | None:
  """Returns the published accuracy of frozen features in percent, or None."""
  return REPRESENTATIONS.get((learner, measure, data))
