"""GPT of texts: trained, compared with a bigram model on texts that were not trained on, and let write."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import few_shot, headlines, pretraining, records, runs
from experiments.encoders import dtype_of, size_of
from experiments.few_shot_data import slug
from experiments.few_shot_page import curves
from experiments.records import NAMED
from experiments.terminal import printable
from metajax import make_mesh
from metajax.data import Tokenizer, load_texts, load_tokenizer, token_batches, train_tokenizer
from metajax.data.text.corpus import is_text_file, rows_of_texts
from metajax.data.text.tokenizer import clean
from metajax.evaluate import bigram, log_probabilities_of, over_seeds, rate
from metajax.learners import gpt, log_probabilities, sample
from metajax.mesh import devices_for, first_host, own_share, shard_batch
from metajax.networks import decoder
from metajax.report import page
from metajax.train import adamw
from metajax.types import Network

PARTS = ("train", "validation", "test")
CURVE_ROWS = 1000  # that the curve is of
WRITTEN, GIVEN = 12, 3  # samples on the page, and words of the texts that are gone on with
BIGRAM = "bigram, smoothed"
TOGETHER = 8  # rows of one text
CURVES = (
  "While training; the validation is minus the bits of a token on validation texts, and the step is chosen by it."
)


def run(main, flags: dict):
  """Trains a GPT, and writes what it found.

  Raises:
    ValueError, OSError: as `metajax.data.load_texts`.
  """
  s = flags["setting"]
  this = runs.begin(f"gpt-{slug(s)}", main, flags)
  _check(flags)
  tokenizer, texts, rows, about = _corpus(s, flags["vocabulary"], flags["length"])
  if s.batch_size > len(rows["train"]):
    raise ValueError(f"expected a --batch-size of at most all {len(rows['train'])} rows, got {s.batch_size}")
  network = network_of(flags, tokenizer.vocabulary)
  learner = gpt(network)
  batches = [token_batches(rows["train"], batch_size=s.batch_size, seed=seed) for seed in few_shot.seeds_of(s)]
  example = next(iter(own_share(batches[0])))
  jax.eval_shape(lambda key: learner.init(key, example), jax.random.key(0))
  if this.resumed:
    runs.check_same(this)
    _check_tokenizer(this.folder / "tokenizer.json", tokenizer, s)
  device_count = devices_for(s.batch_size, s.devices)
  with jax.set_mesh(make_mesh(device_count, fsdp=this.flags.fsdp)):
    shard_batch(example)
    this = runs.write_configuration(this, device_count)
    if first_host():
      tokenizer.save(this.folder / "tokenizer.json")
    foretold = functools.partial(log_probabilities_of, log_probabilities(network))
    some = rows["validation"][:CURVE_ROWS]
    validate = lambda params, state: -_bits(foretold(params, state, some)).sum() / _counts(some).sum()
    found = pretraining.train_seeds(this, learner, optimizer(s), batches, s, validate, best=True)
    trained, seconds, waiting = found
    print(f"\ntrained for {seconds:.0f} s on {device_count} device(s), {100 * waiting:.1f}% of it waiting for data")
    how = {"train_seconds": round(seconds), "steps": s.steps, "devices": device_count, "seed": s.seed}
    found = [_bits(foretold(params, state, rows["test"])) for params, state in trained]
    counted = bigram(*(rows[part] for part in PARTS), tokenizer.vocabulary)
    counted = _bits(counted.log_probabilities)
    measured = _measured(found, counted, rows["test"], about, texts["test"], tokenizer, s, how)
    records.write(this.folder / "records.json", measured)
    _page(this, network, trained[0], tokenizer, texts["test"], flags, measured)
  print(f"the run's page: {this.folder / 'index.html'}")
  if this.flags.record:
    records.publish(f"gpt-{slug(s)}", measured, this.folder / "figures" / "learning_curves.png")


def _corpus(s, vocabulary: int, length: int):
  """The tokenizer, `{part: texts}`, `{part: rows of tokens}`, and what each row of the test is about."""
  groups = {part: load_texts(s.data, part, download=s.download) for part in PARTS}
  texts = {part: [text for group in some for text in group] for part, some in groups.items()}
  in_parts = is_text_file(s.data)  # of one text, so that a row has neither start nor end of its own
  tokenizer = train_tokenizer(texts["train"], vocabulary, verbatim=in_parts)
  found = {part: rows_of_texts(tokenizer, some, length, start=not in_parts) for part, some in texts.items()}
  rows = {part: some for part, (some, _) in found.items()}
  about = _independent(groups["test"], found["test"][1])
  if len(np.unique(about)) < 2:
    given = f"{len(rows['test'])} of {length} tokens"
    raise ValueError(f"expected a corpus of which at least 2 rows are tested on, got {given}")
  _describe(s, texts, rows, tokenizer)
  return tokenizer, texts, rows, about


def _of(tokenizer, s) -> str:
  """What is foretold, in the title of the records' table."""
  things = "rows of a text, several together" if is_text_file(s.data) else "pictures' captions or names"
  return f"{things}, in tokens of a vocabulary of {tokenizer.vocabulary:,}"


