"""Networks of the few-shot experiments: four convolution layers, and linear heads for learners that adapt."""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

from experiments.families import encoder as published
from experiments.families.convolution import outside_loops
from experiments.families.few_shot.config import Images, Setup, most_ways
from metajax.augment.image import affine, centered
from metajax.compose import linear, tile_head, with_head, zero_init_head
from metajax.experiment.bounds import Width
from metajax.experiment.former_flags import also
from metajax.learners import QueryNorm, preprocessed, with_augmentation
from metajax.networks import conv4
from metajax.networks.linen.conv4 import Convolution, Downsample, Normalization
from metajax.types import Learner, Network

Head = Literal["fixed", "repeated", "zeros"]


class Adapted(NamedTuple):
  """Network that adapts to each task."""

  query_norm: Annotated[QueryNorm, *also("--policy")] = "transductive"
  """Batch-norm statistics for queries in training: those of the queries or of the support set. Tests cover both."""
  filters: Width = 64
  """Channels of each convolution layer."""
  normalization: Annotated[Normalization, *also("--normalisation")] = "batch"
  """Normalization in each convolution layer."""
  downsample: Downsample = "stride"
  """Downsampling by 2 in each convolution layer: a stride, as MAML on Omniglot, or max-pooling, as it on photos."""
  pool: Literal["mean", "flatten"] = "mean"
  """Features of the last layer: their mean over space, or one for each place."""


class AdaptedHead(NamedTuple):
  """Network with a linear head that adapts to each task."""

  query_norm: Annotated[QueryNorm, *also("--policy")] = "transductive"
  """Batch-norm statistics for queries in training: those of the queries or of the support set. Tests cover both."""
  head: Head = "fixed"
  """Linear head: "fixed" has an output per training way; "repeated" (one output, copied) and "zeros" serve any number
  of ways."""
  filters: Width = 64
  """Channels of each convolution layer."""
  normalization: Annotated[Normalization, *also("--normalisation")] = "batch"
  """Normalization in each convolution layer."""
  downsample: Downsample = "stride"
  """Downsampling by 2 in each convolution layer: a stride, as MAML on Omniglot, or max-pooling, as it on photos."""
  pool: Literal["mean", "flatten"] = "mean"
  """Features of the last layer: their mean over space, or one for each place."""


class Embedding(NamedTuple):
  """Network that embeds images for comparison."""

  filters: Width = 64
  """Channels of each convolution layer."""
  downsample: Downsample = "max_pool"
  """Downsampling by 2 in each convolution layer: max-pooling as in the papers, or a stride."""


class Classifier(NamedTuple):
  """An encoder, its head, the network of both, and the learner's `init_head` argument."""

  encoder: Network
  head: Network
  network: Network
  init_head: dict


def with_linear_head(flags: AdaptedHead, setup: Setup) -> Classifier:
  """Four convolution layers, or a published encoder, with a linear head.

  Args:
    flags: Flags of the network. The head "fixed" has the number of ways of training; "repeated" tiles the learned
      outputs and "zeros" starts each task at zero, so that both serve any number of ways.
    setup: Shared flags.
  """
  encoder = adapted_encoder(flags, setup)
  init_head = {"zeros": {"init_head": zero_init_head}, "repeated": {"init_head": tile_head}, "fixed": {}}
  head = linear(1 if flags.head == "zeros" else most_ways(setup))
  return Classifier(encoder, head, with_head(encoder, head), init_head[flags.head])


def adapted_encoder(flags: Adapted | AdaptedHead, setup: Setup | None = None) -> Network:
  """Four convolution layers for inner loops, or the published encoder of a setup."""
  own = conv4(flags.filters, downsample=flags.downsample, pool=flags.pool, normalization=flags.normalization)
  return own if setup is None else published.encoder_for(setup.start, own)


def embedding_network(flags: Embedding, setup: Setup, tasks: int | None = None) -> Network:
  """Four convolution layers that embed images, or a published encoder.

  Args:
    flags: Flags of the network.
    setup: Shared flags.
    tasks: Tasks per step; None for a learner that is not trained on tasks.
  """
  own = conv4(flags.filters, downsample=flags.downsample, convolution=convolution_for(tasks))
  return published.encoder_for(setup.start, own)


def with_start(flags: Adapted | AdaptedHead, setup: Setup) -> Adapted | AdaptedHead:
  """The flags, with the normalization of the published encoder if there is one."""
  if setup.start.encoder is None:
    return flags
  return flags._replace(normalization="batch" if published.keeps_statistics(setup.start) else "none")


def prepared(flags: Images, learner: Learner) -> Learner:
  """The learner of characters that are centered and scaled to one size, if the flags ask for it."""
  if not flags.center:
    return learner
  augmentation: Callable = centered()  # deterministic, so that it needs no key
  return preprocessed(learner, lambda image: augmentation(None, image))


def in_training(flags: Images, learner: Learner) -> Learner:
  """The learner as it is trained: on augmented and centered images, if the flags ask for it."""
  learner = prepared(flags, learner)
  return with_augmentation(learner, affine()) if flags.augmentation == "affine" else learner


def variant_of(flags: Images) -> tuple[str, ...]:
  """What the records say of the images."""
  return ("distorted",) * (flags.augmentation == "affine") + ("centered",) * flags.center


def name_of(filters: int, downsample: Downsample) -> str:
  """The name of a `conv4` in the records."""
  return f"conv4-{filters}, {downsample.replace('_', '-')}"


def convolution_for(tasks: int | None) -> Convolution:
  """Returns "auto" if a step loops over several tasks, else that of a network outside of loops."""
  return outside_loops() if tasks in (None, 1) else "auto"
