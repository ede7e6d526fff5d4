"""The networks of few-shot experiments: four layers of convolutions, and heads of learners that adapt."""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

from metajax.augment.image import affine, centered
from metajax.compose import linear, tile_head, with_head, with_preprocessing, zero_init_head
from metajax.experiment.bounds import Width
from metajax.experiment.former_flags import Former, also
from metajax.learners import QueryNorm, with_augmentation
from metajax.networks import conv4
from metajax.networks.linen.conv4 import Convolution, Downsample, Normalization
from metajax.types import Learner, Network

Head = Literal["fixed", "repeated", "zeros"]


class Adapted(NamedTuple):
  """The network of a learner that adapts."""

  query_norm: Annotated[QueryNorm, *also("--policy")] = "transductive"
  """What batch norm normalizes queries with in training; it is tested under both query norms."""
  filters: Width = 64
  """Channels of each of the network's four layers."""
  normalization: Annotated[Normalization, *also("--normalisation")] = "batch"
  """In the network's layers."""


class AdaptedHead(NamedTuple):
  """The network of a learner that adapts a linear head."""

  query_norm: Annotated[QueryNorm, *also("--policy")] = "transductive"
  """What batch norm normalizes queries with in training; it is tested under both query norms."""
  head: Head = "fixed"
  """For the ways of training alone ("fixed"), or for any: its outputs "repeated", or a start from "zeros"."""
  filters: Width = 64
  """Channels of each of the network's four layers."""
  normalization: Annotated[Normalization, *also("--normalisation")] = "batch"
  """In the network's layers."""


class Embedding(NamedTuple):
  """The network of a learner that compares embeddings."""

  augmentation: Annotated[Literal["none", "affine"], Former("--distort", "affine")] = "none"
  """Augmentation of the training images."""
  filters: Width = 64
  """Channels of each of the network's four layers."""
  downsample: Downsample = "max_pool"
  """How each layer halves the image: max-pooling as in the papers, or the convolution's stride."""


class Classifier(NamedTuple):
  """An encoder, its head, both as one network, and what a learner is to be given with them."""

  encoder: Network
  head: Network
  network: Network
  init_head: dict


def with_linear_head(flags: AdaptedHead, ways: int) -> Classifier:
  """Four strided layers with a linear head.

  Args:
    flags: whose head "fixed" is for as many ways as in training; any number can be tested where the learned outputs are
      "repeated", or where a task begins at "zeros".
    ways: in training.
  """
  encoder = strided(flags)
  init_head = {"zeros": {"init_head": zero_init_head}, "repeated": {"init_head": tile_head}, "fixed": {}}
  head = linear(1 if flags.head == "zeros" else ways)
  return Classifier(encoder, head, with_head(encoder, head), init_head[flags.head])


def strided(flags: Adapted | AdaptedHead) -> Network:
  """Four strided layers, and the mean over what they leave of an image."""
  return conv4(flags.filters, downsample="stride", pool="mean", normalization=flags.normalization)


def embedding_network(flags: Embedding, tasks: int | None = None) -> Network:
  """Four layers whose features are compared.

  Args:
    flags: of the network.
    tasks: in a step; None of a learner that is not trained on tasks.
  """
  return conv4(flags.filters, downsample=flags.downsample, convolution=convolution_for(tasks))


def distorted(flags: Embedding, learner: Learner) -> tuple[Learner, tuple[str, ...]]:
  """What is trained, on distortions where flags say so, and how that is called in the records."""
  return (with_augmentation(learner, affine()), ("distorted",)) if flags.augmentation == "affine" else (learner, ())


def in_the_middle(encoder: Network) -> Network:
  """The encoder on characters that were brought to the middle and to one size."""
  augmentation: Callable = centered()  # which draws nothing, so that it is given no key
  return with_preprocessing(encoder, lambda image: augmentation(None, image))


def convolution_for(tasks: int | None) -> Convolution:
  """XLA's own convolution, the faster one on a CPU, where a step is one task, or none, outside of any loop over tasks.

  Inside of a loop its gradient takes some seventy times as long.
  """
  return "native" if tasks in (None, 1) else "slices"
