"""The records that everything in metajax is made of, and the functions that go into them: read this file first.

A `Network` is two pure functions; a `Learner` is what is trained and how it is used on a new task; an
`Adapt` is an inner loop as a value; `Batches` is data as a pure function of the step. There is nothing else.

Every function slot has a name here, a `Protocol` whose `__call__` says what the function is given and gives. Any plain
function or lambda of that signature fits; arguments before the `/` may have names of their own.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np

Array = jax.Array
Key = jax.Array  # a typed key, `jax.random.key(seed)`
Scalar = jax.Array  # an array of shape []
Params = Any  # a pytree of floating arrays: what is learned
State = Any  # a pytree of arrays: what is carried but not learned (running statistics, counters, teachers)
Metrics = Any  # {name: scalar}
Inputs = Any  # an array [n, ...], or a pytree of such arrays
AnyArray = jax.Array | np.ndarray  # of NumPy on the host, or of JAX on a device
Labels = Any  # an array [n, ways] or [n, outputs], of NumPy on the host and of JAX on a device
Batch = Any  # a pytree of arrays with one leading axis: examples, or tasks for episodes
Data = Any  # whatever a loss is taken on: a pytree of arrays
Path = Any  # what an inner loop says of each of its steps: arrays with a leading [steps] axis


class InitFn(Protocol):
  """`(key, *inputs) -> (params, state)`; a function of so many inputs as it has, which `*inputs` stands for."""

  def __call__(self, key: Key, /, *inputs: Any, **options: Any) -> tuple[Params, State]: ...


class ApplyFn(Protocol):
  """`(params, state, *inputs, train, key=None) -> (outputs, state)`.

  `train=True` uses the statistics of this batch and returns the state that they update; noise (dropout) is drawn
  only where a key is given.
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
  """`n` inputs and what is known of them.

  Attributes:
    inputs: an array `[n, ...]`, or a pytree of such arrays.
    labels: classification: one-hot `[n, ways]`, where an all-zero row (padding) weighs nothing; regression:
      targets `[n, outputs]`.
  """

  inputs: Inputs
  labels: Labels


class Episode(NamedTuple):
  """One few-shot task: adapt to `support`, be judged on `query`. A batch of tasks adds a leading `[tasks]`."""

  support: Examples
  query: Examples


class Pair(NamedTuple):
  """Row `i` of `first` matches row `i` of `second`."""

  first: Any
  second: Any


class Cache(NamedTuple):
  """What a decoder has seen, so that a token that comes next costs one token.

  Attributes:
    seen: a pytree of arrays `[n, length, ...]`, of which the first `place` are there.
    place: how many tokens there were, an integer `[]`.
  """

  seen: Any
  place: Array


class Decoded(NamedTuple):
  """What a decoder, a `Network` of tokens and perhaps a `Cache` of those before, makes of each token.

  Attributes:
    features: `[n, tokens, d]`; the logits of the token that follows are `features @ output_embedding.T`, which a
      vocabulary of any size need not hold at once.
    output_embedding: `[vocab_size, d]`.
    layers: features in between, `[n, tokens, width]` each: those that every layer starts with, and the last one's.
    cache: for the tokens that come next; without one given, of these tokens alone, which `learners.longer` makes room
      in. None: it keeps none.
  """

  features: Array
  output_embedding: Array
  layers: tuple[Array, ...] = ()
  cache: Cache | None = None


class BatchLoss(Protocol):
  """`(params, state, batch, key) -> (scalar, (state, metrics))`: what training minimizes."""

  def __call__(
    self, params: Params, state: State, batch: Batch, key: Key, /
  ) -> tuple[Scalar, tuple[State, Metrics]]: ...


class EmbedFn(Protocol):
  """`(params, state, inputs) -> [n, d]`: frozen features."""

  def __call__(self, params: Params, state: State, inputs: Inputs, /) -> Array: ...


