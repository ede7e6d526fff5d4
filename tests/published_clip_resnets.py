"""A small CLIP with a modified residual network: its arrays by OpenAI's names, and its image features in NumPy."""

import numpy as np
import published_clips

WIDTH, BLOCKS, PIXELS, OUTPUTS, HEADS, VOCABULARY = 4, (1, 2, 1, 1), 64, 10, 4, 30
FEATURES = 32 * WIDTH
VISION = {"image_size": PIXELS, "layers": list(BLOCKS), "width": WIDTH, "patch_size": None, "head_width": 32}
MEAN, DEVIATION = [0.5, 0.4, 0.3], [0.5, 0.25, 0.125]
CONFIG = {
  "model_cfg": published_clips.OPEN_CLIP["model_cfg"] | {"vision_cfg": VISION, "quick_gelu": True},
  "preprocess_cfg": {"mean": MEAN, "std": DEVIATION},
}
IMAGES = np.random.default_rng(1).random((2, PIXELS, PIXELS, 3)).astype("f")


def convolutions():
  """`{name: (name of the norm, outputs, inputs, size)}` of all convolutions."""
  half = WIDTH // 2
  found = {"conv1": ("bn1", half, 3, 3), "conv2": ("bn2", half, half, 3), "conv3": ("bn3", WIDTH, half, 3)}
  inputs = WIDTH
  for stage, blocks in enumerate(BLOCKS):
    filters = WIDTH * 2**stage
    for block in range(blocks):
      name = f"layer{stage + 1}.{block}"
      found[f"{name}.conv1"] = (f"{name}.bn1", filters, inputs, 1)
      found[f"{name}.conv2"] = (f"{name}.bn2", filters, filters, 3)
      found[f"{name}.conv3"] = (f"{name}.bn3", 4 * filters, filters, 1)
      if block == 0:
        found[f"{name}.downsample.0"] = (f"{name}.downsample.1", 4 * filters, inputs, 1)
      inputs = 4 * filters
  return found


def arrays(vocabulary=VOCABULARY):
  """All arrays, random; the text tower is that of `published_clips`."""
  random = np.random.default_rng(0)
  draw = lambda *shape: random.normal(0, 0.3, shape).astype("f")
  found = {}
  for name, (norm, outputs, inputs, size) in convolutions().items():
    found[f"visual.{name}.weight"] = draw(outputs, inputs, size, size) / np.float32(size)
    for part in ("weight", "bias", "running_mean"):
      found[f"visual.{norm}.{part}"] = draw(outputs) + np.float32(part == "weight")
    found[f"visual.{norm}.running_var"] = random.uniform(0.5, 1.5, outputs).astype("f")
    found[f"visual.{norm}.num_batches_tracked"] = np.array(7)
  found["visual.attnpool.positional_embedding"] = draw(1 + (PIXELS // 32) ** 2, FEATURES)
  for part in "qkvc":
    outputs = OUTPUTS if part == "c" else FEATURES
    found[f"visual.attnpool.{part}_proj.weight"] = draw(outputs, FEATURES) / 4
    found[f"visual.attnpool.{part}_proj.bias"] = draw(outputs)
  texts = published_clips.openai_names(published_clips.arrays())
  found |= {name: x for name, x in texts.items() if not name.startswith("visual.")}
  return found | {"token_embedding.weight": draw(vocabulary, 16)}


def image_features(tensors, images):
  """Features of images in [0, 1], in float64."""
  x = (images.astype(np.float64) - MEAN) / DEVIATION
  for i in (1, 2, 3):
    x = np.maximum(_convolved(tensors, x, f"conv{i}", 2 if i == 1 else 1), 0)
  x = _average(x)
  for stage, blocks in enumerate(BLOCKS):
    for block in range(blocks):
      name, pool = f"layer{stage + 1}.{block}", _average if stage and not block else lambda maps: maps
      inner = np.maximum(_convolved(tensors, x, f"{name}.conv1"), 0)
      inner = pool(np.maximum(_convolved(tensors, inner, f"{name}.conv2"), 0))
      inner = _convolved(tensors, inner, f"{name}.conv3")
      x = np.maximum(inner + (x if block else _convolved(tensors, pool(x), f"{name}.downsample.0")), 0)
  return attention_pool(tensors, x)


def attention_pool(tensors, maps):
  """Pools maps `[n, h, w, c]` one image and one head at a time."""
  get = lambda name: tensors[f"visual.attnpool.{name}"].astype(np.float64)
  dense = lambda x, name: x @ get(f"{name}_proj.weight").T + get(f"{name}_proj.bias")
  pooled = []
  for tokens in maps.reshape(len(maps), -1, FEATURES):
    tokens = np.concatenate([tokens.mean(0, keepdims=True), tokens]) + get("positional_embedding")
    query, key, value = (dense(tokens, name) for name in "qkv")
    heads = []
    for own in np.split(np.arange(FEATURES), HEADS):
      scores = np.exp(key[:, own] @ query[0, own] / np.sqrt(FEATURES / HEADS))
      heads.append(scores / scores.sum() @ value[:, own])
    pooled.append(dense(np.concatenate(heads), "c"))
  return np.stack(pooled)


def _convolved(tensors, x, name, stride=1):
  norm, _, _, size = convolutions()[name]
  around, (_, height, width, _) = size // 2, x.shape
  padded = np.pad(x, ((0, 0), (around, around), (around, around), (0, 0)))
  kernel, out = tensors[f"visual.{name}.weight"].astype(np.float64), 0
  for i, j in np.ndindex(size, size):
    out = out + padded[:, i : i + height : stride, j : j + width : stride] @ kernel[:, :, i, j].T
  get = lambda part: tensors[f"visual.{norm}.{part}"].astype(np.float64)
  return (out - get("running_mean")) / np.sqrt(get("running_var") + 1e-5) * get("weight") + get("bias")


def _average(x):
  return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
