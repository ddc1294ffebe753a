"""HTML pages from the templates beside this file: self-contained, escaped, and without any request to a network.

The pages hold names and texts of strangers. Everything that a template prints is escaped, in one line and without
control characters; a Content-Security-Policy allows no script and no style but the page's own, by their digests.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from newsreel.reporting.corpus_page import JOINERS, printable

TEMPLATES = "templates"
NUM_SHADES = 10  # of the cells of a heat table


def render(template: str, **content: Any) -> str:
    """A page. content: the variables of the template; texts are escaped, Markup is not."""
    style, script = asset("page.css"), asset("page.js")
    policy = f"default-src 'none'; style-src '{csp_digest(style)}'; script-src '{csp_digest(script)}'"
    policy += "; base-uri 'none'; form-action 'none'"
    page = environment().get_template(template)
    return page.render(style=Markup(style), script=Markup(script), policy=policy, **content)


@cache
def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("newsreel.reporting", TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printed,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"shade": shade, "lines": lines, "count": "{:,}".format, "score": score}
    return made


def printed(value: Any) -> Any:
    """What a template prints of a value: text in one line; nothing for None."""
    if value is None:
        return ""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def asset(name: str) -> str:
    return (files("newsreel.reporting") / TEMPLATES / name).read_text(encoding="utf-8").strip()


def csp_digest(content: str) -> str:
    """As a Content-Security-Policy names an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def shade(fraction: float) -> str:
    """The class of a heat table's cell for a value of 0 … 1."""
    return f"h{min(NUM_SHADES, max(0, round(NUM_SHADES * fraction)))}"


def lines(text: str) -> Markup:
    """A text of several lines, such as a config, escaped and without control characters."""
    shown = "".join(each if each.isprintable() or each in f"\n{JOINERS}" else "\ufffd" for each in text)
    return escape(shown)


def score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
