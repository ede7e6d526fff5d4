"""Image GPT and masked autoencoders as Methods of pretraining: their learners, their scores, their figures."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from experiments import headlines, pretraining, probing, records
from experiments.encoders import dtype_of, size_of
from metajax.data import in_order, learn_palette
from metajax.evaluate import features, independent_pixels, over_seeds, summarise
from metajax.learners import image_gpt as image_gpt_learner
from metajax.learners import masked_autoencoder, pixel_log_probabilities, reconstruct, sample
from metajax.learners.gpt import mean_features
from metajax.learners.image_gpt import pixel_encoder, read_pictures
from metajax.losses import normalised_patches, patch_statistics
from metajax.mesh import from_first_host, to_host
from metajax.networks import decoder, patch_decoder, vision_transformer
from metajax.networks.linen.transformer import Size
from metajax.report import contact_sheet_figure
from metajax.views.image import random_resized_crop
from metajax.views.palette import coloured, quantized
from metajax.views.patches import patches_of, pictures_of

BATCH = 128  # pictures whose likelihood is asked for at once
COUNTED = 20000  # pictures that baselines count
SHOWN = 8  # pictures of a figure
TEST_SEED = 7  # of what is hidden


def image_gpt(flags: dict) -> pretraining.Method:
  """Of a command's flags. The data are loaded first: the palette is learned from them."""
  s, pixels = flags["setting"], flags["pixels"]
  of_two_colours = image_gpt_learner(decoder(3, size_of(flags), pixels**2, **_run(flags)), np.eye(2, 3), pixels)
  pretraining.check_pictures(of_two_colours.init, s)
  parts = pretraining.load_parts(s)
  learned = lambda: learn_palette(parts.unlabelled, flags["colours"], size=pixels, seed=s.seed).tolist()
  palette = np.array(from_first_host(learned), np.float32)
  network = decoder(len(palette) + 1, size_of(flags), pixels**2, **_run(flags))
  make = functools.partial(image_gpt_learner, network, palette, pixels)
  learner = make()

  embed_layers = _of_all_layers(network, pixels)

  def choose(trained, parts):
    each = [_by_layers(embed_layers, flags["layers"] + 1, *one, parts) for one in trained]
    found = np.mean(each, 0)
    best = int(found.argmax())
    said = ", ".join(f"{layer}: {accuracy:.1f}" for layer, accuracy in enumerate(found))
    print(f"nearest neighbours on validation pictures by the features of each layer: {said}")
    return make(layer=best)

  def scores(trained, parts, s, how):
    bits = functools.partial(_bits_of_pixels, pixel_log_probabilities(network, pixels), test=parts.test)
    own = [bits(params, state) for params, state in trained]
    few = pretraining.first(parts.unlabelled, COUNTED)
    tokens = [_tokens(part, palette, pixels) for part in (few, parts.validation, parts.test)]
    counted = independent_pixels(*tokens, len(palette))
    alone = -counted.log_probabilities.mean(-1) / np.log(2)
    print(f"\nwhat the next of {pixels} x {pixels} pixels is, of {len(palette)} colours, on what was not trained on")
    rows = {"image gpt": own, "independent pixels": [alone]}
    of = f"{pixels} x {pixels} pixels of {len(palette)} colours"
    return _records("bits_per_pixel", of, rows, parts, s, how, chance=round(math.log2(len(palette)), 4))

  def figures(folder, trained, parts):
    params, state = trained[0]["encoder"], trained[1]["encoder"]
    how = {name: flags[name] for name in ("temperature", "top_k", "top_p")} | {"tokens": len(palette)}
    go_on = lambda key, prompt: sample(network, params, state["network"], key, prompt, _rest(prompt, pixels), **how)
    start = jnp.full((4 * SHOWN, 1), len(palette), jnp.int32)
    drawn = coloured(go_on(jax.random.key(0), start)[:, 1:], state["palette"])
    contact_sheet_figure(np.asarray(drawn), ["sample"] * len(drawn), folder / "samples.png")
    some = pretraining.first(parts.test, SHOWN)
    whole = quantized(_pictures(some), state["palette"], pixels)
    half = jnp.concatenate([start[:SHOWN], whole[:, : pixels**2 // 2]], 1)
    rows = [coloured(whole, state["palette"]), coloured(_blank(whole, palette), state["palette"])]
    rows += [coloured(go_on(jax.random.key(i), half)[:, 1:], state["palette"]) for i in range(1, 4)]
    names = ["picture", "its upper half", *["gone on with"] * 3]
    contact_sheet_figure(
      np.concatenate([np.asarray(row) for row in rows]),
      [name for name in names for _ in range(SHOWN)],
      folder / "halves.png",
    )
    return [
      ("Samples", f"Pictures drawn pixel by pixel; {_told(flags)}.", folder / "samples.png"),
      ("Halves gone on with", "Pictures that were not trained on, as the palette has them, their upper half, and what "
       "may follow it.", folder / "halves.png"),
    ]  # fmt: skip

  encoder = pixel_encoder(network, palette, pixels)
  return pretraining.Method(
    "image gpt", learner, {"": learner.embed}, encoder, figures, lambda s: parts, scores=scores, choose=choose
  )


def mae(flags: dict) -> pretraining.Method:
  """Of a command's flags."""
  patch, masked, normalise = flags["patch"], flags["masked"], flags["normalise"]
  size, how = (
    size_of(flags),
    {"positions": "sine_cosine"} | _run(flags),
  )
  encoder = vision_transformer(size, patch, pool="none", **how)
  s = flags["setting"]
  heads = math.gcd(flags["decoder_width"], max(1, flags["decoder_width"] // 32))
  light_size = Size(flags["decoder_width"], flags["decoder_layers"], heads)
  view = random_resized_crop(area=(0.2, 1.0)) if flags["crops"] else None

  def make(channels):
    light = patch_decoder(patch * patch * channels, light_size, **how)
    return light, masked_autoencoder(encoder, light, patch, masked=masked, normalise=normalise, view=view)

  pretraining.check_pictures(make(3)[1].init, s)
  parts = pretraining.load_parts(s)
  light, learner = make(parts.unlabelled.images.shape[-1])
  run = jax.jit(reconstruct(encoder, light, patch, masked=masked))

  def scores(trained, parts, s, how):
    found = _errors(run, trained, parts, patch, normalise)
    print(f"\npatches that are hidden, {100 * masked:g}% of them, on what was not trained on: squared error")
    of = f"hidden patches of {patch} pixels, {100 * masked:g}%{', each of mean 0 and variance 1' * normalise}"
    return _records("reconstruction_error", of, found, parts, s, how)

  def figures(folder, trained, parts):
    pictures = _pictures(pretraining.first(parts.test, SHOWN))
    made, unseen = map(to_host, run(*trained, jax.random.key(TEST_SEED), pictures))
    given = patches_of(pictures, patch)
    if normalise:
      mean, deviation = patch_statistics(given)
      made = made * deviation + mean
    seen = jnp.where(unseen[..., None], 0.5, given)
    rows = [pictures, pictures_of(seen, patch), pictures_of(jnp.where(unseen[..., None], made, given), patch)]
    names = ["picture", "what is seen", "reconstruction"]
    path = folder / "reconstructions.png"
    shown = np.clip(np.concatenate([np.asarray(row) for row in rows]), 0, 1)
    contact_sheet_figure(shown, [name for name in names for _ in range(SHOWN)], path)
    own = " Each hidden patch is shown with its true mean and contrast, which the network is not asked for." * normalise
    return [("Reconstructions", f"Pictures that were not trained on, and what is made of a part of them.{own}", path)]

  whole = vision_transformer(size, patch, pool="mean", **how)
  return pretraining.Method(
    "masked autoencoder", learner, {"": learner.embed}, whole, figures, lambda s: parts, scores=scores
  )


def _errors(run, trained, parts, patch, normalise) -> dict[str, list]:
  """`{name: the mean squared error of each test picture, a list for each seed}` over the patches that were hidden."""
  units = normalised_patches if normalise else lambda patches: patches
  typical = np.mean(units(patches_of(_pictures(pretraining.first(parts.unlabelled, COUNTED)), patch)), 0)
  found = {"masked autoencoder": [], headlines.MEAN_PATCH: [], "mean of the patches that are seen": []}
  keys = jax.random.split(jax.random.key(TEST_SEED), -(-len(parts.test.labels) // BATCH))
  for params, state in trained:
    each = {name: [] for name in found}
    for key, batch in zip(keys, in_order(parts.test, batch_size=BATCH)(), strict=True):
      pictures = np.concatenate(
        [batch.inputs, np.zeros((BATCH - len(batch.labels), *batch.inputs.shape[1:]), np.float32)]
      )
      made, unseen = (to_host(x)[: len(batch.labels)] for x in run(params, state, key, pictures))
      given = np.asarray(units(patches_of(batch.inputs, patch)))
      seen = (given * ~unseen[..., None]).sum(1, keepdims=True) / (~unseen).sum(1)[:, None, None]
      for name, guess in zip(found, (made, typical, seen), strict=True):
        error = np.square(guess - given).mean(-1)
        each[name].append((error * unseen).sum(-1) / unseen.sum(-1))
    for name, values in each.items():
      found[name].append(np.concatenate(values))
  return {name: values if name == "masked autoencoder" else values[:1] for name, values in found.items()}


def _records(measure, of, rows: dict, parts, s, how, **chance: float) -> list[dict]:
  """The records of a score of each picture, and of baselines, and what is printed of them."""
  measured, width = [], max(map(len, rows))
  for name, values in rows.items():
    score = over_seeds([summarise(one) for one in values])
    print(f"  {name:<{width}}  {score:.3f}")
    own = how if name == next(iter(rows)) else {"train_seconds": 0, "steps": 0, "seed": s.seed}
    said = probing.common(parts, s) | {"measure": measure, "of": of, "published": None} | chance
    said |= {"value": round(score.mean, 4), "interval": round(score.interval, 4)}
    measured.append(records.record(learner=name, **said, **own, seeds=s.seeds))
  first, *others = rows.values()
  for name, values in zip(list(rows)[1:], others, strict=True):
    gain = summarise(np.mean([values[0] - one for one in first], 0))
    print(f"  lower than {name} by {gain:.3f}, picture by picture")
  return measured


def _bits_of_pixels(of, params, state, *, test) -> np.ndarray:
  """The mean bits of a pixel of each test picture."""
  return -features(of, params, state, in_order(test, batch_size=BATCH)).inputs.mean(-1) / np.log(2)


def _of_all_layers(network, pixels):
  """An `embed` of the features of all layers, one after the other."""

  def embed(params, state, pictures):
    tokens, decoded, _ = read_pictures(network, params["encoder"], state["encoder"], pictures, pixels, train=False)
    return jnp.concatenate([mean_features(layer, jnp.ones(tokens.shape)) for layer in decoded.layers], -1)

  return embed


def _by_layers(embed, layers, params, state, parts) -> list[float]:
  """The accuracy of nearest neighbours by the features of each layer, all of them of one pass."""
  known, asked = pretraining.known_and_asked(embed, params, state, pretraining.of_curve(parts))
  of_layer = lambda x, layer: x._replace(inputs=np.split(x.inputs, layers, -1)[layer])
  return [pretraining.accuracy_of_neighbours(*(of_layer(x, i) for x in (known, asked))) for i in range(layers)]


def _tokens(source, palette, pixels) -> np.ndarray:
  found = jax.jit(lambda pictures: quantized(pictures, palette, pixels))
  return np.concatenate([found(batch.inputs) for batch in in_order(source, batch_size=2048)()])


def _pictures(source) -> np.ndarray:
  return np.asarray(source.images[:], np.float32) / 255


def _blank(tokens, palette):
  """Tokens whose lower half is the palette's middle colour."""
  half = jnp.arange(tokens.shape[1]) >= tokens.shape[1] // 2
  return jnp.where(half, len(palette) // 2, tokens)


def _rest(prompt, pixels) -> int:
  return pixels**2 + 1 - prompt.shape[1]


def _told(flags) -> str:
  limits = [f"temperature {flags['temperature']:g}"]
  limits += [f"{name.replace('_', '-')} {flags[name]:g}" for name in ("top_k", "top_p") if flags[name] is not None]
  return ", ".join(limits)


def _run(flags) -> dict:
  return {"dropout": flags["dropout"], "dtype": dtype_of(flags["bfloat16"])}
