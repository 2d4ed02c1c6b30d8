"""Safe texts of the page: control characters shown and credentials hidden; most texts of a page occur several times."""

from functools import cache, lru_cache

from mtx.redaction_and_escaping import environment_secrets, redacted_text, visible_text

MAX_TEXTS = 2**16  # texts that are remembered


@lru_cache(maxsize=MAX_TEXTS)
def safe_text(text: str) -> str:
    """Return a text with visible control characters and without credentials, those of the environment included."""
    return redacted_text(visible_text(text), _secrets())


def forget_texts() -> None:
    """Forget the texts and the credentials of the environment, which may change between two pages."""
    safe_text.cache_clear()
    _secrets.cache_clear()


@cache
def _secrets() -> tuple[str, ...]:
    return environment_secrets()
