"""Former name of `gpt`, `image_gpt` and `masked_autoencoder`, used by records and older runs.

python -m experiments.generative --preset cpu_mae     # python -m experiments.masked_autoencoder --preset cpu
"""

from typing import Any, Literal, NamedTuple

from experiments import gpt, image_gpt, masked_autoencoder
from experiments.families import representation as rep
from experiments.families.generative_images.config import Masking, Pixels
from experiments.families.language.config import Text
from experiments.families.transformers import Sampling, Transformer

Model = Literal["gpt", "image_gpt", "mae"]
MODELS: dict[Model, Any] = {"gpt": gpt, "image_gpt": image_gpt, "mae": masked_autoencoder}


class Config(NamedTuple):
  """Trains and evaluates a generative model of texts or images, and probes its frozen image features."""

  model: Model = "mae"
  """Model: gpt for texts, image_gpt or mae for images."""
  transformer: Transformer = Transformer()
  text: Text = Text()
  pixels: Pixels = Pixels()
  masking: Masking = Masking()
  sampling: Sampling = Sampling()
  setup: rep.Setup = rep.Setup()


PRESETS: dict[str, Config] = {
  name + (f"_{model}" if (name, model) != ("paper", "mae") else ""): Config(model)._replace(
    **preset._asdict() | {"setup": rep.Setup(**preset.setup._asdict())}
  )
  for model, name in (("mae", "paper"), ("image_gpt", "paper"), ("gpt", "paper"), *((m, "cpu") for m in MODELS))
  for preset in [MODELS[model].PRESETS[name]]
}


def build(config: Config) -> rep.Experiment:
  """The experiment of the selected model."""
  if config.model == "gpt" and config.setup.mix:
    raise ValueError(f"expected one --data for --model gpt, as texts are not mixed, got {' '.join(config.setup.mix)}")
  return MODELS[config.model].build(config)


if __name__ == "__main__":
  rep.main(build, PRESETS)
