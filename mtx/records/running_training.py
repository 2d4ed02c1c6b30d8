"""`training.json` of a job that still trains: its validations so far, for the curves of a page."""

import json
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from mtx.records.plot_data_record import RunProfile, ValidationPoint
from mtx.records.report_record import Validation

TRAINING_FILE = "training.json"
MAX_BYTES = 50_000_000  # a training with 500 losses and 10,000 validations has 3 MB

CLOCK_TOLERANCE_S = 2.0  # between the clock of a job and that of its file system


def read_running_profile(folder: Path, started: str | None = None) -> RunProfile:
    """Return the validations so far of the job in `folder` as a profile; an empty one if there are none to read.

    A file that is older than `started`, the begin of the job in ISO 8601, is of an earlier attempt at the job.
    """
    path = folder / TRAINING_FILE
    try:
        found_file = path.stat()
        begun = None if started is None else datetime.fromisoformat(started).timestamp()
        is_earlier = begun is not None and found_file.st_mtime < begun - CLOCK_TOLERANCE_S
        if found_file.st_size > MAX_BYTES or is_earlier:
            return RunProfile()
        found = json.loads(path.read_text(encoding="utf-8"))
        validations = [Validation.model_validate(one) for one in found["validations"]]
        points = [
            ValidationPoint(
                step=one.step, seconds=one.seconds, real_tokens=one.real_tokens, bits_per_byte=one.bits_per_byte
            )
            for one in validations
            if one.bits_per_byte is not None
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError):
        return RunProfile()  # nothing written yet, or by another program
    return RunProfile(validations=tuple(points))
