"""Names of columns, for people to read."""

import difflib
from collections.abc import Collection


def near_names(name: str, names: Collection[str]) -> str:
    """A question that names columns that look like this one, or else what columns there are."""
    small = {other.casefold(): other for other in names}
    found = difflib.get_close_matches(name.casefold(), small, n=2, cutoff=0.5)
    close = [small[other] for other in found]
    return f"did you mean {' or '.join(close)}?" if close else f"columns: {listed(names)}"


def listed(names: Collection[str]) -> str:
    """Names for a line, the first of many."""
    first = list(names)[:12]
    return ", ".join(first) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
