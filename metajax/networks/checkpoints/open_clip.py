"""Parser of open_clip's `open_clip_config.json`, with its defaults."""

from metajax import checks
from metajax.networks.checkpoints.preprocessing import of_open_clip
from metajax.networks.checkpoints.settings import HEAD, Settings, check_object, check_said, check_towers, only
from metajax.networks.linen.clip_towers import Towers, attention_width
from metajax.networks.linen.transformer import CLIP, Details, Size
from metajax.types import Pair

NAMES = {"width": "width", "layers": "layers", "length": "context_length", "image": "vision_cfg", "text": "text_cfg"}
# Settings that would change the architecture, with open_clip's defaults: any other value is refused.
_PLAIN = {"ls_init_value": None, "block_type": "default", "qk_norm": False, "scale_attn": False}
_PLAIN |= {"scaled_cosine_attn": False, "scale_heads": False, "scale_attn_inner": False, "scale_fc": False}
ONLY = {
  "model_cfg": {"multimodal_cfg": None},
  "vision_cfg": _PLAIN
  | {"timm_model_name": None, "attentional_pool": False, "no_ln_pre": False, "pos_embed_type": "learnable"}
  | {"pool_type": "tok"},
  "text_cfg": _PLAIN
  | {"hf_model_name": None, "embed_cls": False, "no_causal_mask": False, "proj_type": "linear", "proj_bias": False},
}
OTHERS = {  # settings that are read, or do not affect the computation of such a network
  "model_cfg": "embed_dim vision_cfg text_cfg quick_gelu custom_text init_logit_scale init_logit_bias "
  "nonscalar_logit_scale cast_dtype output_dict",
  "vision_cfg": "layers width mlp_ratio head_width patch_size image_size act_kwargs norm_kwargs patch_dropout "
  "output_tokens final_ln_after_pool attn_pooler_queries attn_pooler_heads timm_model_pretrained timm_pool timm_proj "
  "timm_proj_bias timm_drop timm_drop_path",
  "text_cfg": "context_length vocab_size width mlp_ratio heads layers pool_type eos_id pad_id act_kwargs norm_kwargs "
  "output_tokens final_ln_after_pool hf_tokenizer_name tokenizer_mode tokenizer_kwargs hf_model_pretrained "
  "hf_proj_type hf_pooler_type",
}


def open_clip(config: dict, measured: Towers, where: str) -> Settings:
  """Reads the settings from an `open_clip_config.json`.

  Args:
    config: Content of the file.
    measured: Sizes from the arrays' shapes; their heads are ignored.
    where: File name, for messages.

  Raises:
    ValueError: if a setting is invalid, contradicts the arrays, or belongs to another architecture.
  """
  model = _section(config, "model_cfg", where)
  image, text = (_section(model, name, where) for name in ("vision_cfg", "text_cfg"))
  check_towers(image, text, measured, NAMES, where)
  transformers = [("text_cfg", text, measured.text)]
  if isinstance(measured.image, Size):  # a residual network has no MLPs or layer norms
    transformers.insert(0, ("vision_cfg", image, measured.image))
  for name, said, size in transformers:
    check_ratio(said.get("mlp_ratio", 4.0), size, name, where)
  check_said(model, {"embed_dim": measured.num_outputs}, "model_cfg", where)
  _check_pool(text, measured.vocab_size, where)
  quick, vector = model.get("quick_gelu", False), model.get("nonscalar_logit_scale", False)
  checks.flag(f"model_cfg.quick_gelu in {where!r}", quick)
  checks.flag(f"model_cfg.nonscalar_logit_scale in {where!r}", vector)
  head, num_heads, width = image.get("head_width", HEAD), text.get("heads", 8), attention_width(measured.image)
  checks.count(f"vision_cfg.head_width in {where!r}", head, 1, width)
  checks.count(f"text_cfg.heads in {where!r}", num_heads)
  details = only({_details(said, quick, name, where) for name, said, _ in transformers}, where)
  preprocessing = check_object(config.get("preprocess_cfg", {}), "preprocess_cfg", where)
  preprocessing = of_open_clip(preprocessing, measured.pixels, where)
  own = [name for name in ("hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs") if text.get(name)]
  said = tuple(f"text_cfg.{name} in {where!r} is left to the tokenizer: {text[name]!r}" for name in own)
  return Settings(Pair(width // head, num_heads), details, preprocessing, (1,) if vector else (), said)


def _section(config, name, where) -> dict:
  """Returns a section of the configuration without null values; raises if it describes another architecture."""
  said = {key: x for key, x in check_object(config.get(name), name, where).items() if x is not None}
  for key, value in said.items():
    if key in ONLY[name] and value != ONLY[name][key]:
      raise ValueError(f"expected {name}.{key} to be {ONLY[name][key]!r} in {where!r}, a plain CLIP, got {value!r}")
    if key not in ONLY[name] and key not in OTHERS[name].split():
      raise ValueError(f"expected known settings of {name} in {where!r}, got {key!r}")
  return said


def check_ratio(ratio: float, size: Size, section: str, where: str):
  """Checks that a section's `mlp_ratio` is that of the arrays.

  Raises:
    ValueError: if it is not above 0, or the arrays have another number of hidden units.
  """
  checks.positive(f"{section}.mlp_ratio in {where!r}", ratio)
  if int(size.width * ratio) != size.mlp_width:
    given = f"{size.mlp_width} hidden units of width {size.width}"
    raise ValueError(f"expected {section}.mlp_ratio {ratio} in {where!r}, got arrays of {given}")


def _check_pool(text, vocab_size, where):
  pool, end = text.get("pool_type", "argmax"), text.get("eos_id", 2)
  checks.choice(f"text_cfg.pool_type in {where!r}", pool, ("argmax", "eos"))
  if pool == "eos" and end != vocab_size - 1:
    raise ValueError(f"expected text_cfg.eos_id to be {vocab_size - 1} in {where!r}, the last token, got {end!r}")


def _details(said, quick, section, where) -> Details:
  """Reads activation and norms from a section, with its `act_kwargs` and `norm_kwargs`."""
  act = check_object(said.get("act_kwargs", {}), f"{section}.act_kwargs", where)
  norm = check_object(said.get("norm_kwargs", {}), f"{section}.norm_kwargs", where)
  if act not in ({}, {"approximate": "none"}, {"approximate": "tanh"}) or (act and quick):
    raise ValueError(f"expected {section}.act_kwargs of gelu, approximate none or tanh, in {where!r}, got {act!r}")
  epsilon = norm.get("eps", CLIP.epsilon)
  checks.positive(f"{section}.norm_kwargs.eps in {where!r}", epsilon)
  if set(norm) - {"eps"}:
    raise ValueError(f"expected {section}.norm_kwargs with only eps in {where!r}, got {norm!r}")
  gelu = "tanh_gelu" if act == {"approximate": "tanh"} else "gelu"
  return CLIP._replace(activation="quick_gelu" if quick else gelu, epsilon=float(epsilon))
