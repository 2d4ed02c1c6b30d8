"""Scripts of characters, and blocks of characters that are alike, by Python's Unicode database."""

import unicodedata

NUM_CODES = 0x110000
END = 0x32000  # no letters beyond, except private ones
# Ideographs and Hangul syllables: letters without case, each block of one script, which NFKC keeps
UNIFORM_BLOCKS = (range(0x3400, 0x4DC0), range(0x4E00, 0xA000), range(0xAC00, 0xD7A4), range(0x20000, 0x2F800))
UNSPACED_SCRIPTS = frozenset({"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "BOPOMOFO"})
PREFIXES = frozenset({"FULLWIDTH", "HALFWIDTH", "MATHEMATICAL", "MODIFIER", "COMBINING", "SMALL", "SUPERSCRIPT"})


def script_of(character: str) -> str:
    """Return the script of a letter or mark: the first word of its Unicode name without prefixes such as HALFWIDTH."""
    words = unicodedata.name(character, "").split()
    if len(words) > 1 and words[0] in PREFIXES:
        words = words[1:]
    return words[0].partition("-")[0] if words else ""
