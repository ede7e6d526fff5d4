"""Generative pre-training: a GPT of text, an image GPT, a masked autoencoder; what they foretell, what they are worth.

python -m experiments.generative --budget cpu_mae
  # glyphs: error of hidden patches 0.24 (mean patch 0.36), probe 33.4, random encoder 12.1: 18 min on 1 core
python -m experiments.generative --budget cpu_image_gpt
  # glyphs: 0.62 bits a pixel (independent pixels 1.32), probe 32.1, random encoder 6.7: 15 min on 1 core
python -m experiments.generative --budget cpu_gpt
  # captions of flickr8k: 4.48 bits a token (bigram model 5.06): 9 min on 1 core
python -m experiments.generative --budget cpu_gpt --data glyphs --vocabulary 384 --length 48 --steps 600 \
  --curve-every 50 --dropout 0.3
  # letters' Unicode names: 1.94 bits a token (bigram model 2.98): 9 min on 1 core
python -m experiments.generative --budget cpu_gpt --data shakespeare.txt

The papers' own, for accelerators: paper (ViT-B/16), paper_image_gpt (iGPT-S, whose palette has 512 colours) and
paper_gpt (GPT-2's smallest, trained as GPT-3's smallest).
"""

from typing import Literal

from experiments import command_line, generative_pictures, generative_text, pretraining
from experiments.pretraining import Setting
from experiments.runs import RUN, RunFlags
from metajax.data.text.corpus import is_text_file
from metajax.learners.sampling import check_sampling

Model = Literal["gpt", "image_gpt", "mae"]

_LETTERS = Setting(batch_size=64, optimizer="adamw", decay=0.05, curve_every=250)
BUDGETS = {
  "paper": {"setting": Setting(size=224, batch_size=4096, steps=250000, optimizer="adamw", rate=1.5e-4, decay=0.05,
                               warmup=12500, curve_every=10000),
            "model": "mae", "width": 768, "layers": 12, "heads": 12, "patch": 16, "decoder_width": 512,
            "decoder_layers": 8, "crops": True},
  "paper_image_gpt": {"setting": Setting(size=32, batch_size=128, steps=1000000, optimizer="adamw", rate=6e-3,
                                         decay=0.0, warmup=5000, curve_every=20000),
                      "model": "image_gpt", "width": 512, "layers": 24, "heads": 8, "colours": 512, "pixels": 32},
  "paper_gpt": {"setting": Setting(batch_size=512, steps=300000, optimizer="adamw", rate=3e-4, decay=0.1, warmup=2000,
                                   curve_every=5000),
                "model": "gpt", "width": 768, "layers": 12, "heads": 12, "vocabulary": 50257, "length": 1024},
  "cpu_gpt": {"setting": _LETTERS._replace(data="flickr8k", steps=1500, rate=8e-3, decay=0.1, warmup=100),
              "model": "gpt", "vocabulary": 2048, "length": 32, "dropout": 0.1},
  "cpu_image_gpt": {"setting": _LETTERS._replace(batch_size=32, steps=900, rate=1.6e-2, decay=0.01, warmup=100),
                    "model": "image_gpt", "colours": 8, "width": 64, "layers": 6, "heads": 2},
  "cpu_mae": {"setting": _LETTERS._replace(batch_size=128, steps=3000, rate=3e-3, warmup=150, curve_every=500),
              "model": "mae"},
}  # fmt: skip


def main(
  model: Model = "mae",
  width: int = 128,
  layers: int = 4,
  heads: int = 4,
  dropout: float = 0.0,
  bfloat16: bool | None = None,
  colours: int = 16,
  pixels: int = 16,
  patch: int = 4,
  masked: float = 0.75,
  normalise: bool = True,
  decoder_width: int = 64,
  decoder_layers: int = 2,
  crops: bool = False,
  vocabulary: int = 4096,
  length: int = 64,
  temperature: float = 1.0,
  top_k: int | None = None,
  top_p: float | None = 0.95,
  prompts: tuple[str, ...] = (),
  setting: Setting = BUDGETS["paper"]["setting"],
  run: RunFlags = RUN,
):
  """Pretraining by generating: what comes next, or what is hidden, and what frozen features are worth.

  Args:
    model: gpt, of text: --data glyphs (the letters' Unicode names), a TFDS set with captions or FILE.txt; with AdamW,
      without probes and few-shot tasks, and the step that validation texts choose is tested. image_gpt or mae, of
      pictures.
    width: values of a token.
    layers: of the transformer.
    heads: of attention.
    dropout: while training.
    bfloat16: compute in bfloat16; by default where there is an accelerator.
    colours: of image_gpt, at most: the palette is learned.
    pixels: of image_gpt: pictures are brought to pixels x pixels.
    patch: of mae: side of a patch.
    masked: of mae: the share of patches that are hidden.
    normalise: of mae: compare patches of mean 0 and variance 1.
    decoder_width: of mae: values of a token of the decoder.
    decoder_layers: of mae: layers of the decoder.
    crops: of mae: train on random crops.
    vocabulary: of gpt: tokens of the byte-pair encoding, which is trained on the texts.
    length: of gpt: tokens of a row; a longer text goes on in the next one.
    temperature: of samples on the page.
    top_k: of samples: only the so many likeliest tokens.
    top_p: of samples: only the likeliest tokens of this probability together.
    prompts: of gpt: texts to go on with, of long ones the end, half of --length; by default beginnings of the test
    setting: flags that every pretraining experiment has.
    run: flags that every experiment has.
  """
  flags = locals()
  check_sampling(temperature, top_k, top_p)
  if model == "gpt":
    return generative_text.run(main, flags)
  pretraining.run(method, flags, checked=True)


def method(**flags) -> pretraining.Method:
  """The Method of a command's flags, of pictures.

  Raises:
    ValueError: of text.
  """
  if is_text_file(flags["setting"].data):
    raise ValueError(f"expected --model gpt of a text file, got {flags['model']} of {flags['setting'].data!r}")
  if flags["model"] == "gpt":
    raise ValueError("expected a model of pictures, image_gpt or mae, got gpt, which is of text")
  return {"image_gpt": generative_pictures.image_gpt, "mae": generative_pictures.mae}[flags["model"]](flags)


if __name__ == "__main__":
  command_line.run(main, BUDGETS)
