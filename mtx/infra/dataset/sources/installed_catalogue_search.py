"""Find the gettext catalogues of an installed package: a Python package, a Debian package, or a gettext text domain."""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from mtx.errors import SourceError, choices
from mtx.infra.dataset.language_names import likeness
from mtx.infra.dataset.sources.file_discovery import find_file
from mtx.infra.dataset.sources.local_files import SourceFile

CONFIG_KEY = "downloader.package"
DPKG_FOLDER = Path("/var/lib/dpkg/info")  # contains the list of files of each installed Debian package
LOCALE_FOLDER = Path("/usr/share/locale")  # contains the system's catalogues, in one folder for each language
PACKAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
CATALOGUE_PATH = re.compile(r"(?:^|/)([^/]+)/LC_MESSAGES/[^/]+\.[mp]o$")
ENDINGS = (".mo", ".po")  # if a package has both, the compiled file is read, because the program uses it


def find_catalogues(package: str, language: str) -> tuple[SourceFile, ...]:
    """Return the package's catalogues in the given language, sorted by path. Raises SourceError if there are none."""
    if not PACKAGE_NAME.fullmatch(package):
        raise SourceError(f"{CONFIG_KEY} must be the name of an installed package, but is {package!r}")
    found: dict[str, list[Path]] = {}
    for path in _package_files(package):
        if match := CATALOGUE_PATH.search(path.as_posix()):
            found.setdefault(match[1], []).append(path)
    best = max((likeness(name, language) for name in found), default=0)
    name = next((name for name in sorted(found) if best and likeness(name, language) == best), None)
    if name is None:
        present = f"present: {choices(language, found)}" if found else "it has no catalogues in any language"
        raise SourceError(
            f"the package {package} has no gettext catalogue in the language {language!r}; {present}. Set another "
            f"language with downloader.target_language=NAME, or another package with {CONFIG_KEY}=NAME"
        )
    by_stem = {path.with_suffix(""): path for ending in ENDINGS[::-1] for path in found[name] if path.suffix == ending}
    return tuple(find_file(str(by_stem[stem]), CONFIG_KEY) for stem in sorted(by_stem))


def _package_files(package: str) -> Iterable[Path]:
    """Return the paths of the package's existing files. Raises SourceError if the package is not installed."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        pass
    else:
        paths = (Path(str(found.locate_file(path))) for path in found.files or ())
        return [path for path in paths if path.is_file()]
    lists = [DPKG_FOLDER / f"{package}.list", *sorted(DPKG_FOLDER.glob(f"{package}:*.list"))]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in lists if path.is_file()]
    listed = [path for line in dict.fromkeys("\n".join(texts).split("\n")) if (path := Path(line)).is_file()]
    of_domain = sorted(LOCALE_FOLDER.glob(f"*/LC_MESSAGES/{package}.mo"))
    if not texts and not of_domain:
        raise SourceError(
            f"the package {package!r} is installed neither in this Python nor in the system (dpkg), and "
            f"{LOCALE_FOLDER} has no catalogue {package}.mo. Install the package, or set another with {CONFIG_KEY}=NAME"
        )
    return listed if any(CATALOGUE_PATH.search(path.as_posix()) for path in listed) else of_domain
