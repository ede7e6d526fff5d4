"""The field's own words: no name of an earlier version is left outside the tables of former flags and records."""

import ast
import re
from pathlib import Path

from test_types import sources

ROOT = Path(__file__).resolve().parent.parent
TABLES = {  # files that hold former names on purpose, beside the flags' annotations
  *("metajax/experiment/renamed.py", "metajax/checkpoint/arrays.py", "metajax/report/metrics.py"),
  *("tests/test_words.py", "tests/golden.py", "tests/test_golden.py", "tests/test_configuration.py"),
  *("tests/test_checkpoint.py",),
}
FORMER = re.compile(r"(?:\balso|\bFormer)\([^()]*\)")
JSON_KEYS = re.compile(r'"(?:labelled|seeds_at_once|waiting_for_data|gradient_norm)"')  # which records keep

# Names and spellings of earlier versions that are no words otherwise.
NAMES = (
  "[Pp]ictures?|deal_pictures|read_pictures?|pictures_of|BrokenPictures?|bits_per_letter|each_row|of_batch|turn_hue"
)
NAMES += (
  "|(?:inner|head|tune|low|high)_rate|rate_rule|scaled_rate|learn_palette|patches_of|quantized|halvings|under_both"
)
NAMES += "|(?:tasks|seeds)_at_once|vocabulary_cross_entropy|vocabulary_log_probabilities|log_probabilities(?:_of)?"
NAMES += "|pixel_log_probabilities|squared_error_of_scores|learned_scale|zeros_for_all_ways|repeated_for_all_ways"
NAMES += "|keep_below|skip_broken|within_groups|over_seeds|class_embeddings|asked_figure|sureness|curve_every|own_share"
NAMES += "|(?:from_)?first_host|meet_hosts|whole_parameters|bring_home|meet_each_other"
SPELLINGS = "olour|OLOUR|[Cc]entre|CENTRE|[Gg]rey|GREY|ormalis|ummaris|inimis|nitialis|ectoris|ecognis|aterialis"
SPELLINGS += "|abelled|eighbour|olaris"
OLD = re.compile(rf"(?<![\w-])(?:{NAMES}|\w*(?:{SPELLINGS})\w*)(?!\w)")

# English words that were names: no facade gives them, no public function of the library takes them.
EXPORTS = re.compile(
  '"(unchanged|then|modulated|concatenated|beside|prepared|started|augmented|locked|examples|in_order|features|rate'
  '|summarise|Probed|Counted|answers|sometimes|grey|noise|blur|flip|coloured|join|preempted|LOST|advise|Policy|View)"'
)
PARAMETERS = re.compile(
  "rate|decay|warmup|at_once|how|vectors|halvings|vocabulary|view|policy|drawn|masked|colours|pictures?|broken|groups"
  "|skip_broken|within_groups|validate_every|curve|crops|distort|recipe|augment|centre|normalis|heads|one_example"
)
ALLOWED = {("masked_reconstruction", "masked")}  # a mask, not a share


def texts():
  """(path from the root, text) of the code and of the pages that are written by hand."""
  for path in [*ROOT.glob("*.md"), *(ROOT / name for name in sources()), *ROOT.glob("tests/*.py")]:
    if (name := str(path.relative_to(ROOT))) not in TABLES:
      yield name, JSON_KEYS.sub("", FORMER.sub("", path.read_text("utf-8")))


def test_no_old_name_is_left():
  found = {name: sorted(set(OLD.findall(text))) for name, text in texts()}
  assert {name: words for name, words in found.items() if words} == {}


def test_an_old_name_would_be_found_and_no_other():
  for word in ("pictures", "seeds_at_once", "colour", "centred", "grey", "normalisation", "unlabelled", "tune_rate"):
    assert OLD.search(f"a {word} there"), word
  for word in ("images", "color", "center", "gray", "at_once", "mean_over_seeds", "labeled", "learning_rate"):
    assert not OLD.search(f"a {word} there"), word
  assert EXPORTS.search('  "then",') and not EXPORTS.search('  "strengthen",')


def taken(text):
  """(name, parameter or field) of the public functions and NamedTuples of a file."""
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
      given = node.args
      yield from ((node.name, one.arg) for one in (*given.posonlyargs, *given.args, *given.kwonlyargs))
    if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
      yield from ((node.name, one.target.id) for one in node.body if isinstance(one, ast.AnnAssign))


def test_no_facade_and_no_parameter_has_an_old_name():
  facades = {path: EXPORTS.findall(text) for path, text in sources().items() if path.endswith("__init__.py")}
  assert {path: names for path, names in facades.items() if names} == {}
  library = {path: text for path, text in sources().items() if path.startswith("metajax")}
  found = {(path, *both) for path, text in library.items() for both in taken(text) if PARAMETERS.fullmatch(both[1])}
  assert {one for one in found if one[1:] not in ALLOWED} == set()
