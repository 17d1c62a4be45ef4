"""Sections of a report, each of which is made or says why it cannot be."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from sklearn_iis.execution._text import printable, shorten
from sklearn_iis.inspection._fitted import NothingToShowError
from sklearn_iis.inspection.report._text import MAX_LENGTH, as_sentence


def make_section(make: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """Return the content of a section with `reason` None, or else only the reason.

    Whatever values a search has: all that a page consists of is made here.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # The page says itself which stages are left out.
            warnings.filterwarnings("ignore", "Stages are left out")
            return {"reason": None} | make(*args)
    except NothingToShowError as error:
        reason = printable(error)
    except Exception as error:
        reason = f"{type(error).__name__}: {printable(error)}"
    return {"reason": as_sentence(shorten(reason, MAX_LENGTH))}
