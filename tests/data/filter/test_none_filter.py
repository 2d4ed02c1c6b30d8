import pyarrow as pa

from mtx.data.filter.none import NoFilter
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA


def test_keeps_every_pair_as_it_came_and_counts_nothing() -> None:
    rows = [{"src": " a ", "tgt": ""}, {"src": " a ", "tgt": ""}, {"src": "\x00", "tgt": "\x00"}]
    table = pa.concat_tables([pa.Table.from_pylist([row], schema=PAIR_SCHEMA) for row in rows])
    kept = pa.Table.from_batches(list(NoFilter().apply(table, dropped := {})))
    assert kept.to_pylist() == rows
    assert kept.schema == PAIR_SCHEMA
    assert dropped == {}


def test_nothing_in_gives_one_empty_batch_with_the_columns() -> None:
    batches = list(NoFilter().apply(pa.table({}), {}))
    assert [(batch.num_rows, batch.schema) for batch in batches] == [(0, PAIR_SCHEMA)]
