"""The page in a real browser: nothing runs, nothing is fetched, nothing overflows on a phone, light and dark."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from jobs_on_disk import profile, trained, write_job
from PIL import Image

from mtx.page.render import write_page
from mtx.records.job_records import read_results
from mtx.records.sweep_record import PlannedJob, SweepRecord

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
PHONE = 390  # pixels

SEEN = """<!DOCTYPE html><body>
<iframe id=run src="{page}"></iframe>
<script>
onload = () => {{
  const texts = [...run.contentDocument.querySelectorAll("bdi.text")];
  const found = texts.map(text => [text.textContent, run.contentWindow.getComputedStyle(text).direction, text.lang]);
  document.body.dataset.found = encodeURIComponent(JSON.stringify(found));
}}
</script>
"""

WITHOUT_SCRIPTS = """<!DOCTYPE html><body>
<iframe id=run sandbox="allow-same-origin" src="{page}"></iframe>
<script>
onload = () => {{
  document.body.dataset.found = encodeURIComponent(run.contentDocument.documentElement.outerHTML);
}}
</script>
"""

FRAME = """<!DOCTYPE html><body>
<iframe id=phone style="width: {width}px; height: 800px; border: 0" src="{page}"></iframe>
<script>
onload = () => {{
  const page = phone.contentDocument.documentElement;
  document.body.dataset.width = page.scrollWidth;
  document.body.dataset.height = page.scrollHeight;
}}
</script>
"""

SORTED_TWICE = """<!DOCTYPE html><body>
<iframe id=run src="{page}"></iframe>
<script>
let loads = 0;
run.onload = () => {{
  loads += 1;
  const page = run.contentDocument, buttons = [...page.querySelectorAll("table[data-sort=ranking1] button.sort")];
  if (loads === 1) {{ buttons.forEach(button => button.click()); run.contentWindow.location.reload(); return; }}
  const names = [...page.querySelectorAll("table[data-sort=ranking1] tbody tr")].map(row => row.cells[2].textContent);
  const found = [names, page.querySelectorAll("th[aria-sort=ascending]").length, page.querySelectorAll(".copy").length];
  document.body.dataset.found = encodeURIComponent(JSON.stringify(found));
}};
</script>
"""

WIDTHS = """<!DOCTYPE html><body>
{frames}
<script>
onload = () => {{
  const found = [...document.querySelectorAll("iframe")].map(frame => {{
    const page = frame.contentDocument, boxes = [...page.querySelectorAll("main > section > *")];
    const edges = boxes.map(box => box.getBoundingClientRect()).filter(box => box.width > 0);
    const used = Math.max(...edges.map(box => box.right)) - Math.min(...edges.map(box => box.left));
    return [frame.className, page.documentElement.scrollWidth, used / frame.clientWidth];
  }});
  document.body.dataset.found = encodeURIComponent(JSON.stringify(found));
}};
</script>
"""

FOLLOWED_AND_HIDDEN = """<!DOCTYPE html><body>
<iframe id=run style="width: 1000px; height: 500px" src="{page}"></iframe>
<script>
let loads = 0, before = null;
const points = page => [...page.querySelectorAll("#interactive-scatter a")].map(link => link.getAttribute("href"));
run.onload = () => {{
  loads += 1;
  const page = run.contentDocument, inside = run.contentWindow;
  if (loads === 1) {{
    before = points(page);
    page.querySelectorAll("#interactive-scatter .arms input")[1].click();
    const arm = page.querySelector("#interactive-scatter a[href='#arm-3']");
    arm.dispatchEvent(new MouseEvent("click", {{ bubbles: true }}));
    const filter = page.querySelector("input[type=search]");
    filter.value = "sampler-c";
    filter.dispatchEvent(new Event("input"));
    inside.scrollTo(0, 300);
    inside.location.reload();
    return;
  }}
  const rows = [...page.querySelectorAll("table[data-sort=ranking1] tbody tr")].filter(row => !row.hidden);
  const legend = [...page.querySelectorAll(".u-legend tr.u-off")].map(row => row.textContent);
  document.body.dataset.found = encodeURIComponent(JSON.stringify({{
    before, after: points(page), open: page.getElementById("arm-3").open, closed: page.getElementById("arm-1").open,
    copies: [1, 3].map(arm => page.querySelectorAll(`#arm-${{arm}} button.copy`).length),
    scroll: inside.scrollY, rows: rows.length, legend: legend.filter(text => text).length,
  }}));
}};
</script>
"""

DRAWN_WHEN_NEAR = """<!DOCTYPE html><body>
<iframe id=run style="width: 1000px; height: 500px" src="{page}"></iframe>
<script>
run.onload = async () => {{
  const page = run.contentDocument, scatter = page.getElementById("interactive-scatter");
  const wait = () => new Promise(done => setTimeout(done, 300));
  await wait();
  const before = scatter.querySelectorAll("a").length;
  scatter.closest("section").scrollIntoView();
  await wait();
  document.body.dataset.found = encodeURIComponent(JSON.stringify([before, scatter.querySelectorAll("a").length]));
}};
</script>
"""

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="NO CHROMIUM ON THIS MACHINE: the page is not looked at in a browser. apt install chromium"
)


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback, and what was asked of it."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            requests.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    thread.join()
    server.server_close()


def browse(folder: Path, url: str, *options: str) -> str:
    """Open a page in a browser without a window, and return the document as it is then."""
    assert BROWSER is not None
    fixed = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=3000"]
    command = [BROWSER, *fixed, f"--user-data-dir={folder / 'browser'}", *options, url]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=True).stdout


def hostile(address: str) -> str:
    return (
        "<script>document.title='owned'</script>"
        f"<img src='{address}/img' onerror=\"document.title='owned'\"><link rel=stylesheet href={address}/css>"
        f"</style><style>@import '{address}/import'; body {{ background: url({address}/background) }}</style>"
        f"<svg onload=\"document.title='owned'\"><iframe src={address}/frame>"
        f"\"><meta http-equiv=refresh content='0;url={address}/refresh'> {{{{7*7}}}}"
    )


def hostile_sweep(folder: Path, address: str) -> Path:
    """Write a sweep whose texts and names are hostile, right to left, Japanese, very long, and its page."""
    texts = (hostile(address), "שלום עולם مرحبا 神光あれと言たまひければ光ありき 👩‍👩‍👧‍👦 " + "x" * 3000)
    for number, (seed, name) in enumerate([(1, "a"), (2, "a"), (1, hostile(address)), (2, hostile(address))]):
        report = trained(
            2.0 + number,
            name=texts[0],
            dropped={"length_ratio": 3, "x" * 300: 2},
            translations=[{"row": 1, "source": texts[0], "reference": texts[1], "output": texts[1]}],
        )
        config = {"seed": seed, "path": name, "long": "y" * 2000, "z" * 200: 1}
        left = profile(rejected=texts)
        write_job(folder / str(number), config, report, objective="bits_per_byte", profile=left)
    trace = "\n".join([texts[0], "w" * 3000])
    write_job(folder / "4", {"seed": 1, "path": "c"}, error=texts[0] + "v" * 500, traceback=trace)
    write_page(read_results([folder / "0"]), folder / "0")
    path = write_page(read_results([folder]), folder)
    opened = path.read_text(encoding="utf-8").replace("<details>", "<details open>")
    path.write_text(opened, encoding="utf-8")
    return path


def test_hostile_text_runs_nothing_and_fetches_nothing(tmp_path: Path, asked: tuple[str, list[str]]) -> None:
    address, requests = asked
    page = hostile_sweep(tmp_path / "sweep", address)
    for path in (page, page.parent / "0" / "report.html"):
        document = browse(tmp_path, path.as_uri(), "--dump-dom")
        assert "<title>owned" not in document
        assert document.count("<script") == 3  # the data of the page, the plotting library, and mtx's own script
        assert ('class="sort"' in document) == (path == page)  # it runs; one run has nothing to sort
        assert "{{7*7}}" in document
        assert "&lt;script&gt;" in document
        assert "神光あれと言たまひければ光ありき" in document
    assert requests == []


def test_scripts_run_by_their_hash_alone_and_the_page_is_whole_without_them(tmp_path: Path) -> None:
    validations = profile()["validations"]
    spent = {"steps": 10, "seconds": 5.0, "real_tokens": 10000}
    for number, bits in enumerate([2.0, 3.0]):
        report = trained(bits, spent=spent, validations=validations[:0])
        write_job(tmp_path / str(number), {"a": number}, report, objective="bits_per_byte", profile=profile())
    page = write_page(read_results([tmp_path]), tmp_path)
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</body>", "<script>document.title='owned'</script></body>"), encoding="utf-8")
    with_scripts = browse(tmp_path, page.as_uri(), "--dump-dom")
    assert "<title>owned" not in with_scripts
    for made in ('class="sort"', 'class="uplot', 'type="search"', "Copy as Markdown</button>", "<circle cx="):
        assert made in with_scripts
    frame = tmp_path / "frame.html"
    frame.write_text(WITHOUT_SCRIPTS.format(page=page.as_uri()), encoding="utf-8")
    document = browse(tmp_path, frame.as_uri(), "--allow-file-access-from-files", "--dump-dom")
    without = unquote(document.partition('data-found="')[2].partition('"')[0])
    assert 'class="sort"' not in without
    for words in ("Which arm is best", "bits per byte fall?", "| arm |", "begin{tabular}", "to reach 3.000"):
        assert words in without


def test_rows_of_jobs_that_wait_stay_last_in_any_order_and_a_reload_keeps_the_order(tmp_path: Path) -> None:
    jobs = tuple(PlannedJob(folder=str(i), overrides=(f"sampler={name}",)) for i, name in enumerate("abc"))
    SweepRecord(num_jobs=3, jobs=jobs, varied=("sampler",)).write(tmp_path)
    for number, bits in enumerate([2.0, 3.0]):
        config, choices = {"sampler": {}, "seed": 1}, {"sampler": "ab"[number]}
        write_job(tmp_path / str(number), config, trained(bits), choices=choices, objective="bits_per_byte")
    page = write_page(read_results([tmp_path]), tmp_path)
    frame = tmp_path / "frame.html"
    frame.write_text(SORTED_TWICE.format(page=page.as_uri()), encoding="utf-8")
    document = browse(tmp_path, frame.as_uri(), "--allow-file-access-from-files", "--dump-dom")
    names, num_sorted, num_copies = json.loads(unquote(document.partition('data-found="')[2].partition('"')[0]))
    assert sorted(names[:2]) == ["a", "b"]
    assert names[2].startswith("sampler=c")
    assert num_sorted == 1
    assert num_copies > 0


def three_arms(folder: Path) -> Path:
    """Write a sweep of three arms with curves and logs, and its page."""
    for number, bits in enumerate([2.0, 2.5, 3.0]):
        report = trained(bits, fit_s=10.0 + number, spent={"steps": 10, "seconds": 5.0, "real_tokens": 10000})
        choices = {"sampler": f"sampler-{'abc'[number]}"}
        config = {"sampler": {}, "seed": 1}
        write_job(folder / str(number), config, report, choices=choices, objective="bits_per_byte", profile=profile())
    return write_page(read_results([folder]), folder)


def found_by(folder: Path, page: str) -> Any:
    """Return what the script of a page around the page wrote into its body."""
    frame = folder / "frame.html"
    frame.write_text(page, encoding="utf-8")
    document = browse(folder, frame.as_uri(), "--allow-file-access-from-files", "--dump-dom")
    return json.loads(unquote(document.partition('data-found="')[2].partition('"')[0]))


def test_points_lead_to_arms_and_a_reload_keeps_what_is_hidden_open_filtered_and_scrolled(tmp_path: Path) -> None:
    found = found_by(tmp_path, FOLLOWED_AND_HIDDEN.format(page=three_arms(tmp_path / "sweep").as_uri()))
    assert found["before"] == ["#arm-1", "#arm-2", "#arm-3"]
    assert found["after"] == ["#arm-1", "#arm-3"], "the second arm is hidden"
    assert found["legend"] == 1, "in the curves, too"
    assert (found["open"], found["closed"]) == (True, False)
    assert found["copies"] == [0, 1], "an arm gets its button when it is opened"
    assert found["rows"] == 1
    assert found["scroll"] == 300


def test_a_large_page_draws_a_plot_when_it_comes_near(tmp_path: Path) -> None:
    path = three_arms(tmp_path / "sweep")
    far = '<body class="large">', '<main><div style="height: 9000px"></div>'
    text = path.read_text(encoding="utf-8").replace("<body>", far[0], 1).replace("<main>", far[1], 1)
    path.write_text(text, encoding="utf-8")
    assert found_by(tmp_path, DRAWN_WHEN_NEAR.format(page=path.as_uri())) == [0, 3]


def test_the_page_fits_three_widths_with_scripts_and_without(tmp_path: Path) -> None:
    page = three_arms(tmp_path / "sweep").as_uri()
    frames = "".join(
        f'<iframe class="{kind}" style="border: 0; width: {width}px; height: 900px" {limits} src="{page}"></iframe>'
        for width in (1440, 1024, PHONE)
        for kind, limits in (("scripts", ""), ("none", 'sandbox="allow-same-origin"'))
    )
    found = found_by(tmp_path, WIDTHS.format(frames=frames))
    assert [(kind, width) for kind, width, _ in found] == [
        (kind, width) for width in (1440, 1024, PHONE) for kind in ("scripts", "none")
    ], "nothing scrolls sideways"
    assert all(used >= 0.85 for _, _, used in found)


def test_the_browser_of_these_tests_would_run_and_fetch(tmp_path: Path, asked: tuple[str, list[str]]) -> None:
    address, requests = asked
    page = tmp_path / "page.html"
    page.write_text(f"<!DOCTYPE html><title>page</title><p>{hostile(address)}", encoding="utf-8")
    assert "<title>owned" in browse(tmp_path, page.as_uri(), "--dump-dom")
    assert "/img" in requests


def test_nothing_overflows_on_a_phone(tmp_path: Path) -> None:
    page = hostile_sweep(tmp_path / "sweep", "http://127.0.0.1:9")
    for path in (page, page.parent / "0" / "report.html"):
        frame = tmp_path / "frame.html"
        frame.write_text(FRAME.format(width=PHONE, page=path.as_uri()), encoding="utf-8")
        options = ("--allow-file-access-from-files", "--window-size=800,900", "--dump-dom")
        document = browse(tmp_path, frame.as_uri(), *options)
        assert f'data-width="{PHONE}"' in document
        height = int(document.partition('data-height="')[2].partition('"')[0])
        assert height > 1000


def test_each_text_runs_in_its_own_direction_and_says_its_language(tmp_path: Path) -> None:
    left = profile(rejected=("שלום (1) עולם", "光あり (1)"))
    translation = {"row": 1, "source": "مرحبا 1-2", "reference": "光あり", "output": "plain"}
    report = trained(2.0, languages=["he", "ja"], translations=[translation])
    write_job(tmp_path / "run", {"seed": 1}, report, objective="bits_per_byte", profile=left)
    page = write_page(read_results([tmp_path / "run"]), tmp_path / "run")
    frame = tmp_path / "frame.html"
    frame.write_text(SEEN.format(page=page.as_uri()), encoding="utf-8")
    document = browse(tmp_path, frame.as_uri(), "--allow-file-access-from-files", "--dump-dom")
    found = json.loads(unquote(document.partition('data-found="')[2].partition('"')[0]))
    assert sorted(found) == sorted(
        [
            ["שלום (1) עולם", "rtl", "he"],
            ["光あり (1)", "ltr", "ja"],
            ["مرحبا 1-2", "rtl", "he"],
            ["光あり", "ltr", "ja"],
            ["plain", "ltr", "ja"],
        ]
    )


@pytest.mark.parametrize(("scheme", "is_dark"), [("1", False), ("0", True)])
def test_the_page_shows_itself_in_light_and_dark(tmp_path: Path, scheme: str, is_dark: bool) -> None:
    for number, bits in enumerate([2.0, 3.0]):
        config = {"sampler": {}, "a": number}
        write_job(tmp_path / str(number), config, trained(bits), objective="bits_per_byte", profile=profile())
    page = write_page(read_results([tmp_path]), tmp_path)
    picture = tmp_path / "page.png"
    settings = f"--blink-settings=preferredColorScheme={scheme}"
    browse(tmp_path, page.as_uri(), settings, "--window-size=1000,2400", f"--screenshot={picture}")
    with Image.open(picture) as image:
        pixels = image.convert("RGB")
        colours = pixels.getcolors(maxcolors=pixels.width * pixels.height)
    assert len(colours) > 100  # not blank: text, and plots in colours
    _, ground = max(colours)
    assert (sum(ground) < 3 * 64) == is_dark
    seen = {colour for count, colour in colours if count > 20}
    assert {(0x56, 0xB4, 0xE9), (0x00, 0x72, 0xB2)} & seen == {(0x56, 0xB4, 0xE9) if is_dark else (0x00, 0x72, 0xB2)}
