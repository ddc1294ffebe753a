"""The HTML page of explanations that predict.py writes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from newsreel.evaluation.explanations import Explanation, section
from newsreel.inference.output_files import replacing_output

PAGE_BEGIN = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Contributions of words</title>
<style>
body { font: 16px/1.7 sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em; color: #111; background: #fff }
h2 { font-size: 1em; margin: 2em 0 0 } mark { color: inherit; padding: 0 .15em; border-radius: .2em }
</style>
<p>Words for the label are <mark style="background:rgb(31 119 180/.5)">blue</mark>, words against it
<mark style="background:rgb(255 127 14/.5)">orange</mark>; the strongest word of each document has the deepest colour.
</p>
"""


@contextmanager
def page(path: Path | None) -> Iterator[Callable[[Iterable[Explanation]], None]]:
    """Context that writes an HTML page of explanations with highlighted tokens; None: no page."""
    if path is None:
        yield lambda explanations: None
        return
    with replacing_output(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(PAGE_BEGIN)
        numbers = count(1)

        def write(explanations: Iterable[Explanation]) -> None:
            for explanation in explanations:
                file.write(section(explanation, next(numbers)))

        yield write
        file.write("</html>\n")
