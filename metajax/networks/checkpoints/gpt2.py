"""GPT-2's published weights, from a safetensors file or a Hugging Face folder."""

import os
import warnings

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from metajax import checks
from metajax.networks.checkpoints.files import folder_of, read_config, read_tensors
from metajax.networks.checkpoints.settings import CONFIG, HEAD, check_said
from metajax.networks.linen.decoder import decoder
from metajax.networks.linen.transformer import GPT2, Size
from metajax.types import Network, Params

NORMS = {"ln_1": "before_attention", "ln_2": "before_perceptron"}
MATRICES = {"mlp.c_fc": "hidden", "mlp.c_proj": "outputs"}
HEADS = 12  # Hugging Face's default
# Settings that would change the architecture, with Hugging Face's defaults: any other value is refused.
ONLY = {"activation_function": "gelu_new", "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}
ONLY |= {"add_cross_attention": False, "model_type": "gpt2"}


def load_gpt2(path: str | os.PathLike, *, dtype: DTypeLike = jnp.float32) -> tuple[Network, Params]:
  """Loads GPT-2 from local files. Only numbers are read: nothing is unpickled.

  The network has no state: `network.apply(params, {}, tokens, train=False)`, `sample(network, params, {}, ...)`; to
  fine-tune it use `gpt(compose.with_pretrained_params(network, params))`. Tokens must come from GPT-2's tokenizer, e.g.
  HF `tokenizers.Tokenizer.from_file("tokenizer.json").encode(text).ids`.

  Args:
    path: A `.safetensors` file, in 16 or 32 bits, with the names of Hugging Face's `GPT2Model` or `GPT2LMHeadModel`;
      the index (`.safetensors.index.json`) of several; or a folder with one of them. A `config.json` next to it is read
      with Hugging Face's defaults; without one, heads of width 64 and GPT-2's norm epsilon are assumed, with a warning.
    dtype: Type of products and activations; params are float32.

  Returns:
    `(network, params)`.

  Raises:
    FileNotFoundError: if the file does not exist, or the folder has no safetensors.
    ValueError: if a file is damaged or not safetensors, or does not hold exactly GPT-2's arrays; if the configuration
      is invalid or contradicts the arrays; if it is missing and the number of heads cannot be guessed.
  """
  path = os.fspath(checks.local_path("path", path))
  tensors = {name.removeprefix("transformer."): x for name, x in read_tensors(path).items()}
  if "wte.weight" not in tensors or "wpe.weight" not in tensors:
    raise ValueError(f"expected GPT-2's arrays in {path!r}, got none named wte.weight and wpe.weight")
  (vocab_size, width), (max_length, _) = (_two_sizes(tensors, name, path) for name in ("wte.weight", "wpe.weight"))
  size = Size(width, len({name.split(".")[1] for name in tensors if name.startswith("h.")}), 0)
  found = {name: _take(tensors, name, shape, path) for name, shape in _shapes(size, vocab_size, max_length).items()}
  head = tensors.pop("lm_head.weight", None)
  if head is not None and not np.array_equal(head, found["wte.weight"]):
    raise ValueError(f"expected an lm_head.weight equal to wte.weight, as in GPT-2, got another in {path!r}")
  if more := [name for name in tensors if not name.endswith((".attn.bias", ".attn.masked_bias"))]:  # causal masks
    raise ValueError(f"expected only GPT-2's arrays in {path!r}, got {more[0]} too")
  num_heads, epsilon, doubt = _settings(path, size, vocab_size, max_length)
  if doubt:
    warnings.warn(doubt, stacklevel=2)
  params = {
    "tokens": {"embedding": found["wte.weight"]},
    "positions": found["wpe.weight"],
    "norm": _norm(found, "ln_f"),
  }
  params |= {f"layer_{i}": _layer(found, f"h.{i}", num_heads) for i in range(size.num_layers)}
  details = GPT2._replace(epsilon=epsilon)
  return decoder(vocab_size, size._replace(num_heads=num_heads), max_length, dtype=dtype, details=details), params


def _settings(path, size: Size, vocab_size, max_length) -> tuple[int, float, str]:
  """Returns the number of heads, the norms' epsilon, and a warning if they are guessed."""
  where = os.path.join(folder_of(path), CONFIG)
  config, doubt = read_config(folder_of(path), CONFIG), ""
  if config is None:
    if size.width % HEAD:
      told = f"and the number of heads cannot be guessed for a width of {size.width}"
      raise ValueError(f"expected {CONFIG} next to {path!r}, got none, {told}")
    num_heads, epsilon = size.width // HEAD, GPT2.epsilon
    doubt = f"found no {CONFIG} next to {path!r}: assuming one of OpenAI's models, with {num_heads} attention "
    return num_heads, epsilon, doubt + f"heads and norms' epsilon {epsilon}"
  measured = {"n_embd": size.width, "n_layer": size.num_layers, "n_positions": max_length, "vocab_size": vocab_size}
  measured |= {"hidden_size": size.width, "num_hidden_layers": size.num_layers, "max_position_embeddings": max_length}
  check_said(config, measured, "", where)
  for name, value in ONLY.items():
    if config.get(name, value) != value:
      raise ValueError(f"expected GPT-2's {name} {value!r} in {where!r}, got {config[name]!r}")
  num_heads = config.get("n_head", config.get("num_attention_heads", HEADS))
  epsilon = config.get("layer_norm_epsilon", GPT2.epsilon)
  checks.count(f"n_head in {where!r}", num_heads)
  checks.positive(f"layer_norm_epsilon in {where!r}", epsilon)
  if size.width % num_heads:
    raise ValueError(f"expected heads that divide the width of {size.width}, got {num_heads} in {where!r}")
  return num_heads, float(epsilon), doubt


def _shapes(size: Size, vocab_size, max_length) -> dict[str, tuple[int, ...]]:
  """Returns the shape of every array by name."""
  width = size.width
  found = {"wte.weight": (vocab_size, width), "wpe.weight": (max_length, width)}
  each = {"ln_1": (width,), "attn.c_attn": (width, 3 * width), "attn.c_proj": (width, width), "ln_2": (width,)}
  each |= {"mlp.c_fc": (width, 4 * width), "mlp.c_proj": (4 * width, width)}
  of_layers = {f"h.{i}.{name}": shape for i in range(size.num_layers) for name, shape in each.items()}
  for name, shape in (of_layers | {"ln_f": (width,)}).items():
    found |= {f"{name}.weight": shape, f"{name}.bias": shape[-1:]}
  return found


def _norm(found, name):
  return {"scale": found[f"{name}.weight"], "bias": found[f"{name}.bias"]}


def _layer(found, name, num_heads):
  kernels, biases = (np.split(found[f"{name}.attn.c_attn.{kind}"], 3, -1) for kind in ("weight", "bias"))
  into = {
    part: {"kernel": kernel.reshape(len(kernel), num_heads, -1), "bias": bias.reshape(num_heads, -1)}
    for part, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True)
  }
  out = found[f"{name}.attn.c_proj.weight"]
  out = {"kernel": out.reshape(num_heads, -1, out.shape[-1]), "bias": found[f"{name}.attn.c_proj.bias"]}
  layer = {"attention": into | {"out": out}}
  layer |= {ours: _norm(found, f"{name}.{theirs}") for theirs, ours in NORMS.items()}
  for theirs, ours in MATRICES.items():
    layer[ours] = {"kernel": found[f"{name}.{theirs}.weight"], "bias": found[f"{name}.{theirs}.bias"]}
  return layer


def _two_sizes(tensors, name, path):
  if tensors[name].ndim != 2 or min(tensors[name].shape) < 1:
    raise ValueError(f"expected {name} with two nonempty axes in {path!r}, got {list(tensors[name].shape)}")
  return tensors[name].shape


def _take(tensors, name, shape, path) -> np.ndarray:
  if name not in tensors:
    raise ValueError(f"expected GPT-2's arrays in {path!r}, got none named {name}")
  x = tensors[name]
  if x.shape != shape or x.dtype != np.float32:
    raise ValueError(f"expected {name} of shape {list(shape)} in {path!r}, floating, got {list(x.shape)} of {x.dtype}")
  if not np.isfinite(x).all():
    raise ValueError(f"expected {name} to be finite in {path!r}, got NaN or an infinity")
  return tensors.pop(name)
