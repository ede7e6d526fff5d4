"""CLIP's published weights: from a safetensors file or a Hugging Face folder into its towers, and back."""

import json
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.flax import save_file

from metajax.networks.clip_towers import Towers, clip_towers
from metajax.networks.transformer import CLIP, Details, Size
from metajax.types import Network, Pair

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's pictures
HEAD = 64  # values of an attention head, in all published models
FILES = ("model.safetensors.index.json", "model.safetensors", "open_clip_model.safetensors")
# Theirs (Hugging Face's `CLIPModel`) -> ours, and how an array of theirs becomes one of ours.
LAYER = {
  "layer_norm1": ("before_attention", "norm"),
  "layer_norm2": ("before_perceptron", "norm"),
  "self_attn.q_proj": ("attention.query", "into_heads"),
  "self_attn.k_proj": ("attention.key", "into_heads"),
  "self_attn.v_proj": ("attention.value", "into_heads"),
  "self_attn.out_proj": ("attention.out", "out_of_heads"),
  "mlp.fc1": ("hidden", "matrix"),
  "mlp.fc2": ("outputs", "matrix"),
}
REST = {
  "vision_model.embeddings.class_embedding": ("picture.class_token", "same"),
  "vision_model.embeddings.position_embedding.weight": ("picture.positions", "same"),
  "vision_model.embeddings.patch_embedding.weight": ("picture.patches.kernel", "patches"),
  "visual_projection.weight": ("picture.projection.kernel", "matrix"),
  "text_model.embeddings.token_embedding.weight": ("text.tokens.embedding", "same"),
  "text_model.embeddings.position_embedding.weight": ("text.positions", "same"),
  "text_projection.weight": ("text.projection.kernel", "matrix"),
  "logit_scale": ("log_scale", "same"),
}
NORMS = {
  "vision_model.pre_layrnorm": "picture.first_norm",
  "vision_model.post_layernorm": "picture.norm",
  "text_model.final_layer_norm": "text.norm",
}
# OpenAI's own names, which open_clip has too -> Hugging Face's.
OPENAI = {
  "visual.class_embedding": "vision_model.embeddings.class_embedding",
  "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
  "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
  "visual.ln_pre.": "vision_model.pre_layrnorm.",
  "visual.ln_post.": "vision_model.post_layernorm.",
  "visual.transformer.resblocks.": "vision_model.encoder.layers.",
  "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
  "positional_embedding": "text_model.embeddings.position_embedding.weight",
  "ln_final.": "text_model.final_layer_norm.",
  "transformer.resblocks.": "text_model.encoder.layers.",
  ".ln_1.": ".layer_norm1.",
  ".ln_2.": ".layer_norm2.",
  ".attn.out_proj.": ".self_attn.out_proj.",
  ".mlp.c_fc.": ".mlp.fc1.",
  ".mlp.c_proj.": ".mlp.fc2.",
}


class Pretrained(NamedTuple):
  """Weights and the networks that they are of.

  Attributes:
    networks: the `Pair` of the picture's and the text's network; neither has a state. Pictures are in [0, 1]: the
      network takes the mean off that the weights were trained with, and divides by the deviation.
    params: {"picture": ..., "text": ..., "log_scale": ...}, float32, those of `learners.clip(*networks)`.
    towers: their sizes.
    details: which activation and norms they have.
  """

  networks: Pair
  params: dict
  towers: Towers
  details: Details


def load_clip(path: str | os.PathLike, *, dtype=jnp.float32) -> Pretrained:
  """CLIP with vision transformers from files that a user has. Only numbers are read: nothing is unpickled.

  Args:
    path: a `.safetensors` file with the names of OpenAI (open_clip) or of Hugging Face's `CLIPModel`; or a folder of a
      Hugging Face model: `model.safetensors`, perhaps in several files, `config.json`, and `preprocessor_config.json`
      for the pictures' mean and deviation. Without a configuration, which may stand beside a file too, activation,
      norms, mean and deviation are those of OpenAI's models.
    dtype: of products and activations; params are float32.

  Raises:
    FileNotFoundError: if there is no such file, or no safetensors in the folder.
    ValueError: if a file is damaged or not safetensors, or holds other arrays than such a CLIP's, naming one.
  """
  path = os.fspath(path)
  tensors = _hugging_face(read_tensors(files_of(path)))
  folder = path if os.path.isdir(path) else os.path.dirname(path)
  config, pictures = config_of(folder, "config.json"), config_of(folder, "preprocessor_config.json")
  towers, details = _towers(tensors, config, path), _details(config, path)
  params = _params(tensors, towers, path)
  picture, text = clip_towers(towers, dtype=dtype, details=details)
  picture = _normalised(picture, pictures.get("image_mean", MEAN), pictures.get("image_std", DEVIATION))
  return Pretrained(Pair(picture, text), params, towers, details)


