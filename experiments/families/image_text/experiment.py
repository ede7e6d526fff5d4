"""The experiment of a CLIP: its towers, its pairs, its curve, what is tested of it."""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.families.data import slug
from experiments.families.image_text import evaluators, figures
from experiments.families.image_text.data import describe, load_data
from experiments.families.representation.config import ProbedConfig, check
from experiments.families.representation.encoders import EncoderFlags, encoder_of
from experiments.families.representation.evaluators import few_shot_tests
from metajax.compose import chunked, linear, with_head
from metajax.data import Tokenizer, image_texts, train_tokenizer
from metajax.experiment import Experiment
from metajax.experiment.bounds import Bounds, Depth, NotNegative, Positive, TwoOrMore, Width, ZeroOrMore
from metajax.learners import clip
from metajax.learners.clip import Loss
from metajax.losses.contrastive import LARGEST_LOG_SCALE
from metajax.mesh import devices_for
from metajax.networks import text_transformer
from metajax.networks.linen.transformer import Size
from metajax.train import adamw, keep_params_below, warmup_cosine
from metajax.types import Learner, Pair
from metajax.views.image import affine, random_resized_crop


class Outer(NamedTuple):
  """The batches, and AdamW."""

  batch_size: TwoOrMore = 256
  """Pairs in a step."""
  rate: Positive = 1e-3
  """The highest of AdamW."""
  decay: ZeroOrMore = 0.1
  """Weight decay."""
  warmup: NotNegative = 500
  """Steps over which the rate rises; it falls along a cosine after them."""


class TextTower(NamedTuple):
  """The text tower and its tokens."""

  text_width: Width = 128
  """Values of a token."""
  text_layers: Depth = 3
  """Layers of the text tower."""
  vocabulary: Annotated[int, Bounds(258, 2**24)] = 512
  """Tokens of the byte-pair encoding, which is trained on the captions."""
  length: Annotated[int, Bounds(2, 2**16)] = 24
  """Tokens of the longest caption."""


class ClipConfig(ProbedConfig, Protocol):
  """The config of a CLIP."""

  @property
  def encoder(self) -> EncoderFlags: ...

  @property
  def text(self) -> TextTower: ...

  @property
  def outputs(self) -> int: ...

  @property
  def loss(self) -> Loss: ...

  @property
  def augment(self) -> Literal["auto", "none", "crop", "affine"]: ...

  @property
  def chunk(self) -> int | None: ...

  @property
  def permuted(self) -> bool: ...

  @property
  def outer(self) -> Outer: ...


def clip_experiment(config: ClipConfig) -> Experiment:
  """A CLIP of a config's pictures and captions.

  Raises:
    ValueError: if flags do not fit each other.
  """
  check(config.training, config.outer.batch_size, config.outer.warmup, config.probing.test)
  _check(config)
  data = load_data(config.data, config.permuted, config.training.seed)
  describe(config.data, data, config.permuted)
  (vocabulary, length), outer = config.text[2:], config.outer
  tokenizer = train_tokenizer((text for texts in data.train.captions for text in texts), vocabulary)
  tokenize = lambda texts: tokenizer(texts, length)
  learner, optimizer = learner_of(config, tokenizer.vocabulary), optimizer_of(config)

  def train_batches(seed):
    return image_texts(data.train, tokenizer, batch_size=outer.batch_size, length=length, seed=seed)

  variant = (config.loss,) * (config.loss != "info_nce") + ("permuted captions",) * config.permuted
  encoder = encoder_of(config.encoder)
  return Experiment(
    f"clip-{slug(config.data)}",
    learner,
    optimizer,
    train_batches,
    (evaluators.Transfer("clip", variant, lambda: data, tokenize, encoder, config, optimizer),),
    lambda params, state: _validation(learner, params, state, data.tests[0], tokenize),
    figures=lambda folder, trained, records: figures.draw(folder, trained, data.tests[0].source, tokenize),
    artifacts={"tokenizer.json": tokenizer.save},
    title=f"clip on {slug(config.data)}",
    check=lambda shapes, batch: data.probes and few_shot_tests(config, data.probes),  # refuses too few for the tests
    said={"channels": data.train.images.shape[-1]},
  )


def learner_of(config: ClipConfig, vocabulary: int) -> Learner:
  """The learner of a config, for so many tokens."""
  outputs, (width, layers, _, length) = config.outputs, config.text
  picture = with_head(encoder_of(config.encoder), linear(outputs))
  text = text_transformer(vocabulary, Size(width, layers, max(1, width // 64)), length, outputs=outputs)
  if config.chunk is not None:
    picture, text = chunked(picture, config.chunk), chunked(text, config.chunk)
  return clip(picture, text, config.loss, view=_view(config))


def optimizer_of(config: ClipConfig) -> optax.GradientTransformation:
  """AdamW along a cosine, with the largest scale of the logits that the paper allows."""
  rate = warmup_cosine(config.outer.rate, config.training.steps, config.outer.warmup)
  return optax.chain(adamw(rate, decay=config.outer.decay, b2=0.98), keep_params_below(LARGEST_LOG_SCALE, "log_scale"))


def example_of(config: ClipConfig, tokenizer: Tokenizer, channels: int) -> Pair:
  """A batch of the shapes that a config's CLIP is trained on."""
  size = config.data.size
  return Pair(np.zeros((2, size, size, channels), np.float32), tokenizer(["", ""], config.text.length))


def _check(config: ClipConfig):
  size, chunk = config.outer.batch_size, config.chunk
  if chunk is not None and (size % min(chunk, size) or chunk % devices_for(size, config.training.devices)):
    raise ValueError(f"expected a --chunk that divides the --batch-size and that --devices divide, got {chunk}")
  pictures = jax.ShapeDtypeStruct((2, config.data.size, config.data.size, 3), jnp.float32)
  texts = jax.ShapeDtypeStruct((2, config.text.length), jnp.int32)
  jax.eval_shape(learner_of(config, config.text.vocabulary).init, jax.random.key(0), Pair(pictures, texts))


def _validation(learner: Learner, params, state, test, tokenize: Callable) -> float:
  """The first test, for the curve."""
  if test.kind == "captions":
    ways = evaluators.found(learner, params, state, test, tokenize)
    both = {way: scores[10].mean for way, scores in ways.items()}
    print("  R@10: " + ", ".join(f"{way.replace('_', ' ')} {mean:.2f}%" for way, mean in both.items()))
    return float(np.mean([*both.values()]))
  return evaluators.named(learner, params, state, test, tokenize).top_1.mean


def _view(config: ClipConfig):
  """What is seen of a picture while training."""
  augment = config.augment
  chosen = augment if augment != "auto" else "affine" if config.data.data == "glyphs" else "crop"
  views = {"none": None, "crop": random_resized_crop(area=(0.5, 1.0)), "affine": affine(5.0, 0.1, (0.9, 1.1), 0.05)}
  return views[chosen]
