"""The experiment of a CLIP: towers, batches of pairs, validation and tests."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.families.data import ImageData
from experiments.families.image_flags import crops_originals
from experiments.families.image_text import evaluators, figures
from experiments.families.image_text.config import Clip, Setup
from experiments.families.image_text.data import center_of, describe, load_data
from experiments.families.mixing import mixed_slug
from experiments.families.representation.config import check
from experiments.families.representation.encoders import dtype_of, encoder_of, layers_of
from experiments.families.representation.evaluators import few_shot_tests
from metajax.augment.image import affine, random_resized_crop
from metajax.compose import chunked, linear, with_head
from metajax.data import ImageTexts, Mixture, RandomCrop, Tokenizer, image_texts, train_tokenizer
from metajax.experiment import Experiment
from metajax.learners import clip
from metajax.losses.contrastive import LARGEST_LOG_SCALE
from metajax.mesh import devices_for
from metajax.networks import text_transformer
from metajax.networks.linen.transformer import Size
from metajax.train import adamw, keep_params_below, warmup_cosine
from metajax.types import Learner, Pair

TOKENIZED = 100_000  # captions of shards that the vocabulary is learned from


def clip_experiment(setup: Setup, model: Clip) -> Experiment:
  """The experiment of a CLIP on the images and captions of a setup.

  Raises:
    ValueError: if the flags are inconsistent.
  """
  images, outer, training, probing, _, mix = setup
  check(training, outer.batch_size, outer.warmup_steps, probing.test)
  _check(setup, model)
  originals = crops_originals(images, model.crop_from)
  data = load_data(images, model.permuted, training.seed, originals, mix)
  describe(images, data, model.permuted)
  vocab_size, max_length = model.text[2:]
  model = _in_parts(model, outer.batch_size, training.accumulate)
  tokenizer = train_tokenizer(_texts_of(data.mixed or data.train), vocab_size)
  tokenize = lambda texts: tokenizer(texts, max_length)
  learner, optimizer = learner_of(model, images, tokenizer.vocab_size), optimizer_of(setup)

  def train_batches(seed):
    how: dict[str, Any] = {"batch_size": outer.batch_size, "max_length": max_length, "seed": seed}
    crop = RandomCrop(images.size, (0.9, 1.0)) if originals else None
    return image_texts(data.mixed or data.train, tokenizer, crop=crop, **how)

  variant = (model.loss,) * (model.loss != "info_nce") + ("permuted captions",) * model.permuted
  of = mixed_slug(images, mix)
  variant += (f"trained on {of}",) * bool(mix)
  encoder = encoder_of(model.encoder)
  return Experiment(
    f"clip-{of}",
    learner,
    optimizer,
    train_batches,
    (evaluators.Transfer("clip", variant, lambda: data, tokenize, encoder, setup, optimizer),),
    lambda params, state: _validation(learner, params, state, data.tests[0], tokenize),
    figures=lambda folder, trained, records: figures.draw(folder, trained, data.tests[0].source, tokenize),
    artifacts={"tokenizer.json": tokenizer.save},
    title=f"clip on {of}",
    check=lambda shapes, batch: (
      data.probes and few_shot_tests(images, probing, data.probes)
    ),  # raises if the images are too few for the tests
    said={"channels": data.train.images.shape[-1]},
    preprocessing=center_of(images.size) if originals else None,
    accumulate="itself",
  )


def _in_parts(model: Clip, batch_size: int, accumulate: int) -> Clip:
  """The model whose towers compute a batch in parts: exact, as every row meets all others (arXiv:2101.06983)."""
  if accumulate == 1:
    return model
  if model.chunk is not None or batch_size % accumulate:
    given = f"{accumulate} of {batch_size} rows" + f" and --chunk {model.chunk}" * (model.chunk is not None)
    raise ValueError(f"expected --accumulate that divides the --batch-size, without --chunk, got {given}")
  return model._replace(chunk=batch_size // accumulate)


def learner_of(model: Clip, images: ImageData, vocab_size: int) -> Learner:
  """The learner, for a vocabulary of `vocab_size` tokens."""
  image, text = towers_of(model, vocab_size)
  if model.chunk is not None:
    image, text = chunked(image, model.chunk), chunked(text, model.chunk)
  return clip(image, text, model.loss, augmentation=_view(model, images))


def towers_of(model: Clip, vocab_size: int) -> Pair:
  """The image and text networks, for a vocabulary of `vocab_size` tokens."""
  num_outputs, (width, layers, _, max_length) = model.num_outputs, model.text
  image = with_head(encoder_of(model.encoder), linear(num_outputs))
  size = Size(width, layers, max(1, width // 64))
  how: dict[str, Any] = {"dtype": dtype_of(model.encoder.bfloat16), **layers_of(model.encoder.remat)}
  return Pair(image, text_transformer(vocab_size, size, max_length, num_outputs=num_outputs, **how))


def optimizer_of(setup: Setup) -> optax.GradientTransformation:
  """AdamW with cosine decay, with the logit scale clipped as in the paper."""
  outer = setup.outer
  learning_rate = warmup_cosine(outer.learning_rate, setup.training.steps, outer.warmup_steps)
  scale_below = keep_params_below(LARGEST_LOG_SCALE, "log_scale")
  return optax.chain(adamw(learning_rate, weight_decay=outer.weight_decay, b2=0.98), scale_below)


def example_of(model: Clip, images: ImageData, tokenizer: Tokenizer, channels: int) -> Pair:
  """A batch with the shapes of the training batches."""
  size = images.size
  return Pair(np.zeros((2, size, size, channels), np.float32), tokenizer(["", ""], model.text.max_length))


def _check(setup: Setup, model: Clip):
  size, chunk = setup.outer.batch_size, model.chunk
  if chunk is not None and (size % min(chunk, size) or chunk % devices_for(size, setup.training.devices)):
    raise ValueError(f"expected a --chunk that divides the --batch-size and that --devices divide, got {chunk}")
  images = jax.ShapeDtypeStruct((2, setup.data.size, setup.data.size, 3), jnp.float32)
  texts = jax.ShapeDtypeStruct((2, model.text.max_length), jnp.int32)
  jax.eval_shape(learner_of(model, setup.data, model.text.vocab_size).init, jax.random.key(0), Pair(images, texts))


def _texts_of(source) -> Iterable[str]:
  """The captions; of shards, of evenly spaced pairs, as many as a vocabulary needs."""
  if isinstance(source, Mixture):
    return (text for one in source.sources for text in _texts_of(one))
  if not isinstance(source, ImageTexts):
    return (text for texts in source.captions for text in texts)
  number = len(source.images)
  return source.texts(np.unique(np.linspace(0, number - 1, TOKENIZED).astype(int)))


def _validation(learner: Learner, params, state, test, tokenize: Callable) -> float:
  """The score of the first test, for the validation curve."""
  if test.kind == "captions":
    ways = evaluators.found(learner, params, state, test, tokenize)
    both = {way: scores[10].mean for way, scores in ways.items()}
    print("  R@10: " + ", ".join(f"{way.replace('_', ' ')} {mean:.2f}%" for way, mean in both.items()))
    return float(np.mean([*both.values()]))
  return evaluators.named(learner, params, state, test, tokenize).top_1.mean


def _view(model: Clip, images: ImageData):
  """The augmentation of the training images, or None."""
  augmentation = model.augmentation
  if crops_originals(images, model.crop_from):
    if augmentation not in ("auto", "crop"):
      raise ValueError(f"expected --augmentation crop with --crop-from original, got {augmentation}")
    return None
  chosen = augmentation if augmentation != "auto" else "affine" if images.data == "glyphs" else "crop"
  views = {"none": None, "crop": random_resized_crop(area=(0.5, 1.0)), "affine": affine(5.0, 0.1, (0.9, 1.1), 0.05)}
  return views[chosen]
