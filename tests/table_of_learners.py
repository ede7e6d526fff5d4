"""Every learner with a tiny network and batch: a new learner is one row, and meets every law."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax import Episode, Examples, Network, Pair, gradient_steps, networks
from metajax.compose import concat_context, linear, on_pairs, with_head, with_preprocessing, zero_init_head
from metajax.learners import (
  anil,
  bert,
  cavia,
  clip,
  gpt,
  image_gpt,
  imaml,
  maml,
  maml_plus_plus,
  masked_autoencoder,
  matching,
  meta_sgd,
  preprocessed,
  pretext,
  proto_maml,
  prototypical,
  r2d2,
  relation,
  reptile,
  siamese,
  simclr,
  supervised,
  supervised_contrastive,
  triplet,
  with_augmentation,
)
from metajax.losses import squared_error
from metajax.networks import decoder, from_linen, mlp, patch_decoder, projection_head, vision_transformer
from metajax.networks.linen.conv4 import Blocks
from metajax.networks.linen.transformer import Size
from metajax.predictors import adapted_head, nearest_neighbor
from metajax.pretexts import audio_visual, jigsaw, relative_patch, rotation, shuffle_and_learn, transformation
from metajax.types import Batch, Learner

WAYS, SHOTS, QUERIES, TASKS = 3, 2, 2, 8


class Row(NamedTuple):
  """A learner and what is to be known of it."""

  learner: Learner
  batch: Callable[[int], Batch]  # seed -> batch
  classifies: bool = True
  batch_norm: bool = False
  width: int = 0  # of the embedding
  draws: bool = False  # which rows are seen together is drawn from the key
  episodic: bool = True  # trained on episodes
  ordered: bool = False  # the answer depends on the order of the support set
  any_ways: bool = False  # and is used at another number of ways than trained at
  tasks: Callable[[int], Episode] | None = None  # that it is used on, where they are not those of most


def one_hot(classes, ways=WAYS):
  return np.eye(ways, dtype=np.float32)[classes]


def episodes(seed, shape=(6,), ways=WAYS, shots=SHOTS, queries=QUERIES, tasks=TASKS):
  random = np.random.default_rng(seed)
  centers = random.normal(size=(tasks, ways, *shape))

  def examples(each):
    inputs = np.repeat(centers, each, 1) + 0.3 * random.normal(size=(tasks, ways * each, *shape))
    labels = np.tile(one_hot(np.repeat(np.arange(ways), each), ways), (tasks, 1, 1))
    return Examples(inputs.astype(np.float32), labels)

  return Episode(examples(shots), examples(queries))


def regressions(seed, tasks=TASKS):
  random = np.random.default_rng(seed)
  slopes = random.normal(size=(tasks, 1, 1))

  def examples(each):
    inputs = random.normal(size=(tasks, each, 1))
    return Examples(inputs.astype(np.float32), np.sin(slopes * inputs).astype(np.float32))

  return Episode(examples(4), examples(5))


def image_episodes(seed):
  return episodes(seed, (16, 16, 1))


def labeled(seed, rows=16, classes=4):
  """A batch of examples of more classes than a task has ways."""
  support = episodes(seed, ways=classes, shots=rows // classes, tasks=1).support
  return jax.tree.map(lambda x: x[0], support)


def labeled_pairs(seed, rows=16):
  """Pairs of rows, every other one of one class."""
  examples = labeled(seed, rows)
  same = np.arange(rows) % 2 == 0
  other = np.where(same, np.arange(rows) ^ 1, (np.arange(rows) + rows // 2) % rows)
  return Examples(Pair(examples.inputs, examples.inputs[other]), one_hot(same.astype(int), 2))


def triplets(seed, rows=16):
  inputs = labeled(seed, rows).inputs
  row = np.arange(rows)
  return {"anchor": inputs, "positive": inputs[row ^ 1], "negative": inputs[(row + rows // 2) % rows]}


def captioned(seed, rows=16):
  """Rows beside a text of each, of which the last token is the end."""
  tokens = np.random.default_rng(seed).integers(1, 10, (rows, 5)).astype(np.int32)
  tokens[:, 4] = 11
  return Pair(labeled(seed, rows).inputs, tokens)


def written(seed, rows=16, length=6):
  """Tokens, of which some rows end early."""
  random = np.random.default_rng(seed)
  tokens = random.integers(0, 12, (rows, length + 1)).astype(np.int32)
  return np.where(np.arange(length + 1) < random.integers(2, length + 2, rows)[:, None], tokens, -1)


def adjacent(seed, rows=16):
  """Two segments of text a row, of which some end early."""
  return Pair(written(seed, rows, 3), written(seed + 1, rows, 2))


def written_tasks(seed):
  tasks = episodes(seed)
  tokens = lambda x: (np.abs(4 * x) % 12).astype(np.int32)
  return jax.tree.map(
    lambda part: part._replace(inputs=tokens(part.inputs)), tasks, is_leaf=lambda x: isinstance(x, Examples)
  )


def image_pairs(seed):
  support = image_episodes(seed).support
  first = support.inputs.reshape(-1, 16, 16, 1)[:16]
  return Examples(Pair(first, first[::-1].copy()), one_hot(np.arange(16) % 2, 2))


def bright(seed):
  """Images in [0, 1]."""
  return 1 / (1 + np.exp(-image_pairs(seed).inputs.first))


def bright_tasks(seed):
  return jax.tree.map(lambda x: 1 / (1 + np.exp(-x)) if x.ndim > 3 else x, image_episodes(seed))


def recorded(seed, rows=16):
  """Clips of five frames, in which something moves, beside sounds of them."""
  first = bright(seed)
  clips = np.stack([np.roll(first, frame, 1) for frame in range(5)], 1)
  return Pair(clips, np.random.default_rng(seed).normal(size=(rows, 50)).astype(np.float32))


def shaken(key, x):
  return x + 0.1 * jax.random.normal(key, x.shape)


def dimmed(key, x):
  return x * jax.random.uniform(key)


def shaken_image(key, x):
  return jnp.clip(shaken(key, x), 0, 1)


def tanh_layer(outputs):
  """One layer, in half of the time that `encoder` takes to compile."""
  layer = linear(outputs)
  return Network(layer.init, lambda *given, **how: (jnp.tanh(layer.apply(*given, **how)[0]), {}))


encoder = mlp((8,), 5, jax.nn.tanh)
maps = Network(  # the same features as 1 x 1 maps
  encoder.init, lambda *arguments, **flags: (encoder.apply(*arguments, **flags)[0][:, None, None], {})
)
bag = mlp((8,), 5, jax.nn.tanh)  # of how often each of twelve tokens is in a text
counts = lambda tokens: jax.nn.one_hot(tokens, 12).sum(0)
text = with_preprocessing(bag, counts)
module = on_pairs(mlp((7,), 1, jax.nn.tanh))
classifier = with_head(encoder, linear(WAYS))
# Of images of any size: their mean, and a weighted mean of their squares.
mean_and_more = Network(
  lambda key, x: ({"weight": jnp.ones(())}, {}),
  lambda params, state, x, **_: (
    jnp.stack([f(x.reshape(x.shape[0], -1)).mean(-1) for f in (lambda x: x, lambda x: params["weight"] * x**2)], -1),
    state,
  ),
)
# One of the four blocks of conv4: all that is particular to it, in a quarter of the time to compile.
convolution = from_linen(Blocks(1, 4, "stride", "mean", 1, "batch", "slices"))
convolutional = with_head(convolution, linear(WAYS))
smooth_adam = optax.adam(0.05, eps_root=1e-6)
TINY = Size(8, 1, 2)
one_step = gradient_steps(optax.sgd(0.1), 1)
cut = gradient_steps(optax.adam(0.01, b1=0), 3, gradient="first_order", per_step=True)
reverse, first_order = (gradient_steps(optax.sgd(0.1), 2, gradient=g) for g in ("reverse", "first_order"))

without_labels = partial(Row, classifies=False, episodic=False, draws=True)

LEARNERS = {
  "maml": Row(maml(classifier, reverse), episodes, width=WAYS),
  "maml, embedding by its encoder": Row(maml(classifier, reverse, encoder=encoder), episodes, width=5),
  "maml, adam inside": Row(maml(classifier, gradient_steps(smooth_adam, 2)), episodes, width=WAYS),
  "meta-sgd": Row(meta_sgd(classifier, 2, learning_rate=0.1), episodes, width=WAYS),
  "maml++": Row(  # the encoder's second layer stands for the normalization that each step has of its own
    maml_plus_plus(
      classifier,
      2,
      multi_step_until=1,
      per_step=lambda params: jax.tree_util.tree_map_with_path(lambda path, _: "Dense_1" in str(path), params),
    ),
    episodes,
    width=WAYS,
  ),
  "imaml": Row(imaml(classifier, optax.sgd(0.1), 3, cg_steps=2), episodes, width=WAYS),
  "cavia": Row(
    cavia(with_head(concat_context(encoder), linear(WAYS)), 4, reverse, encoder=concat_context(encoder)),
    episodes,
    width=5,
  ),
  "proto-maml": Row(proto_maml(encoder, one_step), episodes, width=5, any_ways=True),
  "maml, in groups": Row(maml(classifier, reverse, chunk_size=4), episodes, width=WAYS),
  "first-order maml": Row(maml(classifier, first_order), episodes, width=WAYS),
  "maml, regression": Row(
    maml(mlp((8,), 1, jax.nn.tanh), reverse, loss=squared_error), regressions, classifies=False, width=1
  ),
  "maml, batch norm": Row(maml(convolutional, one_step, encoder=convolution), image_episodes, batch_norm=True, width=4),
  "maml, batch norm of the support": Row(
    maml(convolutional, one_step, encoder=convolution, query_norm="support"), image_episodes, batch_norm=True, width=4
  ),
  "maml, any ways": Row(
    maml(with_head(encoder, linear(1)), reverse, init_head=zero_init_head), episodes, width=1, any_ways=True
  ),
  "anil": Row(anil(encoder, linear(WAYS), reverse), episodes, width=5),
  "anil, any ways": Row(anil(encoder, linear(1), reverse, init_head=zero_init_head), episodes, width=5, any_ways=True),
  "anil, batch norm of the support": Row(
    anil(convolution, linear(WAYS), reverse, query_norm="support"), image_episodes, batch_norm=True, width=4
  ),
  "reptile": Row(reptile(classifier, first_order, encoder=encoder), episodes, width=5),
  "reptile, mini-batches": Row(reptile(classifier, cut, minibatches=(3, 4)), episodes, width=WAYS, draws=True),
  "reptile, batch norm": Row(reptile(convolutional, one_step), image_episodes, batch_norm=True, width=WAYS),
  "r2d2": Row(r2d2(encoder), episodes, width=5, any_ways=True),
  "r2d2, batch norm of the support": Row(
    r2d2(convolution, query_norm="support"), image_episodes, batch_norm=True, width=4
  ),
  "supervised": Row(supervised(encoder), labeled, width=5, episodic=False, any_ways=True),
  "supervised, head by gradient": Row(
    supervised(encoder, partial(adapted_head, adapt=first_order)), labeled, width=5, episodic=False, any_ways=True
  ),
  "prototypical": Row(prototypical(encoder), episodes, width=5, any_ways=True),
  "prototypical, batch norm": Row(prototypical(convolution), image_episodes, batch_norm=True, width=4),
  "prototypical, cosine": Row(prototypical(encoder, distance="cosine"), episodes, width=5, any_ways=True),
  "matching": Row(matching(encoder, scale=5.0), episodes, width=5, any_ways=True),
  "matching, full context": Row(matching(encoder, read_steps=2), episodes, width=5, ordered=True, any_ways=True),
  "relation": Row(relation(maps, module), episodes, width=5, any_ways=True),
  "siamese": Row(siamese(encoder), labeled_pairs, width=5, episodic=False, any_ways=True),
  "siamese, batch norm": Row(siamese(convolution), image_pairs, width=4, episodic=False, batch_norm=True),
  "siamese, pairs of a batch": Row(siamese(encoder, pairs="batch"), labeled, width=5, episodic=False, any_ways=True),
  "siamese, one example a class": without_labels(
    siamese(encoder, augmentation=shaken),
    lambda seed: labeled(seed).inputs,
    width=5,
    any_ways=True,
  ),
  "siamese, augmented": Row(
    with_augmentation(siamese(encoder), shaken), labeled_pairs, width=5, episodic=False, draws=True
  ),
  "prototypical, preprocessed": Row(preprocessed(prototypical(encoder), jnp.tanh), episodes, width=5),
  "prototypical, augmented": Row(with_augmentation(prototypical(encoder), shaken), episodes, width=5, draws=True),
  "triplet": Row(
    triplet(encoder, negatives="given", margin="soft"),
    triplets,
    classifies=False,
    width=5,
    episodic=False,
    any_ways=True,
  ),
  "triplet, hard": Row(
    triplet(encoder, negatives="hard", margin="soft"), labeled, width=5, episodic=False, any_ways=True
  ),
  "triplet, semi-hard": Row(
    triplet(encoder, predictor=nearest_neighbor, margin=0.5), labeled, width=5, episodic=False, any_ways=True
  ),
  "clip": Row(clip(encoder, text), captioned, classifies=False, width=5, episodic=False, any_ways=True),
  "clip, siglip": without_labels(
    clip(encoder, text, "siglip", augmentation=shaken),
    captioned,
    width=5,
    any_ways=True,
  ),
  "simclr": without_labels(
    simclr(encoder, mlp((), 4), shaken, temperature="learned"),
    lambda seed: labeled(seed).inputs,
    width=5,
    any_ways=True,
  ),
  "simclr, batch norm": without_labels(
    simclr(convolution, projection_head(5, 4), shaken_image),
    bright,
    width=4,
    batch_norm=True,
  ),
  "pretext, rotation": without_labels(
    pretext(rotation(), convolution, linear(4)),
    bright,
    width=4,
    batch_norm=True,
  ),
  "pretext, jigsaw": without_labels(
    pretext(jigsaw(4, 2, gap=1, jitter=2), mean_and_more, linear(4)),
    bright,
    width=2,
  ),
  "pretext, transformation": without_labels(
    pretext(transformation(dimmed, dimmed), convolution, linear(4)),
    bright,
    width=4,
    batch_norm=True,
  ),
  "pretext, relative patch": without_labels(
    pretext(relative_patch(gap=1, jitter=1), mean_and_more, linear(8)),
    bright,
    width=2,
  ),
  "pretext, shuffle and learn": without_labels(
    pretext(shuffle_and_learn(), convolution, linear(2)),
    lambda seed: recorded(seed).first,
    width=4,
    batch_norm=True,
  ),
  "pretext, audio-visual": without_labels(
    pretext(audio_visual(2), {"seen": convolution, "heard": mlp((8,), 5, jax.nn.tanh)}, linear(2)),
    recorded,
    width=4,
    batch_norm=True,
  ),
  "gpt": Row(gpt(decoder(12, TINY, 8)), written, classifies=False, width=8, episodic=False, tasks=written_tasks),
  "bert": without_labels(bert(networks.bert(16, TINY, 10), 16), adjacent, width=8, tasks=written_tasks),
  "image gpt": Row(
    image_gpt(decoder(5, TINY, 16), np.linspace(0, 1, 4)[:, None], 4),
    bright,
    classifies=False,
    width=8,
    episodic=False,
    tasks=bright_tasks,
  ),
  "masked autoencoder": without_labels(
    masked_autoencoder(vision_transformer(TINY, 4, pool="none", positions="sine_cosine"), patch_decoder(16, TINY), 4),
    bright,
    width=8,
    tasks=image_episodes,
  ),
  "supervised contrastive": Row(
    supervised_contrastive(encoder, mlp((), 4), shaken), labeled, width=5, episodic=False, draws=True, any_ways=True
  ),
}

# A learner for each way that a batch takes over the mesh: the laws of devices and of running without jit are proven of
# these in every run of the suite, and of the others by its slow part.
MESH_PATHS = (
  "maml",
  "maml, in groups",
  "maml, batch norm of the support",
  "reptile, mini-batches",
  "supervised",
  "prototypical, batch norm",
  "siamese, pairs of a batch",
  "triplet, hard",
  "clip",
  "clip, siglip",
  "simclr, batch norm",
  "supervised contrastive",
  "pretext, audio-visual",
  "gpt",
  "masked autoencoder",
)

# Learners that differ from another of the table in a part that has tests of its own: their laws are slow.
VARIANTS = (
  "bert",
  "maml, embedding by its encoder",
  "maml, adam inside",
  "first-order maml",
  "maml, batch norm",
  "maml, any ways",
  "anil, any ways",
  "anil, batch norm of the support",
  "reptile",
  "reptile, batch norm",
  "r2d2, batch norm of the support",
  "supervised, head by gradient",
  "prototypical, cosine",
  "matching",
  "siamese",
  "siamese, batch norm",
  "siamese, augmented",
  "triplet",
  "triplet, semi-hard",
  "simclr",
  "pretext, jigsaw",
  "pretext, transformation",
  "pretext, relative patch",
  "pretext, shuffle and learn",
)
