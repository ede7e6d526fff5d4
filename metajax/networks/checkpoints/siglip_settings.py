"""Settings of a SigLIP's text tower that its arrays do not determine: from a configuration, or guessed."""

from metajax.networks.checkpoints.settings import check_object, check_said
from metajax.networks.checkpoints.siglip_names import SiglipText
from metajax.networks.checkpoints.vit_settings import SIGLIP_HEADS, TYPES, heads_and_details, heads_of

DEFAULTS = TYPES["siglip"][:3]  # heads, activation and epsilon
SECTION = "text_config"


def check_kind(config: dict, where: str):
  """Raises unless a `config.json` is a SigLIP's.

  Raises:
    ValueError: if it is another model's; the message says which ones are read.
  """
  kind = config.get("model_type")
  if kind != "siglip":
    raise ValueError(
      f"expected model_type 'siglip' in {where!r}, a SigLIP or a SigLIP 2 of a fixed image size, got {kind!r}"
    )


def of_transformers(config: dict, where: str, measured: SiglipText) -> SiglipText:
  """Reads the text tower's settings from a `config.json`, with Hugging Face's defaults.

  Args:
    config: Content of the file.
    where: File name, for messages.
    measured: Sizes from the arrays' shapes; its heads are ignored.

  Raises:
    ValueError: if a setting is invalid, or contradicts the arrays.
  """
  said = check_object(config.get(SECTION) or {}, SECTION, where)
  said = {name: value for name, value in said.items() if value is not None}
  width = measured.size.width
  sizes = {"hidden_size": width, "num_hidden_layers": measured.size.num_layers}
  sizes |= {"intermediate_size": measured.size.mlp_width, "vocab_size": measured.vocab_size}
  sizes |= {"max_position_embeddings": measured.max_length, "projection_size": measured.num_outputs}
  check_said({"projection_size": width} | said, sizes, SECTION, where)
  num_heads, details = heads_and_details(said, DEFAULTS, measured.details, f"{SECTION}.", where)
  return with_heads(measured, num_heads, where)._replace(details=details)


def guessed(measured: SiglipText, path: str) -> tuple[SiglipText, str]:
  """Returns the settings of the published models, and a warning.

  Raises:
    ValueError: if the width does not tell the number of heads.
  """
  text = with_heads(measured, heads_of(measured.size.width, SIGLIP_HEADS, path), path)
  said = f"{text.size.num_heads} attention heads, {text.details.activation} and norms' epsilon {text.details.epsilon}"
  return text, f"found no configuration of the text tower next to {path!r}: assuming {said}"


def with_heads(measured: SiglipText, num_heads: int, where: str) -> SiglipText:
  """Sets the number of heads.

  Raises:
    ValueError: if the heads do not divide the width.
  """
  size = measured.size
  if size.width % num_heads:
    raise ValueError(f"expected heads that divide the text's width of {size.width} in {where!r}, got {num_heads}")
  return measured._replace(size=size._replace(num_heads=num_heads))
