"""The gettext catalogues of an installed package: one of Python, one of Debian and its kin, or a text domain."""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from mtx.errors import SourceError, choices
from mtx.infra.dataset.sources.files import SourceFile
from mtx.infra.dataset.sources.find import find_file
from mtx.infra.dataset.sources.languages import likeness

KEY = "downloader.package"
DPKG = Path("/var/lib/dpkg/info")  # has the list of files of each installed package
LOCALE = Path("/usr/share/locale")  # where the system's catalogues are, by language
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
CATALOGUE = re.compile(r"(?:^|/)([^/]+)/LC_MESSAGES/[^/]+\.[mp]o$")
ENDINGS = (".mo", ".po")  # the compiled one, where both are there: it is what the program shows


def find_catalogues(package: str, language: str) -> tuple[SourceFile, ...]:
    """Find the catalogues of a package in a language, by path. Raises SourceError where there are none."""
    if not NAME.fullmatch(package):
        raise SourceError(f"{KEY} is the name of an installed package, but is {package!r}")
    found: dict[str, list[Path]] = {}
    for path in _files(package):
        if match := CATALOGUE.search(path.as_posix()):
            found.setdefault(match[1], []).append(path)
    best = max((likeness(name, language) for name in found), default=0)
    name = next((name for name in sorted(found) if best and likeness(name, language) == best), None)
    if name is None:
        present = f"those it has are in: {choices(language, found)}" if found else "it has none in any language"
        raise SourceError(
            f"the package {package} has no gettext catalogue in the language {language!r}; {present}. Choose with "
            f"downloader.target_language=NAME, or name another package with {KEY}=NAME"
        )
    by_stem = {path.with_suffix(""): path for ending in ENDINGS[::-1] for path in found[name] if path.suffix == ending}
    return tuple(find_file(str(by_stem[stem]), KEY) for stem in sorted(by_stem))


def _files(package: str) -> Iterable[Path]:
    """Return the paths of a package's files that are there. Raises SourceError where it is not installed."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        pass
    else:
        paths = (Path(str(found.locate_file(path))) for path in found.files or ())
        return [path for path in paths if path.is_file()]
    lists = [DPKG / f"{package}.list", *sorted(DPKG.glob(f"{package}:*.list"))]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in lists if path.is_file()]
    listed = [path for line in dict.fromkeys("\n".join(texts).split("\n")) if (path := Path(line)).is_file()]
    of_domain = sorted(LOCALE.glob(f"*/LC_MESSAGES/{package}.mo"))
    if not texts and not of_domain:
        raise SourceError(
            f"there is no package {package!r}, neither of this Python nor of the system (dpkg), and no catalogue of "
            f"that name in {LOCALE}. Install it, or name another with {KEY}=NAME"
        )
    return listed if any(CATALOGUE.search(path.as_posix()) for path in listed) else of_domain
