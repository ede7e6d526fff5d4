"""The field's own words: no name of an earlier version is left outside the tables of former flags and records."""

import ast
import re
from pathlib import Path

from test_types import sources

ROOT = Path(__file__).resolve().parent.parent
TABLES = ("metajax/experiment/renamed.py", "metajax/checkpoint/arrays.py", "metajax/report/metrics.py")
TABLES += ("tests/test_words.py", "tests/golden.py", "tests/test_configuration.py", "tests/test_checkpoint.py")
FORMER = re.compile(r"(?:\balso|\bFormer)\([^()]*\)")  # where a flag has its former names
JSON_KEYS = re.compile(r'"(?:labelled|seeds_at_once|waiting_for_data|gradient_norm)"')  # which records keep

OLD = [
  r"[Pp]ictures?",
  r"deal_pictures",
  r"read_pictures?",
  r"pictures_of",
  r"BrokenPictures?",
  r"bits_per_letter",
  r"inner_rate",
  r"head_rate",
  r"tune_rate",
  r"low_rate",
  r"high_rate",
  r"rate_rule",
  r"scaled_rate",
  r"each_row",
  r"of_batch",
  r"turn_hue",
  r"learn_palette",
  r"patches_of",
  r"tasks_at_once",
  r"seeds_at_once",
  r"vocabulary_cross_entropy",
  r"vocabulary_log_probabilities",
  r"pixel_log_probabilities",
  r"log_probabilities(?:_of)?",
  r"halvings",
  r"squared_error_of_scores",
  r"learned_scale",
  r"zeros_for_all_ways",
  r"repeated_for_all_ways",
  r"keep_below",
  r"skip_broken",
  r"within_groups",
  r"over_seeds",
  r"class_embeddings",
  r"asked_figure",
  r"sureness",
  r"curve_every",
  r"own_share",
  r"first_host",
  r"from_first_host",
  r"meet_hosts",
  r"whole_parameters",
  r"bring_home",
  r"meet_each_other",
  r"under_both",
  r"quantized",
  r"\w*(?:olour|[Cc]entre|[Gg]rey|GREY|CENTRE|OLOUR)\w*",
  r"\w*(?:ormalis|ummaris|inimis|nitialis|ectoris|ecognis|aterialis|abelled|eighbour|olaris)\w*",
]  # names and spellings of earlier versions, each a regular expression
PATTERN = re.compile(rf"(?<![\w-])(?:{'|'.join(OLD)})(?!\w)")

# Names that are English words too: not given by any facade, nor taken by any public function or flag.
EXPORTS = [
  "unchanged",
  "then",
  "modulated",
  "concatenated",
  "beside",
  "prepared",
  "started",
  "augmented",
  "locked",
  "examples",
  "in_order",
  "features",
  "rate",
  "summarise",
  "Probed",
  "Counted",
  "answers",
  "sometimes",
  "grey",
  "noise",
  "blur",
  "flip",
  "coloured",
  "share",
  "join",
  "preempted",
  "LOST",
  "advise",
  "Policy",
  "View",
  "views",
]
PARAMETERS = [
  "rate",
  "decay",
  "warmup",
  "at_once",
  "how",
  "tile",
  "vectors",
  "strength",
  "halvings",
  "vocabulary",
  "view",
  "policy",
  "drawn",
  "masked",
  "colours",
  "picture",
  "pictures",
  "broken",
  "skip_broken",
  "groups",
  "within_groups",
  "validate_every",
  "curve",
  "curve_every",
  "crops",
  "distort",
  "recipe",
  "augment",
  "centre",
  "normalise",
  "normalisation",
  "layers",
  "heads",
  "outputs",
  "tasks",
]
ALLOWED = {("masked_reconstruction", "masked"), ("bigram", "vocabulary"), ("squared_error", "outputs")}


def texts():
  """(path from the root, text) of the code and of what is written by hand."""
  for path in [*ROOT.glob("*.md"), *(ROOT / name for name in sources()), *ROOT.glob("tests/*.py")]:
    name = str(path.relative_to(ROOT))
    if name not in TABLES:
      yield name, JSON_KEYS.sub("", FORMER.sub("", path.read_text("utf-8")))


def test_no_old_name_is_left():
  found = {name: sorted(set(PATTERN.findall(text))) for name, text in texts()}
  assert {name: words for name, words in found.items() if words} == {}


def test_an_old_name_would_be_found():
  for word in ("pictures", "seeds_at_once", "colour", "centred", "grey", "normalisation", "unlabelled"):
    assert PATTERN.search(f"a {word} there"), word
  for word in ("images", "color", "center", "gray", "at_once", "mean_over_seeds", "labeled"):
    assert not PATTERN.search(f"a {word} there"), word


def public_functions(text):
  """(name, parameters) of the functions, and (name, fields) of the NamedTuples, that are public."""
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
      arguments = node.args
      yield node.name, [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
      yield node.name, [one.target.id for one in node.body if isinstance(one, ast.AnnAssign)]


def test_no_facade_and_no_parameter_has_an_old_name():
  found = []
  for path, text in sources().items():
    if path.endswith("__init__.py"):
      found += [(path, name) for name in EXPORTS if f'"{name}"' in text]
    for name, parameters in public_functions(text) if path.startswith("metajax") else ():
      found += [(path, name, one) for one in parameters if one in PARAMETERS and (name, one) not in ALLOWED]
  assert found == []
