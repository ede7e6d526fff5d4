"""A small SigLIP: both towers by the names of transformers and of open_clip, and its text tower in NumPy."""

import json

import numpy as np
import published_encoders as published
from tokenizers import Tokenizer, models, pre_tokenizers

WIDTH, LAYERS, HEADS, HIDDEN, VOCABULARY, LENGTH = 12, 2, 3, 20, 30, 7
TEXT = {"hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
TEXT |= {"vocab_size": VOCABULARY, "max_position_embeddings": LENGTH, "projection_size": published.WIDTH}
VISION = {name: published.SIGLIP[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
VISION |= {"image_size": published.PIXELS, "patch_size": published.PATCH}
CONFIG = {"model_type": "siglip", "text_config": TEXT, "vision_config": VISION}
TOKENS = np.random.default_rng(2).integers(0, VOCABULARY, (3, LENGTH))
PARTS = {"self_attn.q_proj": (WIDTH, WIDTH), "self_attn.k_proj": (WIDTH, WIDTH), "self_attn.v_proj": (WIDTH, WIDTH)}
PARTS |= {"self_attn.out_proj": (WIDTH, WIDTH), "mlp.fc1": (HIDDEN, WIDTH), "mlp.fc2": (WIDTH, HIDDEN)}
OPEN_CLIP = {
  "embeddings.token_embedding": "token_embedding",
  "embeddings.position_embedding.weight": "positional_embedding",
  "encoder.layers": "transformer.resblocks",
  "final_layer_norm": "ln_final",
  "layer_norm": "ln_",
  "self_attn.out_proj": "attn.out_proj",
  "mlp.fc1": "mlp.c_fc",
  "mlp.fc2": "mlp.c_proj",
  "head.": "text_projection.",
}
TIMM = {
  "embeddings.patch_embedding": "patch_embed.proj",
  "embeddings.position_embedding.weight": "pos_embed",
  "encoder.layers": "blocks",
  "layer_norm": "norm",
  "self_attn.out_proj": "attn.proj",
  "post_layernorm": "norm",
  "head.probe": "attn_pool.latent",
  "head.attention.out_proj": "attn_pool.proj",
  "head.layernorm": "attn_pool.norm",
  "head.mlp": "attn_pool.mlp",
}


def arrays():
  """Arrays by transformers' names."""
  shapes = {"embeddings.token_embedding.weight": (VOCABULARY, WIDTH)}
  shapes["embeddings.position_embedding.weight"] = (LENGTH, WIDTH)
  dense, norms = {"head": (published.WIDTH, WIDTH)}, ["final_layer_norm"]
  for i in range(LAYERS):
    dense |= {f"encoder.layers.{i}.{name}": shape for name, shape in PARTS.items()}
    norms += [f"encoder.layers.{i}.layer_norm{j}" for j in (1, 2)]
  dense |= dict.fromkeys(norms, (WIDTH,))
  for name, shape in dense.items():
    shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
  text = published.drawn({f"text_model.{name}": shape for name, shape in shapes.items()}, seed=3)
  return published.siglip() | text


def open_clip_names(tensors):
  """The same arrays by open_clip's names, with one array for three projections."""
  found = {}
  for original, x in tensors.items():
    tower, _, name = original.partition(".")
    table = {"text_model": OPEN_CLIP, "vision_model": TIMM}.get(tower)
    if table is None:
      found[original] = x.reshape(())
      continue
    for old, new in table.items():
      name = name.replace(old, new)
    prefix = "text" if tower == "text_model" else "visual.trunk"
    if ".q_proj." in name:
      parts = [tensors[original.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
      joined = "attn.in_proj_" if prefix == "text" else "attn.qkv."
      found[f"{prefix}.{name.replace('self_attn.q_proj.', joined)}"] = np.concatenate(parts)
    elif name.startswith("head.attention.in_proj_"):
      kind = name.removeprefix("head.attention.in_proj_")
      query, *others = np.split(x, 3)
      found |= {f"{prefix}.attn_pool.q.{kind}": query, f"{prefix}.attn_pool.kv.{kind}": np.concatenate(others)}
    elif not any(part in name for part in (".k_proj.", ".v_proj.")):
      found[f"{prefix}.{name}"] = x[None] if name == "pos_embed" else x
  return found


def text_features(tensors, tokens):
  """The features of the text tower (arXiv:2303.15343), one text, position and head at a time, in NumPy."""
  t = {name.removeprefix("text_model."): x.astype(np.float64) for name, x in tensors.items()}
  of = lambda name, x: x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

  def normal(name, x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * t[f"{name}.weight"] + t[f"{name}.bias"]

  def attend(layer, x):
    query, key, value = (of(f"{layer}.self_attn.{part}_proj", x) for part in "qkv")
    out, side = np.zeros_like(x), WIDTH // HEADS
    for head in range(HEADS):
      own = slice(head * side, (head + 1) * side)
      for i in range(len(x)):
        weights = np.exp(key[:, own] @ query[i, own] / np.sqrt(side))
        out[i, own] = weights / weights.sum() @ value[:, own]
    return of(f"{layer}.self_attn.out_proj", out)

  features = []
  for row in tokens:
    x = t["embeddings.token_embedding.weight"][row] + t["embeddings.position_embedding.weight"][: len(row)]
    for i in range(LAYERS):
      layer = f"encoder.layers.{i}"
      x = x + attend(layer, normal(f"{layer}.layer_norm1", x))
      y = of(f"{layer}.mlp.fc1", normal(f"{layer}.layer_norm2", x))
      x = x + of(f"{layer}.mlp.fc2", y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))) / 2)
    features.append(of("head", normal("final_layer_norm", x[-1])))
  return np.array(features)


def write_tokenizer(folder, words, **said):
  """A tokenizer of whole words, as transformers writes it."""
  numbers = {word: i for i, word in enumerate(("<pad>", "</s>", "<unk>", *words))}
  tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
  tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  tokenizer.enable_padding(length=99)
  tokenizer.save(str(folder / "tokenizer.json"))
  config = {"eos_token": "</s>", "pad_token": {"content": "<pad>"}, "tokenizer_class": "SiglipTokenizer"} | said
  (folder / "tokenizer_config.json").write_text(json.dumps(config))
