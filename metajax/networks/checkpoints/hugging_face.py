"""Parser and writer of Hugging Face's `config.json` of a CLIP, with its defaults."""

from metajax import checks
from metajax.networks.checkpoints.settings import Settings, check_object, check_said, check_towers, only, openai_unless
from metajax.networks.linen.clip_towers import Towers
from metajax.networks.linen.transformer import CLIP, Activation, Details, Size
from metajax.types import Pair, Preprocessing

ACTIVATIONS: dict[str, Activation] = {
  "quick_gelu": "quick_gelu",
  "gelu": "gelu",
  "gelu_new": "tanh_gelu",
  "gelu_pytorch_tanh": "tanh_gelu",
}
_BOTH = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
NAMES = {"width": "hidden_size", "layers": "num_hidden_layers", "length": "max_position_embeddings"}
NAMES |= {"image": "vision_config", "text": "text_config"}
DEFAULTS = {
  "vision_config": _BOTH | {"num_attention_heads": 12},
  "text_config": _BOTH | {"num_attention_heads": 8, "eos_token_id": 49407},
}


def hugging_face(config: dict, measured: Towers, preprocessing: Preprocessing | None, where: str) -> Settings:
  """Reads the settings from a `config.json`.

  Args:
    config: Content of the file.
    measured: Sizes from the arrays' shapes; their heads are ignored.
    preprocessing: Preprocessing of the images, if known.
    where: File name, for messages.

  Raises:
    ValueError: if a setting is invalid, or contradicts the arrays.
  """
  kind = config.get("model_type", "clip")
  if kind != "clip":
    raise ValueError(f"expected model_type 'clip' in {where!r}, got {kind!r}")
  image, text = (_section(config, name, where) for name in DEFAULTS)
  check_towers(image, text, measured, NAMES, where)
  check_said(config, {"projection_dim": measured.num_outputs}, "", where)
  end, last = text["eos_token_id"], measured.vocab_size - 1
  if end not in (2, last):  # old configurations write 2 for the last token
    raise ValueError(f"expected the end of text to be token {last}, the last one, got {end!r} in {where!r}")
  sections = tuple(zip(DEFAULTS, (image, text), strict=True))
  num_heads = Pair(*(_heads(said, name, where) for name, said in sections))
  details = only({_details(said, name, where) for name, said in sections}, where)
  preprocessing, doubt = openai_unless(preprocessing, measured)
  return Settings(num_heads, details, preprocessing, said=tuple(f"{where!r}: {each}" for each in doubt))


def _section(config, name, where) -> dict:
  """Returns a tower's settings: the defaults, its section, and the section under the old key."""
  old = config.get(f"{name}_dict")
  said = check_object(config.get(name, {}), name, where)
  return DEFAULTS[name] | said | ({} if old is None else check_object(old, f"{name}_dict", where))


def _heads(said, section, where) -> int:
  checks.count(f"{section}.num_attention_heads in {where!r}", said["num_attention_heads"])
  return said["num_attention_heads"]


def _details(said, section, where) -> Details:
  checks.choice(f"{section}.hidden_act in {where!r}", said["hidden_act"], tuple(ACTIVATIONS))
  checks.positive(f"{section}.layer_norm_eps in {where!r}", said["layer_norm_eps"])
  return CLIP._replace(activation=ACTIVATIONS[said["hidden_act"]], epsilon=float(said["layer_norm_eps"]))


def configuration(towers: Towers, details: Details) -> dict:
  """Returns the `CLIPConfig` of Hugging Face for the towers.

  Raises:
    ValueError: if the image tower is a residual network.
  """
  if not isinstance(towers.image, Size):
    raise ValueError(f"expected a CLIP with a vision transformer, transformers has no other, got {towers.image}")
  activation = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == details.activation)

  def tower(size):
    return {
      "hidden_size": size.width,
      "intermediate_size": size.mlp_width,
      "num_hidden_layers": size.num_layers,
      "num_attention_heads": size.num_heads,
      "hidden_act": activation,
      "layer_norm_eps": details.epsilon,
      "projection_dim": towers.num_outputs,
    }

  return {
    "architectures": ["CLIPModel"],
    "model_type": "clip",
    "projection_dim": towers.num_outputs,
    "vision_config": tower(towers.image) | {"image_size": towers.pixels, "patch_size": towers.patch},
    "text_config": tower(towers.text)
    | {
      "vocab_size": towers.vocab_size,
      "max_position_embeddings": towers.max_length,
      "bos_token_id": towers.vocab_size - 2,
      "eos_token_id": towers.vocab_size - 1,
    },
  }
