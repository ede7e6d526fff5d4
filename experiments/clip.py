"""CLIP (arXiv:2103.00020): pictures and their captions in one space, and zero-shot transfer to what was never seen.

python -m experiments.clip --budget cpu     # glyphs: unseen combinations 74.5 (chance 0.5), 12 minutes on 1 CPU core
python -m experiments.clip --data flickr8k --budget cpu_photos     # R@10 14.8 and 14.7 (chance 1), 48 minutes likewise
python -m experiments.clip --data emoji --budget cpu_emoji     # R@10 31.9 and 31.4 (chance 2.6), 18 minutes likewise
"""

from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import clip_data, clip_page, clip_scores, command_line, few_shot, headlines, records, runs
from experiments.encoders import Encoder, encoder
from experiments.few_shot_data import slug
from experiments.pretraining import check, check_init, last, train_seeds
from experiments.probing import Representation, few_shot_all, few_shot_tasks, probe_all
from metajax import make_mesh
from metajax.compose import chunked, linear, with_head
from metajax.data import image_texts, load_tokenizer, train_tokenizer
from metajax.learners import clip
from metajax.learners.clip import Loss
from metajax.losses.contrastive import LARGEST_LOG_SCALE
from metajax.mesh import devices_for, first_host, own_share, shard_batch
from metajax.networks import text_transformer
from metajax.networks.linen.resnet import Stem
from metajax.networks.linen.transformer import Size
from metajax.train import adamw, keep_below, start, warmup_cosine
from metajax.types import Learner, Network, Pair
from metajax.views.image import affine, random_resized_crop


class Setting(NamedTuple):
  """What is trained on, and for how long."""

  data: str = "glyphs"
  """glyphs, a TFDS set with captions (flickr8k, emoji, coco_captions), or a folder, .csv or .jsonl of one's own."""
  split: str = ""
  """Not used."""
  download: bool = False
  """Let TFDS download data that is not there."""
  skip_broken: bool = False
  """Leave out files of one's own that cannot be read, rather than stop."""
  min_images_per_class: int = 1
  """Leave out classes that have fewer pictures."""
  size: int = 28
  """Pictures are brought to size x size pixels."""
  permuted: bool = False
  """Give each class the captions of another: what is then learned does not transfer."""
  batch_size: int = 256
  """Pairs in a step."""
  steps: int = 10000
  """Training steps."""
  rate: float = 1e-3
  """The highest of AdamW."""
  decay: float = 0.1
  """Weight decay."""
  warmup: int = 500
  """Steps over which the rate rises; it falls along a cosine after them."""
  curve_every: int = 1000
  """Steps between points of the curve; the last step is tested."""
  test: tuple[str, ...] = ("5w1s", "5w5s")
  """Few-shot settings to test frozen embeddings of pictures at, where there are classes that were not trained on."""
  test_queries: int = 15
  """Query pictures of each class in a test task."""
  test_tasks: int = 1000
  """Test tasks of each setting."""
  devices: int | None = None
  """Devices to share the pairs of a step; by default as many as divide them."""
  seed: int = 0
  """Of the initialisation, the order of the pictures and their captions."""
  seeds: int = 1
  """Train as many, one after the other, from --seed on; figures are means, with an interval over them."""


BUDGETS = {
  "paper": {"setting": Setting(size=224, batch_size=32768, steps=390000, rate=5e-4, decay=0.2, warmup=2000),
            "encoder_name": "vit_b", "patch": 32, "text_width": 512, "text_layers": 12, "length": 77,
            "vocabulary": 49408, "outputs": 512},
  "cpu": {"setting": Setting(size=32, steps=600, rate=2e-3, warmup=60, curve_every=100)},
  "cpu_photos": {"setting": Setting(data="flickr8k", size=64, batch_size=128, steps=1800, warmup=150, curve_every=300),
                 "encoder_name": "resnet10", "width": 0.5, "stem": "imagenet", "length": 32, "vocabulary": 2048},
  "cpu_emoji": {"setting": Setting(data="emoji", size=32, steps=800, warmup=50, curve_every=100),
                "length": 16, "vocabulary": 1024},
}  # fmt: skip


