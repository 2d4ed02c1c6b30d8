"""The inputs of datasets, and their order: each dataset after its inputs."""

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from mtx.data.dataset import TranslationDataset
from mtx.data.store import Store
from mtx.errors import SourceError

MAX_NAMED = 4  # ids that a message about a circle lists


def input_names(dataset: TranslationDataset) -> list[str]:
    """Return the ids of the datasets and tokenizers that a dataset was built from, as its provenance names them."""
    inputs = dataset.provenance.get("inputs")
    return [name for name in inputs if isinstance(name, str)] if isinstance(inputs, list) else []


def stored_inputs(dataset: TranslationDataset, store: Store) -> list[str]:
    """Return the ids of the stored datasets that a dataset was built from."""
    return [name for name in input_names(dataset) if not name.startswith("tokenizer-") and store.repo.exists(name)]


def all_inputs_first(dataset: TranslationDataset, store: Store) -> list[str]:
    """Return the ids of all stored datasets that a dataset was built from, at any distance, each after its own inputs.

    Raises SourceError if a dataset is an input of itself.
    """
    inputs = {dataset.id: stored_inputs(dataset, store)}
    waiting = list(inputs[dataset.id])
    while waiting:
        if (name := waiting.pop()) not in inputs:
            inputs[name] = stored_inputs(store.repo.manifest(name), store)
            waiting += inputs[name]
    return [name for name in inputs_first(inputs) if name != dataset.id]


def inputs_first(inputs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return all ids, each after its inputs.

    Args:
        inputs: the ids of the inputs of each dataset, by the id of the dataset.

    Raises SourceError if a dataset is an input of itself, directly or through others.
    """
    try:
        return list(TopologicalSorter(inputs).static_order())
    except CycleError as error:
        circle = list(error.args[1])
        told = " from ".join([*circle[:MAX_NAMED], *(["…"] if len(circle) > MAX_NAMED else [])])
        raise SourceError(
            f"a dataset cannot be built from itself, but the manifests say so: {told}. Export the dataset again from "
            "the store that built it"
        ) from error


def check_inputs(datasets: Sequence[TranslationDataset], store: Store) -> None:
    """Check that no imported dataset is an input of itself, also through stored datasets. Raises SourceError."""
    inputs = {dataset.id: input_names(dataset) for dataset in datasets}
    waiting = [name for names in inputs.values() for name in names]
    while waiting:
        name = waiting.pop()
        if name not in inputs and not name.startswith("tokenizer-") and store.repo.exists(name):
            inputs[name] = input_names(store.repo.manifest(name))
            waiting += inputs[name]
    inputs_first(inputs)
