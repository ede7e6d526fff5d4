"""The model card of an export: its `README.md`."""

from collections.abc import Mapping, Sequence
from typing import Any

from metajax.export.model import described_inputs

FACTS = ("data", "split", "seed", "step", "command", "machine", "precision")
COLUMNS = ("measure", "learner", "policy", "data", "split", "ways", "shots", "ways_up_to", "value", "interval")
SHOWN = 20  # records


def model_card(config: Mapping[str, Any]) -> str:
  """Returns Markdown with the use, inputs, data, figures and command of a model.

  Args:
    config: Contents of `config.json`. Of `about` these entries are shown if given: `data`, `split`, `seed`, `step`,
      `command`, `machine` and `precision`, the `records` of the run, and its `flags`.
  """
  about, images = config["about"], config["images"]
  ways = f"exactly {config['ways']} or fewer" if config["ways"] else "any number of"
  lines = [
    f"# {_text(config['name'])}",
    "",
    f"A few-shot classifier with {config['parameters']:,} parameters, exported by metajax "
    f"{config['versions']['metajax']} for {', '.join(config['platforms'])}. It classifies "
    f"{_inputs(config)} into {ways} classes, each given by one or more labeled examples.",
    "",
    "```python",
    "import numpy as np",
    "import model  # the file in this folder; it needs only jax and numpy",
    "",
    'example = np.load("example.npz")',
    'names = example["support_labels"].argmax(1).tolist()',
    'classifier = model.load(".").fit(example["support_0"], names)',
    'probabilities = classifier(example["inputs_0"])  # [n, classes]',
    "```",
    "",
    "With metajax installed, `metajax.load` reads image files too, and `metajax predict` labels folders of them.",
    "",
  ]
  if images:
    size, mode = images["size"], "L" if images["channels"] == 1 else "RGB"
    lines += [
      "An image file becomes an input as follows. Run this in the folder of the export, or put the folder on "
      "`sys.path` first. Pillow reads the files; `metajax.load` also turns photos upright and puts transparency on "
      "white.",
      "",
      "```python",
      "from PIL import Image",
      "",
      f'photo = Image.open("photo.jpg").convert("{mode}").resize(({size}, {size}), Image.Resampling.BOX)',
      f"inputs = np.asarray(photo).reshape(1, {size}, {size}, {images['channels']})  # uint8, from 0 to 255",
      "probabilities = classifier(inputs)",
      "```",
      "",
    ]
    ground = {"dark": " Characters are light on dark.", "light": " Images lie on white."}.get(images["background"], "")
    lines += ["## Images", "", f"{images['size']} x {images['size']} pixels, {_colors(images)}.{ground}", ""]
  if config["joint"]:
    lines += ["The images of one call are classified jointly: labels depend on the other images of the call.", ""]
  facts = [(name, about[name]) for name in FACTS if about.get(name)]
  if facts:
    lines += ["## Training", "", *(f"- {name}: {_code(value)}" for name, value in facts), ""]
  if about.get("records"):
    lines += ["## Figures", "", *_table(about["records"]), ""]
  if about.get("flags"):
    lines += ["## Flags", "", *(f"- {name}: {_code(value)}" for name, value in about["flags"].items()), ""]
  return "\n".join(lines)


def _inputs(config) -> str:
  if config["images"]:
    return "images"
  return f"arrays ({described_inputs(config)})"


def _colors(images) -> str:
  return "gray" if images["channels"] == 1 else "RGB"


def _table(records: Sequence[Mapping[str, Any]]) -> list[str]:
  columns = [name for name in COLUMNS if any(record.get(name) not in (None, "") for record in records)]
  rows = [
    [_text(record.get(name, "")) if record.get(name) is not None else "" for name in columns] for record in records
  ]
  more = [f"\nand {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
  return [_row(columns), _row(["---"] * len(columns)), *map(_row, rows[:SHOWN]), *more]


def _row(cells: Sequence[str]) -> str:
  return "| " + " | ".join(cells) + " |"


def _text(value: Any) -> str:
  """A text without the characters that Markdown or a table would take for its own."""
  return "".join(f"\\{c}" if c in "\\|`*_<>[]#" else " " if not c.isprintable() else c for c in str(value))


def _code(value: Any) -> str:
  return f"`{' '.join(str(value).replace('`', chr(39)).split())}`"