def save_clip(folder: str | os.PathLike, params: dict, towers: Towers, details: Details = CLIP):
  """Writes params as a folder that Hugging Face's `CLIPModel.from_pretrained` and `load_clip` read.

  Raises:
    ValueError: if the params are not those of these towers, naming one.
  """
  flat = {
    ".".join(str(k.key) for k in path): np.asarray(x, np.float32) for path, x in jax.tree.leaves_with_path(params)
  }
  tensors = {}
  for theirs, ours, kind, _ in _table(towers):
    if ours not in flat:
      raise ValueError(f"expected params of {towers}, got none named {ours!r}")
    tensors[theirs] = jnp.asarray(_backward(flat.pop(ours), kind))
  if flat:
    raise ValueError(f"expected params of {towers}, got {next(iter(flat))!r} too")
  folder = os.fspath(folder)
  os.makedirs(folder, exist_ok=True)
  config = json.dumps(_configuration(towers, details), indent=2)
  _write(os.path.join(folder, "config.json"), lambda path: _write_text(path, config))
  _write(os.path.join(folder, "model.safetensors"), lambda path: save_file(tensors, path, metadata={"format": "pt"}))


def files_of(path) -> list[str]:
  if os.path.isdir(path):
    there = [os.path.join(path, name) for name in FILES if os.path.isfile(os.path.join(path, name))]
    if not there:
      raise FileNotFoundError(f"expected model.safetensors in {path!r}, got {', '.join(sorted(os.listdir(path)))}")
    if not there[0].endswith(".json"):
      return there[:1]
    with open(there[0], encoding="utf-8") as file:
      names = json.load(file)["weight_map"].values()
    return [os.path.join(path, os.path.basename(name)) for name in sorted(set(names))]
  if not os.path.isfile(path):
    raise FileNotFoundError(f"there is no file or folder {path!r}")
  if not path.endswith(".safetensors"):
    raise ValueError(f"expected a .safetensors file, got {path!r}: other formats may run code when they are read")
  return [path]


