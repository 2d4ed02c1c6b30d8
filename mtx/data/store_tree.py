"""The stored datasets and artifacts as trees: each corpus is the root of all that was built from it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mtx.data.dataset import SPLITS, TranslationDataset
from mtx.data.garbage_collection import artifact_inputs
from mtx.data.repo import input_ids
from mtx.data.store import Store
from mtx.errors import DamagedError, NewerFormatError, NotStoredError
from mtx.infra.dal.maintenance_protocols import Damage, WriteTimes

ARTIFACT_KINDS = {"tokenizers": "tokenizer", "words": "words", "models": "model"}
# The order of the items that were built from the same input: as a run builds them.
KIND_ORDER = ("raw", "text", "scores", "model", "split", "filtered", "tokenizer", "words", "encoded")


@dataclass(frozen=True)
class StoredItem:
    """A stored dataset or artifact, as `task=show` lists it.

    Attributes:
        id: id of the dataset or artifact.
        kind: stage of a dataset, or kind of an artifact: `tokenizer`, `words` or `model` (of a scorer).
        inputs: ids of the datasets and artifacts it was built from; for a raw dataset the revision of its source.
        num_bytes: size on disk, by the manifest.
        written: time at which it was written, in seconds since 1970; None if the storage does not tell.
        dataset: manifest of a dataset; None for an artifact.
    """

    id: str
    kind: str
    inputs: tuple[str, ...]
    num_bytes: int
    written: float | None
    dataset: TranslationDataset | None = None


@dataclass
class TreeNode:
    """An item, the items built from it (`children`), and the distance to the root of its tree (`depth`)."""

    item: StoredItem
    depth: int = 0
    children: list["TreeNode"] = field(default_factory=list)

    def walk(self) -> Iterator["TreeNode"]:
        """Yield this node and all nodes below it: each before its children, and these in order."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(node.children)


def stored_items(store: Store, unreadable: list[Damage]) -> list[StoredItem]:
    """Return all datasets and artifacts of a store, ordered by id. Unreadable ones are added to `unreadable`."""
    found = [
        StoredItem(
            dataset.id,
            dataset.stage,
            tuple(name for name in input_ids(dataset) if name),
            dataset.payload.num_bytes if dataset.payload else 0,
            _written(store.repo.fal, dataset.id),
            dataset,
        )
        for dataset in store.repo.manifests(unreadable=unreadable)
    ]
    for folder, layer in store.artifacts.items():
        for name in layer.get_all_names():
            try:
                inputs = tuple(artifact_inputs(layer.manifest(name).described))
                num_bytes = layer.num_bytes(name)
            except NotStoredError:  # another process removed the artifact after it was listed
                continue
            except (DamagedError, NewerFormatError) as error:
                unreadable.append(Damage(name, str(error)))
                continue
            found.append(StoredItem(name, ARTIFACT_KINDS[folder], inputs, num_bytes, _written(layer, name)))
    return found


def trees(items: Sequence[StoredItem]) -> list[TreeNode]:
    """Return the trees of all items: an item is below that of its inputs which is farthest from its own inputs.

    An encoded dataset is thus below its tokenizer, not below its text. An item without a stored input is a root. Items
    that are inputs of each other, which no run of mtx writes, are roots, too.
    """
    nodes = {item.id: TreeNode(item) for item in items}
    depths = _depths({item.id: [name for name in item.inputs if name in nodes] for item in items})
    roots = []
    for item in items:
        parents = [name for name in item.inputs if depths.get(name, -1) >= 0]
        if not parents or depths[item.id] < 0:
            roots.append(nodes[item.id])
            continue
        parent = max(parents, key=lambda name: depths[name])  # the first of several
        nodes[parent].children.append(nodes[item.id])
    for node in nodes.values():
        node.children.sort(key=_order)
    for root in roots:
        for node in root.walk():
            for child in node.children:
                child.depth = node.depth + 1
    return roots


def _depths(inputs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the largest number of steps from each id to an id without inputs; -1 for those that are in a circle."""
    depths = dict.fromkeys(inputs, -1)
    missing = {name: len(own) for name, own in inputs.items()}
    used_by: dict[str, list[str]] = {}
    for name, own in inputs.items():
        for each in own:
            used_by.setdefault(each, []).append(name)
    ready = [name for name, number in missing.items() if not number]
    while ready:
        name = ready.pop()
        depths[name] = 1 + max((depths[each] for each in inputs[name]), default=-1)
        for user in used_by.get(name, ()):
            missing[user] -= 1
            if not missing[user]:
                ready.append(user)
    return depths


def _order(node: TreeNode) -> tuple[int, int, float, str]:
    item = node.item
    kind = KIND_ORDER.index(item.kind) if item.kind in KIND_ORDER else len(KIND_ORDER)
    split = SPLITS.index(item.dataset.split) if item.dataset else 0
    return kind, split, item.written or 0.0, item.id


def _written(layer: object, name: str) -> float | None:
    """Return when a local layer wrote an item; None for a bucket, which would need a request for each item."""
    with suppress(NotStoredError, OSError):
        if isinstance(layer, WriteTimes):
            return layer.written(name)
        if isinstance(location := getattr(layer, "location", None), Path):
            return (location / name).stat().st_mtime
    return None
