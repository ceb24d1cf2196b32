"""A report as one HTML file that needs nothing else: no request leaves it, and it can be read without its script.

The template engine escapes all text; only figures, which `svg.py` has serialised, stand as they are.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache

import jinja2
from markupsafe import Markup

from mpbench import __version__
from mpbench.errors import printable
from mpbench.report.content import Number, Report
from mpbench.report.svg import FIGURE_CSS, svg_text

TEMPLATE, STYLE, SCRIPT = "page.html", "page.css", "page.js"


def page(report: Report) -> str:
    """The page, in UTF-8 once it is written."""
    style, script = FIGURE_CSS + _source(STYLE), _source(SCRIPT)
    return _template().render(
        report=report,
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        policy=(
            f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
            "base-uri 'none'; form-action 'none'"
        ),
    )


@cache
def _template() -> jinja2.Template:
    environment = _environment()
    environment.tests["number"] = lambda cell: isinstance(cell, Number)
    environment.filters["kind"] = lambda block: type(block).__name__.lower()
    environment.filters["svg"] = lambda drawing: Markup(_visible(svg_text(drawing)))
    # A command's line is broken between its words only: after a hyphen, one option would look like two.
    environment.filters["words"] = lambda text: re.findall(r"\s+|\S+", text)
    environment.filters["data"] = lambda jpeg: f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    return environment.get_template(TEMPLATE)


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("mpbench", "report"),
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _source(name: str) -> str:
    """A file beside the template, as it is."""
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0]


def _shown(value: object) -> object:
    """What a template's expression puts into the page, before it is escaped."""
    return value if isinstance(value, Markup) else _visible(str(value))


def _visible(text: str) -> str:
    """Text without invisible characters: they could reverse what stands beside them, or not be UTF-8 at all."""
    return "\n".join(
        line if line.isprintable() else printable("".join(" " if c.isspace() else c for c in line))
        for line in text.split("\n")
    )


def _hash(text: str) -> str:
    """The source expression by which the page's policy allows this text and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
