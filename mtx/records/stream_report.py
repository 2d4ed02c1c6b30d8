"""The ledger of a streamed training split in `report.json`: what became of each row of the source."""

from pydantic import Field

from mtx.records.record_file import Count, Counts, Record


class StreamReport(Record):
    """The rows of all shards of which a batch was requested, in the last epoch that has begun.

    `rows` = `served` + `held_out` + the sum of `dropped` + `not_reached`.
    """

    epoch: Count
    shards: Count
    rows: Count
    served: Count
    held_out: Count
    dropped: Counts = Field(default_factory=dict)
    not_reached: Count
    skipped: Counts = Field(default_factory=dict)


class StreamPart(Record):
    """The part of a report about a streamed training split; without one, it has no key."""

    stream: StreamReport | None = None
