"""`task=import`: add the datasets of an export to the store."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from mtx.components.checked_options import checked
from mtx.data.exchange.dataset_import import MAX_RATIO, import_datasets
from mtx.errors import ConfigError
from mtx.experiment.run_context import Run, needs


@needs("storage")
@checked("task")
def import_(run: Run, *, path: str | None = None, max_ratio: Annotated[float, Field(gt=0)] = MAX_RATIO) -> None:
    """Add the datasets of an export to the store. A dataset whose id is already stored is left unchanged.

    Args:
        run: The run of this task, which provides the store and the console.
        path: A folder or an archive that `task=export` wrote with `format=parquet`.
        max_ratio: The largest allowed ratio of unpacked size to archive size.

    Raises:
        ConfigError: `path` is missing.
        MtxError: `import_datasets` refuses the export.
    """
    if not path:
        raise ConfigError(
            "task=import needs an export, which is a folder, a .zip or a .tar.gz file: mtx task=import from=FOLDER"
        )
    store = run.build("storage")
    done = import_datasets(store, Path(path), max_ratio=max_ratio)
    for name in done.stored:
        run.console.print(f"imported {name}", highlight=False, soft_wrap=True)
    for name in done.kept:
        run.console.print(f"{name} is already stored; the stored dataset is kept", highlight=False, soft_wrap=True)
    run.console.print(f"store: {store.location}", highlight=False, soft_wrap=True)
