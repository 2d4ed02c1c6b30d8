"""Freed memory goes back to the operating system."""

import subprocess
import sys

import pytest

CODE = """
from pathlib import Path
from mtx.data.freed_memory import return_freed_memory

def anonymous_mb():
    (line,) = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("RssAnon")]
    return int(line.split()[1]) // 1024

return_freed_memory()
before = anonymous_mb()
small = [bytes(1000) for _ in range(100_000)]
last = bytes(1000)  # keeps the end of the heap in use
del small
kept = anonymous_mb() - before
return_freed_memory()
print(kept, anonymous_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the anonymous memory of a process")
def test_memory_below_the_end_of_the_heap_is_returned() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    assert kept > 60
    assert left < 20