def read_tensors(files) -> dict[str, np.ndarray]:
  found = {}
  for path in files:
    try:
      with safe_open(path, framework="flax") as file:
        found |= {name: np.asarray(file.get_tensor(name), np.float32) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
      raise ValueError(f"{path!r} is no whole safetensors file: {error}") from None
  return found


def _hugging_face(tensors) -> dict[str, np.ndarray]:
  """The arrays by Hugging Face's names, whoever's they have."""
  if "visual.conv1.weight" not in tensors:
    return {name: x for name, x in tensors.items() if not name.endswith("position_ids")}
  found = {}
  for name, x in tensors.items():
    if name in ("visual.proj", "text_projection"):
      found["visual_projection.weight" if name == "visual.proj" else "text_projection.weight"] = x.T
      continue
    for theirs, new in OPENAI.items():
      name = new + name.removeprefix(theirs) if name.startswith(theirs) else name
      name = name.replace(theirs, new) if theirs.startswith(".") else name
    if ".attn.in_proj_" in name:
      layer, kind = name.split(".attn.in_proj_")
      parts = zip("qkv", np.split(x, 3), strict=True)
      found |= {f"{layer}.self_attn.{part}_proj.{kind}": each for part, each in parts}
    else:
      found[name] = x
  return found


def _towers(tensors, config, path) -> Towers:
  """The sizes, which the arrays' shapes tell but for the heads."""
  shape = lambda name: _get(tensors, name, path).shape
  table, patch = (
    shape(name)
    for name in (
      "vision_model.embeddings.position_embedding.weight",
      "vision_model.embeddings.patch_embedding.weight",
    )
  )
  vocabulary, text_width = shape("text_model.embeddings.token_embedding.weight")
  layers = lambda tower: len({n.split(".")[3] for n in tensors if n.startswith(f"{tower}_model.encoder.layers.")})
  heads = lambda tower, width: config.get(f"{tower}_config", {}).get("num_attention_heads", max(1, width // HEAD))
  end = config.get("text_config", {}).get("eos_token_id", vocabulary - 1)
  if end not in (2, vocabulary - 1):  # 2 is an old configuration's word for the last one
    raise ValueError(f"expected the end of text to be token {vocabulary - 1}, the last one, got {end} in {path!r}")
  return Towers(
    picture=Size(table[1], layers("vision"), heads("vision", table[1])),
    patch=patch[-1],
    pixels=round((table[0] - 1) ** 0.5) * patch[-1],
    text=Size(text_width, layers("text"), heads("text", text_width)),
    outputs=shape("visual_projection.weight")[0],
    vocabulary=vocabulary,
    length=shape("text_model.embeddings.position_embedding.weight")[0],
  )


def _normalised(network: Network, mean, deviation) -> Network:
  """The network on pictures in [0, 1]."""
  normal = lambda pictures: (pictures - jnp.asarray(mean, pictures.dtype)) / jnp.asarray(deviation, pictures.dtype)

  def apply(params, state, pictures, *, train, key=None):
    return network.apply(params, state, normal(pictures), train=train, key=key)

  return Network(network.init, apply)


def config_of(folder, name) -> dict[str, Any]:
  path = os.path.join(folder, name)
  if not os.path.isfile(path):
    return {}
  try:
    with open(path, encoding="utf-8") as file:
      return json.load(file)
  except ValueError as error:
    raise ValueError(f"{path!r} is no JSON file: {error}") from None


def _details(config, path) -> Details:
  towers = [config.get(f"{tower}_config", {}) for tower in ("vision", "text")]
  found = {
    CLIP._replace(activation=t.get("hidden_act", CLIP.activation), epsilon=t.get("layer_norm_eps", CLIP.epsilon))
    for t in towers
  }
  if len(found) > 1 or {details.activation for details in found} - {"gelu", "quick_gelu"}:
    raise ValueError(f"expected gelu or quick_gelu and the same norms in both towers, got {towers} in {path!r}")
  return found.pop()


def _configuration(towers: Towers, details: Details) -> dict:
  """What Hugging Face's `CLIPConfig` says of towers."""
  tower = lambda size: {
    "hidden_size": size.width,
    "intermediate_size": 4 * size.width,
    "num_hidden_layers": size.layers,
    "num_attention_heads": size.heads,
    "hidden_act": details.activation,
    "layer_norm_eps": details.epsilon,
    "projection_dim": towers.outputs,
  }
  return {
    "architectures": ["CLIPModel"],
    "model_type": "clip",
    "projection_dim": towers.outputs,
    "vision_config": tower(towers.picture) | {"image_size": towers.pixels, "patch_size": towers.patch},
    "text_config": tower(towers.text)
    | {
      "vocab_size": towers.vocabulary,
      "max_position_embeddings": towers.length,
      "bos_token_id": towers.vocabulary - 2,
      "eos_token_id": towers.vocabulary - 1,
    },
  }


def _table(towers: Towers):
  """(their name, our path, how it is changed, heads) of every array."""
  yield from ((theirs, ours, kind, 1) for theirs, (ours, kind) in REST.items())
  for theirs, ours in NORMS.items():
    yield f"{theirs}.weight", f"{ours}.scale", "same", 1
    yield f"{theirs}.bias", f"{ours}.bias", "same", 1
  for tower, ours, size in (("vision", "picture", towers.picture), ("text", "text", towers.text)):
    for i in range(size.layers):
      for name, (to, kind) in LAYER.items():
        theirs, mine = f"{tower}_model.encoder.layers.{i}.{name}", f"{ours}.layer_{i}.{to}"
        weight = "scale" if kind == "norm" else "kernel"
        yield f"{theirs}.weight", f"{mine}.{weight}", "same" if kind == "norm" else kind, size.heads
        yield f"{theirs}.bias", f"{mine}.bias", "heads" if kind == "into_heads" else "same", size.heads


def _forward(x, kind, heads):
  """An array of theirs as one of ours."""
  if kind == "patches":
    return x.transpose(2, 3, 1, 0)
  if kind == "into_heads":
    return x.T.reshape(x.shape[1], heads, -1)
  if kind == "out_of_heads":
    return x.T.reshape(heads, -1, x.shape[0])
  if kind == "heads":
    return x.reshape(heads, -1)
  return x.T if kind == "matrix" else x


def _backward(x, kind):
  if kind == "patches":
    return x.transpose(3, 2, 0, 1)
  if kind == "into_heads":
    return x.reshape(x.shape[0], -1).T
  if kind == "out_of_heads":
    return x.reshape(-1, x.shape[-1]).T
  if kind == "heads":
    return x.reshape(-1)
  return x.T if kind == "matrix" else x


def _params(tensors, towers, path) -> dict:
  tensors, params = dict(tensors), {}
  for theirs, ours, kind, heads in _table(towers):
    x, place = _forward(_get(tensors, theirs, path), kind, heads), params
    *folders, name = ours.split(".")
    for folder in folders:
      place = place.setdefault(folder, {})
    place[name] = jnp.asarray(x)
    del tensors[theirs]
  if tensors:
    raise ValueError(f"expected the arrays of a CLIP of vision transformers, got {min(tensors)!r} too in {path!r}")
  return params


def _get(tensors, name, path):
  if name not in tensors:
    raise ValueError(f"expected the arrays of a CLIP of vision transformers, got none named {name!r} in {path!r}")
  return tensors[name]


def _write(path, write):
  write(f"{path}.part")
  os.replace(f"{path}.part", path)


def _write_text(path, text):
  with open(path, "w", encoding="utf-8") as file:
    file.write(text)