def _check_tokenizer(path, tokenizer: Tokenizer, s):
  """Refuses to go on with a run whose texts are others now: its tokens would mean something else."""
  if path.exists() and not tokenizer.same_as(load_tokenizer(path)):
    raise ValueError(
      f"expected the texts that the run in {str(path.parent)!r} was trained on, got others in {s.data!r}"
    )


def network_of(flags: dict, vocabulary: int) -> Network:
  """The decoder of a command's flags."""
  how = {"dropout": flags["dropout"], "dtype": dtype_of(flags["bfloat16"])}
  return decoder(vocabulary, size_of(flags), flags["length"], **how)


def optimizer(s) -> optax.GradientTransformation:
  """AdamW as GPT has it: gradients of a norm of at most 1, and a shorter memory of their squares."""
  return optax.chain(optax.clip_by_global_norm(1.0), adamw(pretraining.rate_of(s), decay=s.decay, b2=0.95))


def _independent(groups, of_text: np.ndarray) -> np.ndarray:
  """For each row the number of what intervals are over: the picture that it is of; of one text, some rows together."""
  if len(groups) == 1:
    return np.arange(len(of_text)) // max(1, min(TOGETHER, len(of_text) // 2))
  return np.repeat(np.arange(len(groups)), [len(group) for group in groups])[of_text]


def _measured(found, counted, rows, about, texts, tokenizer, s, how) -> list[dict]:
  """The records of bits of a token and of a letter, and what is printed of them."""
  together = lambda values: np.bincount(about, values)[np.unique(about)]
  tokens, found, counted = together(_counts(rows)), [together(bits) for bits in found], together(counted)
  count = sum(len(text if tokenizer.verbatim else clean(text)) + 1 for text in texts)  # an end of text is one too
  letters = tokens * count / tokens.sum()
  nothing = np.log2(tokenizer.vocabulary) * tokens.sum()  # bits of tokens that are all as likely
  measured, what = [], {"data": slug(s), "split": "test", "of": _of(tokenizer, s), "tested": len(tokens)}
  for name, all_bits in (("gpt", found), (BIGRAM, [counted])):
    for measure, counts in (("bits_per_token", tokens), ("bits_per_letter", letters)):
      score = over_seeds([rate(bits, counts) for bits in all_bits])
      said = what | {
        "measure": measure,
        "value": round(score.mean, 4),
        "interval": round(score.interval, 4),
        "chance": round(float(nothing / counts.sum()), 4),
        "published": None,
      }
      own = how if name == "gpt" else {"train_seconds": 0, "steps": 0, "seed": s.seed}
      measured.append(records.record(learner=name, **said, **own, seeds=s.seeds))
      print(f"  {name:<{len(BIGRAM)}}  {score:.3f} {NAMED[measure]}")
  gain = rate(counted - np.mean(found, 0), tokens)
  where = "ahead of" if gain.mean >= 0 else "behind"
  print(f"gpt is {where} the bigram model by {abs(gain.mean):.3f} ± {gain.interval:.3f} bits per token, text by text")
  return measured


