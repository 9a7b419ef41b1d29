"""How Sphinx builds the pages: `make docs`, without a network."""

import contextlib
import io
import os
import sys
from importlib import metadata
from pathlib import Path

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from acai_jax.commands.parser import parse
from acai_jax.commands.subcommands import COMMANDS

project = "acai_jax"
author = "The acai_jax authors"
version = release = metadata.version("acai_jax")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb"]
exclude_patterns = ["_build"]
highlight_language = "none"  # most blocks are command lines
html_theme = "furo"
html_title = f"acai_jax {version}"
html_math_renderer = "mathml"
html_copy_source = False
default_role = "literal"  # of docstrings, whose names stand in single backticks

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_use_ivar = True  # or the fields of dataclasses are described twice
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"  # the code may have changed where the notebook has not
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 300
nb_merge_streams = True

# for the notebooks: the command of this environment, as a file would show what it prints
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ |= {"NO_COLOR": "1", "TTY_COMPATIBLE": "0", "COLUMNS": "84"}


def write_options(app: Sphinx) -> None:
    """Writes what each subcommand's `--help` prints, for its page."""
    folder = Path(app.srcdir, "_build", "options")
    folder.mkdir(parents=True, exist_ok=True)
    for name, command in COMMANDS.items():
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            parse(command, f"acai-jax {name}", ["--help"])
        (folder / f"{name}.txt").write_text(shown.getvalue())


def skip_aliases(app: Sphinx, what: str, name: str, member: object, skip: bool, _: object) -> bool:
    """Fields of named tuples are described with their class."""
    return skip or (getattr(member, "__doc__", None) or "").startswith("Alias for field number")


def formula(writer: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """A formula as MathML, which browsers show without a script."""
    is_block = isinstance(node, nodes.math_block)
    writer.body.append(latex2mathml.tex2mathml(node.astext(), as_block=is_block))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """What Sphinx lacks: formulas that need no script, and the commands' options."""
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    app.connect("autodoc-skip-member", skip_aliases)
    app.connect("builder-inited", write_options)
