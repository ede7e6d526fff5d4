"""The core types of metajax, and the signatures of the functions that they hold: read this file first.

A `Network` is two pure functions. A `Learner` defines what is trained and how it is used on a new task. An `Adapt` is
an inner loop as a value. `Batches` is data as a pure function of the step. The library has no other core concepts.

Every kind of function has a name here, a `Protocol` whose `__call__` defines its arguments and result. Any plain
function or lambda with that signature fits; arguments before the `/` may have any names.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np

Array = jax.Array
Key = jax.Array  # a typed key, `jax.random.key(seed)`
Scalar = jax.Array  # an array of shape []
Params = Any  # a pytree of floating arrays that are learned
State = Any  # a pytree of arrays that are carried along but not learned (running statistics, counters, teachers)
Metrics = Any  # {name: scalar}
Inputs = Any  # an array [n, ...], or a pytree of such arrays, or Padded
AnyArray = jax.Array | np.ndarray  # a NumPy array on the host, or a JAX array on a device
Labels = Any  # an array [n, ways] or [n, outputs], NumPy on the host and JAX on a device
Batch = Any  # a pytree of arrays with one leading axis, examples or tasks; uint8 ones of 4 or more axes are images
Data = Any  # the data of a loss: a pytree of arrays
Path = Any  # the record of an inner loop: a pytree of arrays with a leading [steps] axis


class InitFn(Protocol):
  """`(key, *inputs) -> (params, state)`, where `*inputs` stands for any fixed number of inputs."""

  def __call__(self, key: Key, /, *inputs: Any, **options: Any) -> tuple[Params, State]: ...


class ApplyFn(Protocol):
  """`(params, state, *inputs, train, key=None) -> (outputs, state)`.

  `train=True` uses the statistics of this batch and returns the state updated by them. Noise (dropout) is drawn only if
  a key is given.
  """

  def __call__(
    self, params: Params, state: State, /, *inputs: Any, train: bool, key: Key | None = None, **options: Any
  ) -> tuple[Any, State]: ...


class Network(NamedTuple):
  """A model: `init(key, *inputs) -> (params, state)` and
  `apply(params, state, *inputs, train, key=None) -> (outputs, state)`."""

  init: InitFn
  apply: ApplyFn


class Examples(NamedTuple):
  """`n` inputs with their labels.

  Attributes:
    inputs: an array `[n, ...]`, or a pytree of such arrays; `Padded` if rows are padding and the network keeps batch
      statistics.
    labels: for classification one-hot `[n, ways]`, where an all-zero row is padding of weight 0; for regression targets
      `[n, outputs]`.
  """

  inputs: Inputs
  labels: Labels


class Episode(NamedTuple):
  """One few-shot task: adaptation to `support`, evaluation on `query`. A batch of tasks adds a leading `[tasks]`."""

  support: Examples
  query: Examples


class Pair(NamedTuple):
  """Row `i` of `first` matches row `i` of `second`."""

  first: Any
  second: Any


class Padded(NamedTuple):
  """Inputs some of whose rows are padding, so that tasks of different sizes have one shape.

  They stand for the inputs of `Examples`, whose labels are all zero in the same rows. Batch statistics are those of the
  other rows, and outputs of padded rows mean nothing. A hand-written `Network` reads `inputs.values` and, if its
  outputs depend on other rows, `inputs.mask`.

  Attributes:
    values: an array `[n, ...]`, or a pytree of such arrays.
    mask: bool `[n]`, false for padding.
  """

  values: Any
  mask: Any


class Cache(NamedTuple):
  """The cache of a decoder's past tokens, so that each new token costs the computation of one token.

  Attributes:
    seen: a pytree of arrays `[n, length, ...]`, filled up to position `place`.
    place: number of past tokens, an integer `[]`.
  """

  seen: Any
  place: Array


class Decoded(NamedTuple):
  """The outputs of a decoder, a `Network` whose inputs are tokens and optionally a `Cache` of past tokens.

  Attributes:
    features: `[n, tokens, d]`; the logits of the next token are `features @ output_embedding.T`, which callers may
      compute in parts if the vocabulary is large.
    output_embedding: `[vocab_size, d]`.
    layers: hidden features, `[n, tokens, width]` each: the input of every layer, and the output of the last.
    cache: cache for the next tokens; if none is given as input, it holds only these tokens, and `learners.longer`
      extends it. None if the decoder keeps no cache.
  """

  features: Array
  output_embedding: Array
  layers: tuple[Array, ...] = ()
  cache: Cache | None = None


class BatchLoss(Protocol):
  """`(params, state, batch, key) -> (scalar, (state, metrics))`: the loss that training minimizes."""

  def __call__(
    self, params: Params, state: State, batch: Batch, key: Key, /
  ) -> tuple[Scalar, tuple[State, Metrics]]: ...


class EmbedFn(Protocol):
  """`(params, state, inputs) -> [n, d]`: frozen features."""

  def __call__(self, params: Params, state: State, inputs: Inputs, /) -> Array: ...


class PredictFn(Protocol):
  """`(params, state, support, inputs) -> logits [n, ways]`, with as many ways as the labels of `support`, `Examples`
  (for regression: predictions `[n, outputs]`)."""

  def __call__(self, params: Params, state: State, support: Examples, inputs: Inputs, /) -> Array: ...


class Learner(NamedTuple):
  """A learning method: its training loss, and its use on a new task. Every method in metajax is a value of this type.

  Attributes:
    init: `(key, batch) -> (params, state)`.
    loss: `(params, state, batch, key) -> (scalar, (state, metrics))`.
    embed: `(params, state, inputs) -> [n, d]`: frozen features.
    predict: `(params, state, support, inputs) -> logits [n, ways]`, with as many ways as the labels of `support`,
      `Examples` (for regression: predictions `[n, outputs]`).
  """

  init: InitFn
  loss: BatchLoss
  embed: EmbedFn
  predict: PredictFn

  def __repr__(self) -> str:
    """The names of the functions: `Learner(init=maml.init, ...)`."""
    return f"Learner({', '.join(f'{name}={_name(value)}' for name, value in zip(self._fields, self, strict=True))})"


def _name(function: Any) -> str:
  """The name of a function with that of its factory, `maml.init`; of another value its type."""
  if isinstance(function, functools.partial):
    return f"partial({_name(function.func)})"
  return getattr(function, "__qualname__", type(function).__name__).replace("<locals>.", "")


class Preprocessing(NamedTuple):
  """The image preprocessing of a published network, which `networks.load_clip` reads and `data.load` applies.

  An RGB image, 0 to 255, is resized, center-cropped to a square (or padded with `fill` if smaller), and rounded. The
  network receives it divided by 255, and itself subtracts `mean` and divides by `deviation`.

  Attributes:
    pixels: side of the resulting square.
    resize: "shortest" or "longest" resizes the shorter or longer side to `side` pixels; "squash" resizes both.
    side: side after resizing, in pixels; by default `pixels`.
    interpolation: Pillow's name of the interpolation, e.g. "bicubic"; downscaling is antialiased.
    mean, deviation: mean and standard deviation of the colors of the training images, in [0, 1].
    fill: value of the padding, 0 to 255.
    middle: rounding of half a pixel if an odd number is cropped: "floor", down (transformers), or "even", to the even
      number (torchvision, open_clip).
  """

  pixels: int
  resize: Literal["shortest", "longest", "squash"] = "shortest"
  side: int | None = None
  interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] = "bicubic"
  mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)  # OpenAI's CLIP (arXiv:2103.00020)
  deviation: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
  fill: int = 0
  middle: Literal["floor", "even"] = "floor"


class LossFn(Protocol):
  """`(params, data) -> scalar`, the loss of one task.

  Data that vary by step (mini-batches, keys) have a leading `[steps]` axis; a typed key without that axis is folded
  with the step.
  """

  def __call__(self, params: Params, data: Data, /) -> Scalar: ...


class Adapt(Protocol):
  """`(loss, params, data) -> (adapted params, path)`: fine-tunes params on one task's data, differentiably.

  The path holds the loss (or the params) at each step. Learners pass the support set as data or, in training,
  `(support set, key)`.
  """

  def __call__(self, loss: LossFn, params: Params, data: Data, /) -> tuple[Params, Path]: ...


class LossOfOutputs(Protocol):
  """`(outputs, labels) -> scalar`, e.g. `losses.cross_entropy`."""

  def __call__(self, outputs: Any, labels: Labels, /) -> Scalar: ...


class InitHead(Protocol):
  """`(params, support labels) -> params`, the initialization for a task's adaptation, e.g. `compose.zero_init_head`."""

  def __call__(self, params: Params, labels: Labels, /) -> Params: ...


