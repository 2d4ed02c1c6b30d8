"""The part of a report about the trained model: its size, where it was trained, and the paths of its checkpoints."""

from mtx.records.record_file import Count
from mtx.records.stream_report import StreamPart


class TrainedModelReport(StreamPart):
    """The size of a model, the device and the threads of its training, and its checkpoints."""

    num_parameters: Count | None = None
    device: str | None = None
    num_threads: Count | None = None
    checkpoint: str | None = None
    best_checkpoint: str | None = None
