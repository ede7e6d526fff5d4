"""Formulas as MathML, which browsers draw by themselves: no script and no font of another host."""

from docutils import nodes
from docutils.utils.math import latex2mathml


def inline(writer, node: nodes.math):
  """Writes a formula within a line."""
  writer.body.append(mathml(node.astext()))
  raise nodes.SkipNode


def block(writer, node: nodes.math_block):
  """Writes a formula on lines of its own."""
  writer.body.append(f'<div class="math-block">{mathml(node.astext(), as_block=True)}</div>\n')
  raise nodes.SkipNode


def mathml(latex: str, as_block: bool = False) -> str:
  """The MathML of a formula in LaTeX."""
  return latex2mathml.tex2mathml(latex.strip(), as_block=as_block)


def setup(app):
  """Makes `mathml` a renderer of formulas."""
  app.add_html_math_renderer("mathml", (inline, None), (block, None))
  return {"parallel_read_safe": True, "parallel_write_safe": True}