def main(
  encoder_name: Encoder = "conv4",
  width: float = 1.0,
  stem: Stem = "cifar",
  patch: int = 4,
  bfloat16: bool | None = None,
  text_width: int = 128,
  text_layers: int = 3,
  outputs: int = 128,
  vocabulary: int = 512,
  length: int = 24,
  loss: Loss = "info_nce",
  augment: Literal["auto", "none", "crop", "affine"] = "auto",
  chunk: int | None = None,
  setting: Setting = BUDGETS["paper"]["setting"],
  run: runs.RunFlags = runs.RUN,
):
  """CLIP on pictures with captions, and what it transfers to.

  Args:
    encoder_name: of pictures: conv4, conv4_strided, resnet10 to resnet101, vit_ti to vit_l.
    width: a multiple of the filters.
    stem: of a residual network: imagenet, or cifar for small pictures.
    patch: of a vision transformer.
    bfloat16: compute the picture tower in bfloat16; by default where there is an accelerator.
    text_width: values of a token.
    text_layers: of the text tower.
    outputs: values of an embedding.
    vocabulary: tokens of the byte-pair encoding, which is trained on the captions.
    length: tokens of the longest caption.
    loss: info_nce, or siglip.
    augment: the pictures; by default distortions for glyphs, crops for the rest.
    chunk: rows that a tower without batch statistics computes at once; by default all.
    setting: the data, and how it is trained.
    run: flags that every experiment has.
  """
  flags, s = locals(), setting
  this = runs.begin(f"clip-{slug(s)}", main, flags)
  check(s)
  _check(flags)
  data = clip_data.load_data(s)
  clip_data.describe(s, data)
  tokenizer = train_tokenizer((text for texts in data.train.captions for text in texts), vocabulary)
  tokenize = lambda texts: tokenizer(texts, length)
  learner = learner_of(flags, tokenizer.vocabulary)
  batches = [
    image_texts(data.train, tokenizer, batch_size=s.batch_size, length=length, seed=seed)
    for seed in few_shot.seeds_of(s)
  ]
  example = next(iter(own_share(batches[0])))
  check_init(learner, example)
  if this.resumed:
    runs.check_same(this)
  name = name_of(flags)
  device_count = devices_for(s.batch_size, s.devices)
  with jax.set_mesh(make_mesh(device_count, fsdp=run.fsdp)):
    shard_batch(example)
    this = runs.write_configuration(this, device_count, channels=example.first.shape[-1])
    if first_host():
      tokenizer.save(this.folder / "tokenizer.json")
    networks, seconds, waiting = _train(this, learner, batches, data.tests[0], tokenize, s)
    how = {"train_seconds": round(seconds), "steps": s.steps, "devices": device_count, "seed": s.seed}
    print(f"\ntrained for {seconds:.0f} s on {device_count} device(s), {100 * waiting:.1f}% of it waiting for data")
    first = start(learner, _optimizer(s), example, s.seed)
    measured = clip_scores.measure(name, learner, networks, data, tokenize, s, how)
    measured += clip_scores.measure(
      "untrained", learner, [(first.params, first.state)], data, tokenize, s, how | {"train_seconds": 0, "steps": 0}
    )
    if data.probes is not None:
      measured += clip_scores.by_pixels(data, s)
      measured += probe_all([Representation(name, learner.embed, networks)], data.probes, s, how)
      measured += few_shot_all({name: (learner, networks)}, few_shot_tasks(data.probes, s), s, how)
    records.write(this.folder / "records.json", measured)
    warnings = headlines.warn(this.folder, measured)
    clip_page.write(this, learner, networks[0], data, tokenize, s, measured, warnings)
  print(f"the run's page: {this.folder / 'index.html'}")
  if run.record:
    records.publish(f"clip-{slug(s)}", measured, this.folder / "figures" / "nearest.png")


