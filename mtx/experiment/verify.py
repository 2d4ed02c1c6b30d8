"""`task=verify`: check the stored files for damage."""

from rich.table import Table
from rich.text import Text

from mtx.data.verify import Verification, verify_store
from mtx.errors import DamagedError
from mtx.experiment.run_context import Run, needs
from mtx.progress.formatting import size_text


@needs("storage")
def verify(run: Run, *, full: bool = False, repair: bool = False) -> None:
    """Check all datasets and artifacts in the store, and print the damaged ones.

    Args:
        run: The run of this task, which provides the store and the console.
        full: Read every byte and compare digests. False: check manifests and sizes, and whether files can be opened.
        repair: Move damaged files into the store's folder `damaged`.

    Raises:
        DamagedError: A damaged file is still in place, or a newer version of mtx wrote a file. The exit code is 1.
    """
    store = run.build("storage")
    found = verify_store(store, full=full, repair=repair)
    how = "every byte" if full else "manifests and sizes; add full=true to check every byte"
    looked_at = f"Checked {found.num_checked} stored items, {size_text(found.num_bytes)}, in {store.location}: {how}"
    run.console.print(looked_at, highlight=False, soft_wrap=True, markup=False)
    if found.undigested:
        number = len(found.undigested)
        told = f"{number} of them were stored by an older mtx without a full digest: some damage cannot be detected"
        run.console.print(told, highlight=False, markup=False)
    if found.findings:
        run.console.print(_finding_table(found))
    if places := [place for finding in found.findings for place in finding.places]:
        aside = f"Moved {len(places)} damaged files and folders to {store.damaged}. The next run builds them again"
        run.console.print(aside, highlight=False, soft_wrap=True, markup=False)
    _raise_unless_whole(found, store.location, repair=repair)
    run.console.print("No damage found." if not found.findings else "No other damage found.")


def _raise_unless_whole(found: Verification, location: str, *, repair: bool) -> None:
    damaged = sum(finding.state == "damaged" for finding in found.findings)
    newer = sum(finding.state == "of a newer mtx" for finding in found.findings)
    told = []
    if damaged:
        next_step = "try again when no other process uses the store" if repair else "move them away with repair=true"
        told.append(f"{damaged} damaged; {next_step}, and the next run builds them again")
    if newer:
        told.append(f"{newer} written by a newer mtx and left unchanged; check them with that version of mtx")
    if told:
        raise DamagedError(f"not everything in {location} is intact, as listed above: {'. And '.join(told)}")


def _finding_table(found: Verification) -> Table:
    table = Table(show_lines=True)
    table.add_column("stored item", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for finding in found.findings:
        table.add_row(Text(finding.name), finding.state, Text(finding.reason))
    return table
