"""Parser of open_clip's `open_clip_config.json` of a SigLIP, with its defaults."""

from metajax import checks
from metajax.networks.checkpoints.open_clip import check_ratio
from metajax.networks.checkpoints.preprocessing import of_open_clip
from metajax.networks.checkpoints.settings import check_object, check_said
from metajax.networks.checkpoints.siglip_names import SiglipText
from metajax.networks.checkpoints.siglip_settings import with_heads
from metajax.networks.checkpoints.vit_names import VisionTransformer
from metajax.networks.checkpoints.vit_settings import SIGLIP_HEADS, Settings, heads_of
from metajax.networks.linen.transformer import SIGLIP, Activation

# Settings that would change the architecture, and the values of a SigLIP.
ONLY = {
  "vision_cfg": {"timm_pool": "map", "timm_proj": "none"},
  "text_cfg": {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
}
# Settings that are read, or do not affect the computation of such a network.
OTHERS = {
  "vision_cfg": "image_size timm_model_name timm_model_pretrained timm_drop timm_drop_path patch_dropout",
  "text_cfg": "context_length vocab_size width heads layers mlp_ratio act_kwargs norm_kwargs eos_id pad_id "
  "output_tokens hf_tokenizer_name tokenizer_mode tokenizer_kwargs",
}
ACTIVATIONS: dict[str, Activation] = {"tanh": "tanh_gelu", "none": "gelu"}


def image_settings(config: dict, where: str, measured: VisionTransformer) -> Settings:
  """Reads the image tower's settings; timm knows the rest by the model's name.

  Args:
    config: Content of the file.
    where: File name, for messages.
    measured: Sizes from the arrays' shapes; its heads are ignored.

  Raises:
    ValueError: if a setting is invalid, contradicts the arrays, or belongs to another architecture.
  """
  said = _section(config, "vision_cfg", where)
  name = said.get("timm_model_name")
  if "siglip" not in str(name):
    raise ValueError(f"expected vision_cfg.timm_model_name of a SigLIP in {where!r}, got {name!r}")
  pixels = said.get("image_size", 224)
  checks.count(f"vision_cfg.image_size in {where!r}", pixels)
  whole = pixels // measured.patch * measured.patch
  check_said({"image_size": whole}, {"image_size": measured.pixels}, "vision_cfg", where)
  preprocessing = of_open_clip(check_object(config.get("preprocess_cfg", {}), "preprocess_cfg", where), pixels, where)
  num_heads = heads_of(measured.size.width, SIGLIP_HEADS, where)
  return Settings(num_heads, measured.details._replace(activation=SIGLIP.activation), preprocessing, pixels)


def text_settings(config: dict, where: str, measured: SiglipText) -> SiglipText:
  """Reads the text tower's settings.

  Args:
    config, where: As for `image_settings`.
    measured: Sizes from the arrays' shapes; its heads are ignored.

  Raises:
    ValueError: as for `image_settings`.
  """
  said, size = _section(config, "text_cfg", where), measured.size
  sizes = {"width": size.width, "layers": size.num_layers, "vocab_size": measured.vocab_size}
  check_said(said, sizes | {"context_length": measured.max_length}, "text_cfg", where)
  check_said(config["model_cfg"], {"embed_dim": measured.num_outputs}, "model_cfg", where)
  check_ratio(said.get("mlp_ratio", 4.0), size, "text_cfg", where)
  num_heads = said.get("heads", 8)
  checks.count(f"text_cfg.heads in {where!r}", num_heads)
  norm = check_object(said.get("norm_kwargs", {}), "text_cfg.norm_kwargs", where)
  act = check_object(said.get("act_kwargs", {}), "text_cfg.act_kwargs", where)
  epsilon, kind = norm.get("eps", 1e-5), act.get("approximate", "tanh")
  checks.positive(f"text_cfg.norm_kwargs.eps in {where!r}", epsilon)
  checks.choice(f"text_cfg.act_kwargs.approximate in {where!r}", kind, tuple(ACTIVATIONS))
  if set(norm) - {"eps"} or set(act) - {"approximate"}:
    raise ValueError(f"expected norm_kwargs of eps and act_kwargs of approximate in {where!r}, got {norm} and {act}")
  details = measured.details._replace(activation=ACTIVATIONS[kind], epsilon=float(epsilon))
  return with_heads(measured, num_heads, where)._replace(details=details)


def _section(config: dict, name: str, where: str) -> dict:
  """Returns a section without null values; raises if it describes another architecture."""
  model = check_object(config.get("model_cfg"), "model_cfg", where)
  said = {key: x for key, x in check_object(model.get(name), name, where).items() if x is not None}
  for key, wanted in ONLY[name].items():
    if said.get(key) != wanted:
      raise ValueError(f"expected {name}.{key} to be {wanted!r} in {where!r}, a SigLIP, got {said.get(key)!r}")
  if others := sorted(set(said) - set(ONLY[name]) - set(OTHERS[name].split())):
    raise ValueError(f"expected known settings of {name} in {where!r}, got {others[0]!r}")
  return said