def name_of(flags: dict) -> str:
  """What records call a command's learner."""
  other = flags["loss"] != "info_nce"
  return "clip" + f", {flags['loss']}" * other + ", permuted captions" * flags["setting"].permuted


def encoder_of(flags: dict) -> Network:
  """The picture tower of a command's flags, before its projection."""
  return encoder(*(flags[name] for name in ("encoder_name", "width", "stem", "patch", "bfloat16")))


def _check(flags: dict):
  """Refuses flags that do not fit each other, before data are loaded.

  Raises:
    ValueError: naming what does not fit.
  """
  s, chunk = flags["setting"], flags["chunk"]
  if chunk is not None and (s.batch_size % min(chunk, s.batch_size) or chunk % devices_for(s.batch_size, s.devices)):
    raise ValueError(f"expected a --chunk that divides the --batch-size and that --devices divide, got {chunk}")
  pictures = jax.ShapeDtypeStruct((2, s.size, s.size, 3), jnp.float32)
  texts = jax.ShapeDtypeStruct((2, flags["length"]), jnp.int32)
  jax.eval_shape(learner_of(flags, flags["vocabulary"]).init, jax.random.key(0), Pair(pictures, texts))


def learner_of(flags: dict, vocabulary: int) -> Learner:
  """The learner of a command's flags."""
  f, s = flags, flags["setting"]
  picture = with_head(encoder_of(f), linear(f["outputs"]))
  size = Size(f["text_width"], f["text_layers"], max(1, f["text_width"] // 64))
  text = text_transformer(vocabulary, size, f["length"], outputs=f["outputs"])
  if f["chunk"] is not None:
    picture, text = chunked(picture, f["chunk"]), chunked(text, f["chunk"])
  return clip(picture, text, f["loss"], view=_view(f["augment"], s))


def trained(folder: Path, flags: dict, seed: int | None = None) -> tuple:
  """A run's learner, its params and state, texts to tokens, and the pictures' channels; by default of its first seed.

  Raises:
    ValueError, OSError: if the run has not got so far.
  """
  s, tokenizer = flags["setting"], load_tokenizer(folder / "tokenizer.json")
  learner, channels = learner_of(flags, tokenizer.vocabulary), runs.configuration(folder)["channels"]
  pictures, texts = np.zeros((2, s.size, s.size, channels), np.float32), tokenizer(["", ""], flags["length"])
  example = Pair(pictures, texts)
  batches = lambda start=0, shard=(0, 1): iter([example])
  found = last(learner, _optimizer(s), s, folder, batches, s.seed if seed is None else seed)
  return learner, found.params, found.state, lambda texts: tokenizer(texts, flags["length"]), channels


def _train(this, learner, batches, test, tokenize, s):
  """`train_seeds`, with the first test for its curve."""

  def validate(params, state):
    if test.kind == "captions":
      ways = clip_scores.found(learner, params, state, test, tokenize)
      both = {way: scores[10].mean for way, scores in ways.items()}
      print("  R@10: " + ", ".join(f"{way.replace('_', ' ')} {mean:.2f}%" for way, mean in both.items()))
      return float(np.mean([*both.values()]))
    return clip_scores.named(learner, params, state, test, tokenize).top_1.mean

  return train_seeds(this, learner, _optimizer(s), batches, s, validate)


def _optimizer(s) -> optax.GradientTransformation:
  rate = warmup_cosine(s.rate, s.steps, s.warmup)
  return optax.chain(adamw(rate, decay=s.decay, b2=0.98), keep_below(LARGEST_LOG_SCALE, "log_scale"))


def _view(augment: str, s):
  """What is seen of a picture while training."""
  chosen = augment if augment != "auto" else "affine" if s.data == "glyphs" else "crop"
  views = {"none": None, "crop": random_resized_crop(area=(0.5, 1.0)), "affine": affine(5.0, 0.1, (0.9, 1.1), 0.05)}
  return views[chosen]


if __name__ == "__main__":
  command_line.run(main, BUDGETS)
