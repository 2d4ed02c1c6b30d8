"""A console that prints texts literally. Import this module only if there is a terminal, because it imports rich."""

import re
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text
from typing_extensions import override

from mtx.output_encoding import replace_missing_characters
from mtx.redaction_and_escaping import redacted_text, visible_text

ISOLATED = re.compile("[^\u2068\u2069]+")


class PlainConsole(Console):
    """A rich console that prints texts literally: without markup such as `[red]` and emoji codes such as `:smile:`.

    Control characters are printed as visible escapes, also in tables, titles and `Text` objects. Only the Unicode
    characters that isolate the text direction are kept. Credentials in plain strings are replaced by `***`.
    """

    def __init__(self, *, stderr: bool = False, **options: Any) -> None:
        if options.get("file") is None:
            replace_missing_characters()
        super().__init__(stderr=stderr, markup=False, emoji=False, **options)

    @override
    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible_text(redacted_text(text)), **options)

    @override
    def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            visible = ISOLATED.sub(lambda found: visible_text(found[0]), segment.text)
            yield segment if segment.control or visible == segment.text else Segment(visible, segment.style)
