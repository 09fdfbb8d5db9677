"""What a point came from: the names of devices and apps, in one spelling."""

from __future__ import annotations

from typing import Any

_SPELLINGS = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "\u00a0": " ", "\u202f": " ", "\u2007": " "})
_KNOWN: dict[str, str] = {}
_CACHE_SIZE = 10_000


def normalise(source: Any) -> str:
    """Return the source in the spelling in which it tells points apart; "" where there is none.

    The app joins several names with ``|``, in no certain order, and may repeat one: they are sorted, each once. Curly
    apostrophes, no-break spaces and the four characters ``\\xa0`` become plain. Of an object, its name is taken.
    """
    if not isinstance(source, str):
        if source is None:
            return ""
        if isinstance(source, dict):
            named = (source.get(key) for key in ("name", "displayName", "bundleIdentifier", "identifier"))
            return normalise(next((name for name in named if isinstance(name, str)), ""))
        if isinstance(source, list):
            return normalise("|".join(normalise(part) for part in source))
        return normalise(str(source))
    known = _KNOWN.get(source)
    if known is None:
        parts = {" ".join(part.split()) for part in source.replace("\\xa0", " ").translate(_SPELLINGS).split("|")}
        known = "|".join(sorted(parts - {""})).replace("\x00", "")
        if len(source) <= 1000:
            if len(_KNOWN) >= _CACHE_SIZE:
                _KNOWN.clear()
            _KNOWN[source] = known
    return known