def _page(this, network, trained, tokenizer, texts, flags, measured):
  s, folder = flags["setting"], this.folder / "figures"
  tiles = [
    (NAMED[r["measure"]], headlines.value_of(r), headlines.beside(r, f"bigram {b['value']:.3f}"))
    for r, b in zip(measured[:2], measured[2:], strict=True)
  ]
  write = functools.partial(_written, network, trained, tokenizer, flags)
  notes = [("Samples", [text for _, text in write([""] * WRITTEN)])]
  prompts = flags["prompts"] or [" ".join(text.split()[:GIVEN]) for text in _spread(texts)]
  notes += [("Gone on with", [f"{given} → {text}" for given, text in write(prompts)])]
  for heading, lines in notes:
    print(f"\n{heading.lower()}", *map(printable, lines), sep="\n  ")
  page(
    this.folder / "index.html",
    title=f"gpt on {slug(s)}",
    summary=tiles,
    configuration=runs.shown(this.folder),
    records=measured,
    figures=curves(this.folder, folder, CURVES),
    notes=notes,
    warnings=headlines.warn(this.folder, measured),
  )


def _written(network, trained, tokenizer, flags, prompts) -> list[tuple[str, str]]:
  """Each prompt, of a long one the end, half of what the network can read, and what is written after it."""
  how = {name: flags[name] for name in ("temperature", "top_k", "top_p")} | {"end": tokenizer.end}
  begin = tokenizer.ids(["\n"])[0] if tokenizer.verbatim else [tokenizer.start]
  written = []
  for i, prompt in enumerate(tokenizer.ids(prompts)):
    given = [*begin, *prompt][-max(1, flags["length"] // 2) :]
    steps = flags["length"] - len(given)
    drawn = sample(network, *trained, jax.random.key(i), jnp.array([given]), steps, **how)[0].tolist()
    both = given, [token for token in drawn[len(given) :] if token >= 0]
    written.append(tuple(tokenizer.text(tokens).strip().replace("\n", " ⏎ ") for tokens in both))
  return written


def _spread(texts):
  """Some texts, from all over; of one long text, some of its lines."""
  lines = [line for text in texts for line in text.splitlines() if len(line.split()) > GIVEN] or list(texts)
  return [lines[i] for i in np.linspace(0, len(lines) - 1, min(WRITTEN, len(lines))).astype(int)]


def _bits(log_probabilities) -> np.ndarray:
  return -np.asarray(log_probabilities, np.float64).sum(-1) / np.log(2)


def _counts(rows) -> np.ndarray:
  return (rows[:, 1:] >= 0).sum(-1)


def _describe(s, texts, rows, tokenizer):
  """Prints what there is."""
  longer = sum(len(some) for some in rows.values()) - sum(len(some) for some in texts.values())
  train, validation, test = (f"{_counts(rows[part]).sum():,}" for part in PARTS)
  print(
    f"{printable(s.data)}: tokens, of a vocabulary of {tokenizer.vocabulary:,}: {train} to train with, {validation} to "
    f"choose by, {test} to test on" + f"; texts longer than a row go on in {longer:,} more rows" * (longer > 0)
  )


def _check(flags):
  s = flags["setting"]
  pretraining.check(s)
  if s.optimizer != "adamw":
    raise ValueError(f"expected --optimizer adamw of a gpt, got {s.optimizer!r}")
  network_of(flags, flags["vocabulary"])  # refuses what does not fit
