"""What commands gave before, kept in `golden/` and asked for again by `test_golden.py`, seen from outside alone.

python -m tests.golden flags    # writes golden/flags.json anew, from what --help prints today
python -m tests.golden help     # golden/help/, the text of --help of each command
python -m tests.golden runs     # golden/runs.json, from short runs
python -m tests.golden run_before     # golden/run_before/: the first of them, stopped after its first checkpoint
"""

import contextlib
import io
import json
import os
import platform
import re
import runpy
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import jax
import numpy as np

GOLDEN = Path(__file__).resolve().parent / "golden"
COMMANDS = (
  *("anil", "cavia", "clip", "evaluate", "few_labels", "fine_tune", "generative", "imaml", "maml", "maml_plus_plus"),
  *("matching", "meta_sgd", "one_shot", "pretext", "proto_maml", "prototypical", "r2d2", "relation", "reptile"),
  *("reweighting", "siamese", "simclr", "sinusoid", "supervised", "triplet", "zero_shot"),
)
MORE = ("gpt", "image_gpt", "masked_autoencoder", "pmf", "predict", "save_encoder")  # whose flags are those of others
MORE += ("bert", "probe", "cli.embed", "cli.export", "cli.predict", "cli.runs", "cli.score")
WIDTH = "129"  # of the terminal: the widest at which help is one column
ENTRY = re.compile(r"^  (?=--[a-z]|\[)")
GIVEN = re.compile(r"(--[a-z][a-z0-9-]*)(?: ((?!--).+?))?(?=, --|$)")
DEFAULT = re.compile(r"\(default: ?([^()]*(?:\([^()]*\)[^()]*)*)\)(?: \([a-z ]+\))?$")


def run(command: str, *arguments: str) -> tuple[int, str, str]:
  """`python -m experiments.COMMAND ARGUMENTS` (or `metajax.cli.COMMAND`) here: its status, its output, its errors."""
  out, error, status = io.StringIO(), io.StringIO(), 0
  with contextlib.ExitStack() as stack:
    stack.enter_context(mock.patch.object(sys, "argv", [command, *arguments]))
    stack.enter_context(contextlib.redirect_stdout(out))
    stack.enter_context(contextlib.redirect_stderr(error))
    stack.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)  # another test has imported it
    try:
      module = f"metajax.{command}" if command.startswith("cli.") else f"experiments.{command}"
      runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
      status = stop.code or 0
  return status, out.getvalue(), error.getvalue()


def help_of(command: str, *arguments: str) -> str:
  """What `--help` prints, in one column and without color."""
  with mock.patch.dict("os.environ", {"COLUMNS": WIDTH, "NO_COLOR": "1", "TERM": "dumb"}):
    status, out, error = run(command, *arguments, "--help")
  assert status == 0, error
  return out


def first_help(command: str, like: str) -> str:
  """The help of a command with the defaults of its first preset, on whatever machine; `like` lists the presets."""
  presets = presets_of(like)
  return help_of(command, *(["--preset", presets[0]] if presets else []))


def flags_of(said: str) -> dict[str, str]:
  """`{flag: "its value's kind or choices = its default"}` of what `--help` prints, an alias beside its flag."""
  found = {}
  for names, text in entries(said):
    default = DEFAULT.search(text)
    default = " = " + default[1] if default else " = required" if "(required)" in text else ""
    given = GIVEN.findall(names) or [("positional", names)]
    kind = next((kind for _, kind in given if kind), "switch")
    found |= {name: kind + default for name, _ in given if not name.startswith("--no-")}
  return found


def entries(said):
  """(the flags, what is said of them) of each entry."""
  entry = None
  for line in [*map(str.rstrip, said.splitlines()), ""]:
    if ENTRY.match(line) or not line:
      if entry:
        yield entry[0], " ".join(entry[1])
      entry = None
    if ENTRY.match(line):
      names, _, text = line.strip().partition("  ")
      entry = [names, [text.strip()]]
    elif entry and re.match("^  [^ ]", line):  # names that are too long for one line go on there
      entry[0] += line.strip()
    elif entry:
      entry[1].append(line.strip())


def presets_of(said: str) -> list[str]:
  """The names of a command's presets, the paper's first."""
  found = re.search(r"--preset {([\w,]+)}", said)
  return found[1].split(",") if found else []


def flags_today() -> dict[str, dict[str, dict[str, str]]]:
  """`{command: {preset: {flag: kind and default}}}`, of the presets after the first what differs from it."""
  found = {}
  for command in COMMANDS:
    said = help_of(command)
    first, *others = presets_of(said) or [""]
    own = flags_of(said)
    found[command] = {first: own}
    for preset in others:
      there = flags_of(help_of(command, "--budget", preset))
      assert there.keys() == own.keys(), (command, preset)
      found[command][preset] = {name: said for name, said in there.items() if own[name] != said}
  return found


OF_TASKS = [
  "--preset",
  "paper",
  "--data",
  "pictures.npz",
  "--size",
  "16",
  "--test",
  "3w1s",
  "--test-queries",
  "2",
  "--test-tasks",
  "6",
]
FEW_SHOT = [*OF_TASKS, "--filters", "4", "--ways", "3", "--queries", "2", "--tasks", "2", "--devices", "1"]
FEW_SHOT += ["--steps", "12", "--checkpoint-every", "3", "--validate-every", "3", "--validation-tasks", "6"]
PRETRAINING = ["--batch-size", "8", "--steps", "4", "--warmup", "1", "--optimizer", "adamw", "--rate", "1e-3"]
PRETRAINING += ["--curve-every", "2", "--devices", "2"]
RUNS = {
  "prototypical": ("prototypical", *FEW_SHOT),
  "prototypical, two seeds": ("prototypical", *FEW_SHOT, "--seeds", "2", "--seeds-in-parallel", "2"),
  "simclr": ("simclr", *OF_TASKS, *PRETRAINING, "--encoder-name", "conv4", "--width", "0.0625", "--hidden", "8",
             "--outputs", "4", "--recipe", "handwriting"),
  "gpt": ("generative", "--preset", "paper", "--model", "gpt", "--data", "book.txt", *PRETRAINING, "--width", "8",
          "--layers", "1", "--heads", "2", "--vocabulary", "300", "--length", "12", "--prompts", "Verse 7"),
}  # fmt: skip
STOPPED = "prototypical"
TIMES = {"step", "time", "seconds", "steps_per_second", "data_wait_fraction", "rows_per_second", "goodput"}
COMPARED = ("learner", "measure", "policy", "value", "interval")


