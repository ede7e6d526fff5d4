"""Small CLIPs in the layouts of those who publish weights: their arrays, files, images and texts."""

import json

import numpy as np
from safetensors.numpy import save_file

from metajax.data import train_tokenizer

END = 29
TOKENS = np.array([[28, 3, END, 0, 0, 0, 0, 0, 0], [28, 5, 6, 11, 2, 7, END, 0, 0]], np.int32)
VISION = {"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2, "image_size": 8, "patch_size": 4}
TEXT = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 30}
TEXT |= {"max_position_embeddings": 9, "eos_token_id": END, "bos_token_id": 28}
HF = {"model_type": "clip", "projection_dim": 10, "vision_config": VISION, "text_config": TEXT}
OPEN_CLIP = {
  "model_cfg": {
    "embed_dim": 10,
    "vision_cfg": {"image_size": 8, "layers": 2, "width": 24, "patch_size": 4, "head_width": 8},
    "text_cfg": {"context_length": 9, "vocab_size": 30, "width": 16, "heads": 2, "layers": 2},
  },
  "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 0.125], "resize_mode": "squash"},
}
PROCESSOR = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 8}, "crop_size": 8}


def arrays(seed=0):
  """Arrays by Hugging Face's names, drawn in the order of their names."""
  shapes = {"visual_projection.weight": (10, 24), "text_projection.weight": (10, 16), "logit_scale": ()}
  shapes |= {"vision_model.embeddings.class_embedding": (24,), "text_model.embeddings.token_embedding.weight": (30, 16)}
  shapes["vision_model.embeddings.position_embedding.weight"] = (5, 24)
  shapes["vision_model.embeddings.patch_embedding.weight"] = (24, 3, 4, 4)
  shapes["text_model.embeddings.position_embedding.weight"] = (9, 16)
  norms = {"vision_model.pre_layrnorm": 24, "vision_model.post_layernorm": 24, "text_model.final_layer_norm": 16}
  for tower, width in (("vision", 24), ("text", 16)):
    for i in range(2):
      layer = f"{tower}_model.encoder.layers.{i}"
      norms |= {f"{layer}.layer_norm1": width, f"{layer}.layer_norm2": width}
      for name, sides in (("mlp.fc1", (4, 1)), ("mlp.fc2", (1, 4)), *((f"self_attn.{n}_proj", (1, 1)) for n in PARTS)):
        shape = tuple(side * width for side in sides)
        shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
  for name, width in norms.items():
    shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
  random = np.random.default_rng(seed)
  return {name: random.normal(0, 0.4, shapes[name]).astype(np.float32) for name in sorted(shapes)}


PARTS = ("q", "k", "v", "out")


def openai_names(tensors):
  """The same arrays by the names of OpenAI and open_clip, with one array for three projections."""
  table = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
    "vision_model.encoder.layers": "visual.transformer.resblocks",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "text_model.encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn": "attn",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
  }
  found = {"visual.proj": tensors["visual_projection.weight"].T.copy()}
  found["text_projection"] = tensors["text_projection.weight"].T.copy()
  for original, x in tensors.items():
    name = original
    for theirs, new in table.items():
      name = name.replace(theirs, new)
    if ".q_proj." in name:
      whole = [tensors[original.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
      found[name.replace(".q_proj.", ".in_proj_")] = np.concatenate(whole)
    elif not any(part in name for part in (".k_proj.", ".v_proj.", "projection.weight")):
      found[name] = x
  return found


def write(folder, tensors, file="model.safetensors", **configs):
  """A folder of weights, and of JSON files named without their ending."""
  folder.mkdir(parents=True, exist_ok=True)
  save_file(tensors, folder / file)
  for name, said in configs.items():
    (folder / f"{name}.json").write_text(said if isinstance(said, str) else json.dumps(said))
  return folder


def of_bytes(folder):
  """Writes a CLIP with a tokenizer of bytes."""
  vocab_size = 258
  table = np.random.default_rng(5).normal(size=(vocab_size, 16)).astype(np.float32)
  tensors = arrays() | {"text_model.embeddings.token_embedding.weight": table}
  config = changed(HF, "text_config", vocab_size=vocab_size, eos_token_id=vocab_size - 1)
  folder = write(folder, tensors, config=config, preprocessor_config=PROCESSOR)
  train_tokenizer([], vocab_size).save(folder / "tokenizer.json")
  return folder


def changed(config, section, **values):
  """A configuration with other values in one of its sections, None to leave one out."""
  said = {key: x for key, x in (config[section] | values).items() if x is not None}
  return config | {section: said}


def images():
  return np.random.default_rng(1).random((2, 8, 8, 3)).astype(np.float32)


def photo(height=30, width=45):
  """An image of uneven sides with edges, slopes and noise, uint8."""
  random = np.random.default_rng(2)
  rows, columns = np.mgrid[:height, :width]
  slopes = np.stack([4 * columns, 7 * rows, 3 * rows + 2 * columns], -1)
  edges = 90 * ((columns // 7 + rows // 5) % 2)[..., None]
  return np.uint8(np.clip(slopes + edges + random.integers(0, 40, (height, width, 3)), 0, 255))
