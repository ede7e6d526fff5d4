"""Small published encoders: arrays by the publishers' names, and their features in NumPy and in plain XLA."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from safetensors.numpy import save_file
from scipy.special import erf

WIDTH, LAYERS, HEADS, PIXELS, PATCH, REGISTERS = 16, 2, 4, 12, 4, 3
GATED = 48  # (int(4 * 16 * 2 / 3) + 7) // 8 * 8
DINOV2 = {"model_type": "dinov2_with_registers", "hidden_size": WIDTH, "num_hidden_layers": LAYERS}
DINOV2 |= {"num_attention_heads": HEADS, "image_size": PIXELS, "patch_size": PATCH}
SIGLIP = DINOV2 | {"model_type": "siglip_vision_model"}
MEAN, DEVIATION = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
PROCESSOR = {"image_processor_type": "ViTImageProcessor", "size": {"height": PIXELS, "width": PIXELS}}
PROCESSOR |= {"image_mean": MEAN, "image_std": DEVIATION}
IMAGES = np.random.default_rng(1).random((2, PIXELS, PIXELS, 3)).astype("f")


def drawn(shapes, seed=0):
  """Random arrays of some shapes, in the order of their names."""
  random = np.random.default_rng(seed)
  return {name: random.normal(0, 0.3, shapes[name]).astype("f") for name in sorted(shapes)}


def write(folder, tensors, config=None, processor=PROCESSOR):
  """Writes a folder as publishers do."""
  folder.mkdir(parents=True, exist_ok=True)
  save_file(tensors, folder / "model.safetensors")
  for name, said in (("config.json", config), ("preprocessor_config.json", processor)):
    if said is not None:
      (folder / name).write_text(json.dumps(said))
  return folder


def _dense(shapes, name, outputs, inputs):
  shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(shapes, name):
  shapes |= {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def dinov2(gated=False):
  """A DINOv2 with registers by transformers' names."""
  places, hidden = 1 + (PIXELS // PATCH) ** 2, GATED if gated else 4 * WIDTH
  shapes = {"embeddings.cls_token": (1, 1, WIDTH), "embeddings.mask_token": (1, WIDTH)}
  shapes |= {"embeddings.register_tokens": (1, REGISTERS, WIDTH), "embeddings.position_embeddings": (1, places, WIDTH)}
  shapes["embeddings.patch_embeddings.projection.weight"] = (WIDTH, 3, PATCH, PATCH)
  shapes["embeddings.patch_embeddings.projection.bias"] = (WIDTH,)
  for i in range(LAYERS):
    layer = f"encoder.layer.{i}"
    _norm(shapes, f"{layer}.norm1")
    _norm(shapes, f"{layer}.norm2")
    for name in ("attention.query", "attention.key", "attention.value", "output.dense"):
      _dense(shapes, f"{layer}.attention.{name}", WIDTH, WIDTH)
    _dense(shapes, f"{layer}.mlp.{'weights_in' if gated else 'fc1'}", hidden * (1 + gated), WIDTH)
    _dense(shapes, f"{layer}.mlp.{'weights_out' if gated else 'fc2'}", WIDTH, hidden)
    shapes |= {f"{layer}.layer_scale{j}.lambda1": (WIDTH,) for j in (1, 2)}
  _norm(shapes, "layernorm")
  return drawn(shapes)


def timm_names(tensors):
  """The arrays of `dinov2` by timm's names."""
  found = {}
  table = {"embeddings.cls_token": "cls_token", "embeddings.register_tokens": "reg_token"}
  table |= {
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.": "patch_embed.proj.",
  }
  table |= {"encoder.layer.": "blocks.", "attention.output.dense.": "attn.proj.", "layernorm.": "norm."}
  table |= {"layer_scale1.lambda1": "ls1.gamma", "layer_scale2.lambda1": "ls2.gamma"}
  for name, x in tensors.items():
    for old, new in table.items():
      name = name.replace(old, new)
    if "attention.attention" not in name and "mask_token" not in name:
      found[name] = x
  for i in range(LAYERS):
    for kind in ("weight", "bias"):
      parts = [tensors[f"encoder.layer.{i}.attention.attention.{part}.{kind}"] for part in ("query", "key", "value")]
      found[f"blocks.{i}.attn.qkv.{kind}"] = np.concatenate(parts)
  return found


def siglip():
  """The image tower of a SigLIP by transformers' names, and an array of the text tower."""
  shapes = {"embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH), "embeddings.patch_embedding.bias": (WIDTH,)}
  shapes["embeddings.position_embedding.weight"] = ((PIXELS // PATCH) ** 2, WIDTH)
  for i in range(LAYERS):
    layer = f"encoder.layers.{i}"
    _norm(shapes, f"{layer}.layer_norm1")
    _norm(shapes, f"{layer}.layer_norm2")
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
      _dense(shapes, f"{layer}.self_attn.{name}", WIDTH, WIDTH)
    _dense(shapes, f"{layer}.mlp.fc1", 40, WIDTH)
    _dense(shapes, f"{layer}.mlp.fc2", WIDTH, 40)
  _norm(shapes, "post_layernorm")
  shapes |= {"head.probe": (1, 1, WIDTH), "head.attention.in_proj_weight": (3 * WIDTH, WIDTH)}
  shapes["head.attention.in_proj_bias"] = (3 * WIDTH,)
  _dense(shapes, "head.attention.out_proj", WIDTH, WIDTH)
  _norm(shapes, "head.layernorm")
  _dense(shapes, "head.mlp.fc1", 40, WIDTH)
  _dense(shapes, "head.mlp.fc2", WIDTH, 40)
  shapes = {f"vision_model.{name}": shape for name, shape in shapes.items()}
  return drawn(shapes | {"text_model.head.weight": (WIDTH, WIDTH), "logit_bias": (1,), "logit_scale": (1,)})


def _normal(x, weight, bias):
  x = x - x.mean(-1, keepdims=True)
  return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weight + bias


def _attend(query, key, value):
  query, key, value = (x.reshape(*x.shape[:2], HEADS, -1).transpose(0, 2, 1, 3) for x in (query, key, value))
  scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(query.shape[-1])
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  found = weights / weights.sum(-1, keepdims=True) @ value
  return found.transpose(0, 2, 1, 3).reshape(found.shape[0], found.shape[2], -1)


def _patches(images, weight, bias):
  images = (images - np.array(MEAN)) / np.array(DEVIATION)
  side = PIXELS // PATCH
  patches = images.reshape(len(images), side, PATCH, side, PATCH, 3).transpose(0, 1, 3, 5, 2, 4)
  return patches.reshape(len(images), side**2, -1) @ weight.reshape(WIDTH, -1).T + bias


def dinov2_features(tensors, images, gated=False):
  """The class token of a DINOv2 (arXiv:2304.07193, 2309.16588) after its last norm, in NumPy."""
  t = {name: x.astype(np.float64) for name, x in tensors.items()}
  of = lambda name, x: x @ t[f"{name}.weight"].T + t[f"{name}.bias"]
  normal = lambda name, x: _normal(x, t[f"{name}.weight"], t[f"{name}.bias"])
  patches, places = "embeddings.patch_embeddings.projection", t["embeddings.position_embeddings"]
  x = _patches(images, t[f"{patches}.weight"], t[f"{patches}.bias"]) + places[:, 1:]
  tokens = np.concatenate([t["embeddings.cls_token"] + places[:, :1], t["embeddings.register_tokens"]], 1)
  x = np.concatenate([np.repeat(tokens, len(images), 0), x], 1)
  for i in range(LAYERS):
    layer = f"encoder.layer.{i}"
    y = normal(f"{layer}.norm1", x)
    parts = [of(f"{layer}.attention.attention.{part}", y) for part in ("query", "key", "value")]
    x = x + of(f"{layer}.attention.output.dense", _attend(*parts)) * t[f"{layer}.layer_scale1.lambda1"]
    y = normal(f"{layer}.norm2", x)
    if gated:
      gate, y = np.split(of(f"{layer}.mlp.weights_in", y), 2, -1)
      y = of(f"{layer}.mlp.weights_out", gate / (1 + np.exp(-gate)) * y)
    else:
      y = of(f"{layer}.mlp.fc1", y)
      y = of(f"{layer}.mlp.fc2", y * (1 + erf(y / np.sqrt(2))) / 2)
    x = x + y * t[f"{layer}.layer_scale2.lambda1"]
  return normal("layernorm", x)[:, 0]


def siglip_features(tensors, images):
  """The pooled features of a SigLIP's image tower (arXiv:2303.15343), in NumPy."""
  t = {name.removeprefix("vision_model."): x.astype(np.float64) for name, x in tensors.items()}
  of = lambda name, x: x @ t[f"{name}.weight"].T + t[f"{name}.bias"]
  normal = lambda name, x: _normal(x, t[f"{name}.weight"], t[f"{name}.bias"])
  gelu = lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2
  perceptron = lambda name, x: of(f"{name}.fc2", gelu(of(f"{name}.fc1", x)))
  x = _patches(images, t["embeddings.patch_embedding.weight"], t["embeddings.patch_embedding.bias"])
  x = x + t["embeddings.position_embedding.weight"]
  for i in range(LAYERS):
    layer = f"encoder.layers.{i}"
    y = normal(f"{layer}.layer_norm1", x)
    x = x + of(f"{layer}.self_attn.out_proj", _attend(*(of(f"{layer}.self_attn.{part}_proj", y) for part in "qkv")))
    x = x + perceptron(f"{layer}.mlp", normal(f"{layer}.layer_norm2", x))
  x = normal("post_layernorm", x)
  weights, biases = np.split(t["head.attention.in_proj_weight"], 3), np.split(t["head.attention.in_proj_bias"], 3)
  probe = np.repeat(t["head.probe"], len(images), 0)
  parts = [y @ w.T + b for y, w, b in zip((probe, x, x), weights, biases, strict=True)]
  pooled = of("head.attention.out_proj", _attend(*parts))
  return (pooled + perceptron("head.mlp", normal("head.layernorm", pooled)))[:, 0]


def resnet18():
  """A ResNet-18 by torchvision's names, with its classifier."""
  shapes = {}

  def layer(convolution, norm, outputs, inputs, size):
    shapes[f"{convolution}.weight"] = (outputs, inputs, size, size)
    shapes.update({f"{norm}.{name}": (outputs,) for name in ("weight", "bias", "running_mean", "running_var")})

  layer("conv1", "bn1", 64, 3, 7)
  inputs = 64
  for stage in range(4):
    outputs = 64 * 2**stage
    for block in range(2):
      name = f"layer{stage + 1}.{block}"
      layer(f"{name}.conv1", f"{name}.bn1", outputs, inputs, 3)
      layer(f"{name}.conv2", f"{name}.bn2", outputs, outputs, 3)
      if inputs != outputs:
        layer(f"{name}.downsample.0", f"{name}.downsample.1", outputs, inputs, 1)
      inputs = outputs
  found = drawn(shapes | {"fc.weight": (5, 512), "fc.bias": (5,)})
  for name, x in found.items():
    found[name] = np.abs(x) + 0.5 if name.endswith("running_var") else x / np.sqrt(max(1, x.size // len(x)))
  return found | {"bn1.num_batches_tracked": np.zeros((), np.int64)}


@jax.jit
def resnet18_features(t, images):
  """The features of a ResNet-18 (arXiv:1512.03385) in PyTorch's order of axes."""

  def layer(convolution, norm, x, stride):
    kernel = t[f"{convolution}.weight"]
    pads = [(kernel.shape[-1] // 2,) * 2] * 2
    x = lax.conv_general_dilated(x, jnp.asarray(kernel), (stride, stride), pads)
    weight, bias, mean, var = (
      t[f"{norm}.{name}"][:, None, None] for name in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / jnp.sqrt(var + 1e-5) * weight + bias

  x = jnp.asarray((images - np.array(MEAN, "f")) / np.array(DEVIATION, "f")).transpose(0, 3, 1, 2)
  x = jax.nn.relu(layer("conv1", "bn1", x, 2))
  x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 3, 3), (1, 1, 2, 2), [(0, 0), (0, 0), (1, 1), (1, 1)])
  for stage in range(4):
    for block in range(2):
      name, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
      y = layer(f"{name}.conv2", f"{name}.bn2", jax.nn.relu(layer(f"{name}.conv1", f"{name}.bn1", x, stride)), 1)
      around = f"{name}.downsample"
      x = layer(f"{around}.0", f"{around}.1", x, stride) if f"{around}.0.weight" in t else x
      x = jax.nn.relu(x + y)
  return x.mean((2, 3))
