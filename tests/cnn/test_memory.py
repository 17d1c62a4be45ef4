import subprocess
import sys

import pytest

from sklearn_iis.cnn import _memory

# A process of its own, with a heap that nothing else has used.
COUNT_PAGE_FAULTS = """
import resource
import numpy as np
from sklearn_iis.cnn._memory import keep_freed_memory

def page_faults(n_bytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(n_bytes, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

page_faults(2**28)
with keep_freed_memory():
    first, again = page_faults(2**28), page_faults(2**28)
after = page_faults(2**28)
page_faults(2**23)
print(first, again, after, page_faults(2**23))
"""


@pytest.mark.skipif(_memory._find_glibc() is None, reason="the C library is not glibc")
def test_freed_memory_is_used_again_and_given_back_in_the_end():
    counts = subprocess.run(
        [sys.executable, "-c", COUNT_PAGE_FAULTS],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    first, again, after, small = map(int, counts)
    assert again < first / 10
    assert after > first / 2
    # Blocks of some MB are kept, as glibc's dynamic threshold would have come to do.
    assert small < first / 1000


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(_memory, "_find_glibc", lambda: None)
    with _memory.keep_freed_memory():
        pass