def write_data(folder: Path):
  """What the runs are of: `pictures.npz`, 30 classes of 10 images, and `book.txt`."""
  random = np.random.RandomState(0)  # whose numbers no version of NumPy changes
  classes, noise = random.randint(0, 160, (30, 1, 16, 16)), random.randint(0, 96, (30, 10, 16, 16))
  images = (classes + noise).astype(np.uint8).reshape(300, 16, 16)
  np.savez(folder / "pictures.npz", images=images, labels=np.repeat(np.arange(30), 10))
  (folder / "book.txt").write_text("".join(f"Verse {i}: and so it went on.\n" for i in range(90)))


def machine() -> dict[str, str]:
  """What the bits of a run's numbers depend on beside its code."""
  about = Path("/proc/cpuinfo")
  models = re.findall(r"model name\s*: (.*)", about.read_text()) if about.exists() else []
  processor = models[0] if models else platform.processor() or platform.machine()
  found = {"processor": processor, "cores": str(os.cpu_count())}
  found |= {"platform": jax.default_backend(), "xla_flags": os.environ.get("XLA_FLAGS", "")}
  return found | {name: version(name) for name in ("jax", "jaxlib", "numpy", "flax", "optax")}


def measured(folder: Path) -> dict:
  """What a run has found: its records, and the last row of each file of metrics but for the times."""
  records = json.loads((folder / "records.json").read_text("utf-8"))
  rows = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("metrics.jsonl"))}
  last = {name: json.loads(path.read_text().splitlines()[-1]) for name, path in rows.items()}
  return {
    "records": [{name: record[name] for name in COMPARED if name in record} for record in records],
    "metrics": {name: {of: x for of, x in row.items() if of not in TIMES} for name, row in last.items()},
  }


def finished(name: str, *more: str) -> dict:
  """What a run finds, which is made in the folder "run" beside its data."""
  command, *arguments = RUNS[name]
  status, _, error = run(command, *arguments, "--folder", "run", *more)
  assert status == 0, error
  return measured(Path("run"))


@contextlib.contextmanager
def beside_data():
  """Another folder to work in, with the data of the runs."""
  with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
    write_data(Path(folder))
    yield


def runs_today() -> dict:
  found = {}
  for name in RUNS:
    with beside_data():
      found[name] = finished(name)
  return {"machine": machine(), "runs": found}


def write_run_before():
  """Stops a run after its first checkpoint, and keeps of it what is needed to go on."""
  with beside_data():
    threading.Thread(target=_stop_when_there_is, args=(Path("run/checkpoints/3"),), daemon=True).start()
    status, _, error = run(RUNS[STOPPED][0], *RUNS[STOPPED][1:], "--folder", "run", "--keep", "1")
    assert status == 0 and "stopped by SIGTERM" in error and not Path("run/checkpoints/12").exists(), error
    _without_what_names_the_machine(Path("run"))
    readme = (GOLDEN / "run_before" / "README.md").read_text()
    shutil.rmtree(GOLDEN / "run_before")
    shutil.copytree("run", GOLDEN / "run_before")
  (GOLDEN / "run_before" / "README.md").write_text(readme)


def _without_what_names_the_machine(folder):
  """Takes out of a run what its README says, and what of a checkpoint is not needed to read it."""
  for path in [*folder.rglob("*.metajax"), *folder.rglob("_sharding")]:
    path.unlink()
  for path in list(folder.rglob("ocdbt.process_0")):
    shutil.rmtree(path)
  for path in folder.rglob("commit_success.txt"):
    path.write_text("Checkpoint commit was successful\n")
  about = json.loads((folder / "run.json").read_text())
  about |= {"machine": "a machine", "sessions": [one | {"machine": "a machine"} for one in about["sessions"]]}
  (folder / "run.json").write_text(json.dumps(about, indent=1) + "\n")


def _stop_when_there_is(path):
  while not path.exists():
    time.sleep(0.001)
  os.kill(os.getpid(), signal.SIGTERM)


def write(name: str, found: dict):
  (GOLDEN / name).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read(name: str) -> dict:
  return json.loads((GOLDEN / name).read_text("utf-8"))


def write_help():
  """The text of `--help` of each command, a file each."""
  shutil.rmtree(GOLDEN / "help", ignore_errors=True)
  (GOLDEN / "help").mkdir()
  for command in (*COMMANDS, *MORE):
    (GOLDEN / "help" / f"{command}.txt").write_text(first_help(command, help_of(command)), "utf-8")


WRITERS = {
  "help": write_help,
  "flags": lambda: write("flags.json", flags_today()),
  "runs": lambda: write("runs.json", runs_today()),
  "run_before": write_run_before,
}

if __name__ == "__main__":
  sys.path.insert(0, str(Path(__file__).resolve().parent))
  import conftest  # noqa: F401  (the devices and XLA's flags of the tests)

  for name in sys.argv[1:] or WRITERS:
    WRITERS[name]()
