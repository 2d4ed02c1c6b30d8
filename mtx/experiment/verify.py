"""`task=verify`: is the store as it was written?"""

from rich.table import Table
from rich.text import Text

from mtx.data.verify import Verification, verify_store
from mtx.errors import DamagedError
from mtx.experiment.run import Run
from mtx.experiment.show import size


def verify(run: Run, *, full: bool = False, repair: bool = False) -> None:
    """Look at everything in the store, and name what is damaged.

    Args:
        run: its storage.
        full: read every byte and compare digests; else manifests, sizes, and whether things can be opened.
        repair: set aside what is damaged.

    Raises DamagedError, for exit code 1, where something is damaged and still in its place, or cannot be judged.
    """
    store = run.build("storage")
    found = verify_store(store, full=full, repair=repair)
    how = "every byte" if full else "manifests and sizes; every byte with full=true"
    looked_at = f"Looked at {found.num_checked} stored things, {size(found.num_bytes)}, in {store.location}: {how}"
    run.console.print(looked_at, highlight=False, soft_wrap=True, markup=False)
    if found.undigested:
        number = len(found.undigested)
        told = f"{number} of them, stored by an older mtx, carry no digest of all of it: damage there may go unseen"
        run.console.print(told, highlight=False, markup=False)
    if found.findings:
        run.console.print(_table(found))
    if places := [place for finding in found.findings for place in finding.places]:
        aside = (
            f"Set aside {len(places)} files and folders, below {store.damaged}. The next run builds anew what they were"
        )
        run.console.print(aside, highlight=False, soft_wrap=True, markup=False)
    _fail_if_not_whole(found, store.location, repair=repair)
    run.console.print("All of it is as it was written." if not found.findings else "All else is as it was written.")


def _fail_if_not_whole(found: Verification, location: str, *, repair: bool) -> None:
    damaged = sum(finding.state == "damaged" for finding in found.findings)
    newer = sum(finding.state == "of a newer mtx" for finding in found.findings)
    told = []
    if damaged:
        next_step = "try again when no other process uses the store" if repair else "set it aside with repair=true"
        told.append(f"{damaged} damaged; {next_step}, and the next run builds it again")
    if newer:
        told.append(f"{newer} of a newer mtx, left as it is; look at it with the version that wrote it")
    if told:
        raise DamagedError(f"not all in {location} is as this mtx wrote it, as told above: {'. And '.join(told)}")


def _table(found: Verification) -> Table:
    table = Table(show_lines=True)
    table.add_column("what", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("why", overflow="fold")
    for finding in found.findings:
        table.add_row(Text(finding.name), finding.state, Text(finding.reason))
    return table