class PredictFn(Protocol):
  """`(params, state, support, inputs) -> logits [n, ways]`, where `support` is `Examples` whose labels say how many
  ways there are (regression: predictions `[n, outputs]`)."""

  def __call__(self, params: Params, state: State, support: Examples, inputs: Inputs, /) -> Array: ...


class Learner(NamedTuple):
  """What is trained, and how it is used on a new task. Every method in metajax is a value of this type.

  Attributes:
    init: `(key, batch) -> (params, state)`.
    loss: `(params, state, batch, key) -> (scalar, (state, metrics))`.
    embed: `(params, state, inputs) -> [n, d]`: frozen features.
    predict: `(params, state, support, inputs) -> logits [n, ways]`, where `support` is `Examples` whose labels
      say how many ways there are (regression: predictions `[n, outputs]`).
  """

  init: InitFn
  loss: BatchLoss
  embed: EmbedFn
  predict: PredictFn


class Preprocessing(NamedTuple):
  """How a network's publisher made images ready for it: what `networks.load_clip` reads and `data.load` does.

  An image in RGB, 0 to 255, is resized, its middle cut out as a square, or black added around it where it is smaller,
  and rounded; divided by 255 it is what a network is given, which itself takes `mean` off and divides by `deviation`.

  Attributes:
    pixels: side of the square that comes out.
    resize: "shortest", so that the shorter side has `side` pixels; "longest", so that the longer one has; or "squash",
      so that both have, whatever the image's shape.
    side: in pixels; by default `pixels`.
    interpolation: of Pillow, such as "bicubic"; an image that shrinks is smoothed first.
    mean, deviation: of the colors of the images that the network was trained on, in [0, 1].
    fill: of what is added around an image, 0 to 255.
    middle: how half a pixel is rounded where an odd number is cut off: "floor", down (transformers), or "even", to the
      even one (torchvision, open_clip).
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
  """`(params, data) -> scalar`, a loss of one task.

  What varies by step (mini-batch, key) is data with a leading `[steps]` axis; a typed key without that axis is folded
  with the number of the step.
  """

  def __call__(self, params: Params, data: Data, /) -> Scalar: ...


class Adapt(Protocol):
  """`(loss, params, data) -> (adapted params, path)` fine-tunes params on one task's data, differentiably.

  The path is the loss (or the params) at each step. Learners give it the support set or, in training, `(support set,
  key)`.
  """

  def __call__(self, loss: LossFn, params: Params, data: Data, /) -> tuple[Params, Path]: ...


class LossOfOutputs(Protocol):
  """`(outputs, labels) -> scalar`, such as `losses.cross_entropy`."""

  def __call__(self, outputs: Any, labels: Labels, /) -> Scalar: ...


class InitHead(Protocol):
  """`(params, support labels) -> params` from which a task is adapted, such as `compose.zero_init_head`."""

  def __call__(self, params: Params, labels: Labels, /) -> Params: ...


class Predictor(Protocol):
  """`embed -> predict`, such as `predictors.nearest_centroid`."""

  def __call__(self, embed: EmbedFn, /) -> PredictFn: ...


class Augmentation(Protocol):
  """`(key, example) -> example`, of one example, such as `augment.image.affine()`; pure, on the device."""

  def __call__(self, key: Key, example: Any, /) -> Any: ...


class PretextFn(Protocol):
  """`(key, batch) -> Examples`: labels that are invented, of a whole batch, such as `pretexts.rotation()`."""

  def __call__(self, key: Key, batch: Batch, /) -> Examples: ...


class Batches(Protocol):
  """`batches(start=0, shard=(0, 1))`: an iterator of host-local numpy batches.

  Global batch `i` is a pure function of (seed, `i`), and host `h` of `n`, `shard=(h, n)`, reads its rows
  `[h * rows / n, (h + 1) * rows / n)`.
  """

  def __call__(self, start: int = 0, shard: tuple[int, int] = (0, 1)) -> Iterator[Batch]: ...