class Predictor(Protocol):
  """`embed -> predict`, e.g. `predictors.nearest_centroid`."""

  def __call__(self, embed: EmbedFn, /) -> PredictFn: ...


class Augmentation(Protocol):
  """`(key, example) -> example`, a pure function of one example on the device, e.g. `augment.image.affine()`."""

  def __call__(self, key: Key, example: Any, /) -> Any: ...


class PretextFn(Protocol):
  """`(key, batch) -> Examples` with labels made from a full batch, e.g. `pretexts.rotation()`."""

  def __call__(self, key: Key, batch: Batch, /) -> Examples: ...


class Batches(Protocol):
  """`batches(start=0, shard=(0, 1))`: an iterator of host-local NumPy batches, from batch `start` on.

  Images are uint8, as stored; `fit` and the evaluations scale them to [0, 1] on the device (`metajax.images_to_float`).

  Global batch `i` is a pure function of (seed, `i`). Host `h` of `n`, `shard=(h, n)`, reads its rows
  `[h * rows / n, (h + 1) * rows / n)`.
  """

  def __call__(self, start: int = 0, shard: tuple[int, int] = (0, 1)) -> Iterator[Batch]: ...


class MetricLogger(Protocol):
  """`(step, metrics) -> None`: receives the metrics of training, e.g. what `metajax.report.csv_log` yields, or
  `lambda step, metrics: print(step, metrics["loss"])`.

  Metrics are numbers by name. `metajax.report.log_to` joins several loggers.
  """

  def __call__(self, step: int, metrics: Mapping[str, float], /) -> Any: ...
