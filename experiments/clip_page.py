"""The page of a CLIP run: pictures with their nearest captions, the similarity matrix, the curves."""

import numpy as np

from experiments import headlines, runs
from experiments.clip_data import Data
from experiments.few_shot_data import slug
from experiments.few_shot_page import curves
from metajax.data import in_order, select_rows
from metajax.evaluate import class_embeddings, features
from metajax.report import contact_sheet_figure, page, similarity_figure

SHOWN, OF_MATRIX = 24, 16  # pictures
CURVES = "While training; the validation is that of the first test, which nothing is chosen by."
HEADINGS = {"zero_shot": "Zero-shot", "text_to_picture_at_10": "Text to picture, R@10"}
HEADINGS |= {"picture_to_text_at_10": "Picture to text, R@10", "zero_shot_of_groups": "Zero-shot, groups"}


def write(run, learner, trained, data: Data, tokenize, setting, records, warnings=()):
  """Draws the run's figures into its folder, and makes its page, `index.html`.

  Args:
    run: the run.
    learner: what was trained.
    trained: the first seed's params and state.
    data: the data.
    tokenize: texts to tokens.
    setting: the flags.
    records: what was measured.
    warnings: what shows that nothing was learned.
  """
  folder = run.folder / "figures"
  page(
    run.folder / "index.html",
    title=f"clip on {slug(setting)}",
    summary=[_tile(r) for r in records if r["learner"].startswith("clip") and r["measure"] in HEADINGS],
    configuration=runs.shown(run.folder),
    records=records,
    figures=[*_pictures(folder, learner, trained, data.tests[0].source, tokenize), *curves(run.folder, folder, CURVES)],
    warnings=warnings,
  )


def _tile(record) -> tuple[str, str, str]:
  beside = f"{record['split']}; chance {record['chance']:.2g} %"
  return HEADINGS[record["measure"]], f"{headlines.value_of(record)} %", beside


def _pictures(folder, learner, trained, source, tokenize):
  firsts = np.unique(source.labels, return_index=True)[1]
  texts = [source.captions[label][0] for label in source.labels[firsts]]
  names = class_embeddings(learner.embed, *trained, tokenize(texts), np.arange(len(texts)))
  spread = np.linspace(0, len(firsts) - 1, min(SHOWN, len(firsts))).astype(int)
  some = select_rows(source, np.sort(firsts[spread]))
  own = np.searchsorted(source.labels[firsts], some.labels)
  found = features(learner.embed, *trained, in_order(some, batch_size=SHOWN))
  cosines = found.inputs @ names.T
  nearest = cosines.argmax(-1)
  said = [f"{'' if k == i else '✗ '}{texts[k]}" for k, i in zip(nearest, own, strict=True)]
  images = np.asarray(some.images[:])
  contact_sheet_figure(images, said, folder / "nearest.png")
  part = slice(0, min(OF_MATRIX, len(own)))
  similarity_figure(images[part], [texts[i] for i in own[part]], cosines[part][:, own[part]], folder / "similarity.png")
  among = f"among {len(texts):,} that were not trained on"
  yield (
    "Nearest captions",
    f"Pictures that were not trained on, and the nearest caption {among}.",
    folder / "nearest.png",
  )
  yield (
    "Similarity",
    "Cosines of some of them with each other's captions; the nearest framed.",
    folder / "similarity.png",
  )
