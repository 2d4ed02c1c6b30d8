"""Run the sweeps of the tutorial, and take pictures of sections of their pages with headless Chromium."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
WIDTH, HEIGHT = 1000, 3000  # pixels of the window; what is empty below a section is cut off
MARGIN = 12
# Picture → the sweep's number on the page, and the sections that are shown.
PICTURES = {
    "samplers": (0, ["answer", "ranking"]),
    "sweep_page": (1, ["answer", "ranking"]),
    "learning": (1, ["learning"]),
}


def tutorial_sweeps() -> list[str]:
    """Return the commands of docs/tutorial.md that are sweeps and that do not resume one."""
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in re.findall(r"^mtx -m .*$", text, re.MULTILINE) if "sweep.resume" not in line]


def run(command: str, number: int, folder: Path) -> Path:
    """Run a sweep, or resume it, and return its page."""
    sweep = folder / f"sweep{number}"
    arguments = [*shlex.split(command)[1:], f"hydra.sweep.dir={sweep}"]
    if sweep.exists():
        arguments.append(f"sweep.resume={sweep}")
    environment = {**os.environ, "MTX_STORE": str(folder / "store")}
    subprocess.run([ROOT / ".venv/bin/mtx", *arguments], cwd=folder, env=environment, check=True)
    return sweep / "report.html"


def photograph(page: Path, sections: list[str], picture: Path) -> None:
    """Write a picture of some sections of a page, with at most 128 colours and without empty margins."""
    html = page.read_text(encoding="utf-8")
    shown = ",".join(f'[aria-labelledby="{section}"]' for section in sections)
    style = f"<style>section:not({shown}), nav, h1, footer {{ display: none !important }}</style></head>"
    with tempfile.TemporaryDirectory() as temporary:
        copy, shot = Path(temporary) / "page.html", Path(temporary) / "shot.png"
        copy.write_text(html.replace("</head>", style, 1), encoding="utf-8")
        browser = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("there is no Chromium")
        window = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
        command = [browser, *window, f"--screenshot={shot}", copy.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        image = Image.open(shot).convert("RGB")
    box = ImageChops.difference(image, Image.new("RGB", image.size, image.getpixel((0, 0)))).getbbox()
    assert box, f"{page} shows nothing of {sections}"
    left, top, right, bottom = box
    image = image.crop((max(left - MARGIN, 0), max(top - MARGIN, 0), right + MARGIN, bottom + MARGIN))
    image.quantize(128, dither=Image.Dither.NONE).save(picture, optimize=True)
    print(f"{picture.relative_to(ROOT)}: {picture.stat().st_size / 1000:.0f} kB")


def main(folder: Path) -> None:
    pages = [run(command, number, folder) for number, command in enumerate(tutorial_sweeps())]
    IMAGES.mkdir(exist_ok=True)
    for name, (number, sections) in PICTURES.items():
        photograph(pages[number], sections, IMAGES / f"{name}.png")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
