"""GPT-2's published weights, from a safetensors file or a Hugging Face folder."""

import os

import jax.numpy as jnp
import numpy as np

from metajax.networks.decoder import decoder
from metajax.networks.pretrained import HEAD, config_of, files_of, read_tensors
from metajax.networks.transformer import GPT2, Size
from metajax.types import Network, Params

NORMS = {"ln_1": "before_attention", "ln_2": "before_perceptron"}
MATRICES = {"mlp.c_fc": "hidden", "mlp.c_proj": "outputs"}


def load_gpt2(path: str | os.PathLike, *, dtype=jnp.float32) -> tuple[Network, Params]:
  """GPT-2 from files that a user has: `(network, params)`. Only numbers are read: nothing is unpickled.

  It has no state: `network.apply(params, {}, tokens, train=False)`, `sample(network, params, {}, ...)`; and
  `gpt(compose.started(network, params))` fine-tunes it. Its tokens are those of its own tokenizer, such as HF
  `tokenizers.Tokenizer.from_file("tokenizer.json").encode(text).ids`.

  Args:
    path: a `.safetensors` file with the names of Hugging Face's `GPT2Model` or `GPT2LMHeadModel`; or a folder with
      `model.safetensors`, perhaps in several files, and `config.json`. Without it (it may stand beside a
      file too) heads have 64 values and norms GPT-2's epsilon.
    dtype: of products and activations; params are float32.

  Raises:
    FileNotFoundError: if there is no such file, or no safetensors in the folder.
    ValueError: if a file is damaged or not safetensors, or holds other arrays than a GPT-2's, naming one.
  """
  path = os.fspath(path)
  tensors = {name.removeprefix("transformer."): x for name, x in read_tensors(files_of(path)).items()}
  config = config_of(path if os.path.isdir(path) else os.path.dirname(path), "config.json")
  if config.get("activation_function", "gelu_new") != "gelu_new":
    raise ValueError(f"expected GPT-2's activation gelu_new, got {config['activation_function']!r} in {path!r}")
  take = lambda name, *shape: _take(tensors, name, shape, path)
  if "wte.weight" not in tensors or "wpe.weight" not in tensors:
    raise ValueError(f"expected GPT-2's arrays in {path!r}, got none named wte.weight and wpe.weight")
  (vocabulary, width), (length, _) = tensors["wte.weight"].shape, tensors["wpe.weight"].shape
  heads = config.get("n_head", max(1, width // HEAD))
  if width % heads:
    raise ValueError(f"expected heads that divide the width of {width}, got {heads} in {path!r}")
  layers = len({name.split(".")[1] for name in tensors if name.startswith("h.")})
  norm = lambda name: {"scale": take(f"{name}.weight", width), "bias": take(f"{name}.bias", width)}
  params = {"tokens": {"embedding": take("wte.weight", vocabulary, width)}}
  params |= {"positions": take("wpe.weight", length, width), "norm": norm("ln_f")}
  for i in range(layers):
    all_three = np.split(take(f"h.{i}.attn.c_attn.weight", width, 3 * width), 3, 1)
    biases = np.split(take(f"h.{i}.attn.c_attn.bias", 3 * width), 3)
    into = {
      name: {"kernel": kernel.reshape(width, heads, -1), "bias": bias.reshape(heads, -1)}
      for name, kernel, bias in zip(("query", "key", "value"), all_three, biases, strict=True)
    }
    out = take(f"h.{i}.attn.c_proj.weight", width, width).reshape(heads, -1, width)
    layer = {"attention": into | {"out": {"kernel": out, "bias": take(f"h.{i}.attn.c_proj.bias", width)}}}
    layer |= {ours: norm(f"h.{i}.{theirs}") for theirs, ours in NORMS.items()}
    for (theirs, ours), shape in zip(MATRICES.items(), ((width, 4 * width), (4 * width, width)), strict=True):
      kernel, bias = take(f"h.{i}.{theirs}.weight", *shape), take(f"h.{i}.{theirs}.bias", shape[1])
      layer[ours] = {"kernel": kernel, "bias": bias}
    params[f"layer_{i}"] = layer
  head = tensors.pop("lm_head.weight", None)
  if head is not None and not np.array_equal(head, params["tokens"]["embedding"]):
    raise ValueError(f"expected an lm_head.weight that is wte.weight, as GPT-2's, got another in {path!r}")
  if more := [name for name in tensors if not name.endswith((".attn.bias", ".attn.masked_bias"))]:  # causal masks
    raise ValueError(f"expected GPT-2's arrays alone in {path!r}, got {more[0]} too")
  details = GPT2._replace(epsilon=config.get("layer_norm_epsilon", GPT2.epsilon))
  return decoder(vocabulary, Size(width, layers, heads), length, dtype=dtype, details=details), params


def _take(tensors, name, shape, path) -> np.ndarray:
  if name not in tensors:
    raise ValueError(f"expected GPT-2's arrays in {path!r}, got none named {name}")
  if tensors[name].shape != shape:
    raise ValueError(f"expected {name} of shape {list(shape)} in {path!r}, got {list(tensors[name].shape)}")
  return tensors.pop(name)
