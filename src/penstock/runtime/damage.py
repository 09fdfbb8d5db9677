"""What is missing from a write-ahead log, and how a person is told."""

from __future__ import annotations

from dataclasses import dataclass

from .logfolder import Closed, LogFolder

_WAY_ON = (
    "what comes in is kept, and nothing behind this is written before it is dealt with: `penstock log inspect` shows "
    "what is there, `penstock log salvage` lets the stream go on without what is missing"
)


OPEN_GAP = 1 << 40
"""How many numbers are left out where the end of a log is gone, so that it finds room if it is put back."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Why the entries from a number on cannot be handed out as they are."""

    first: int
    reason: str
    is_open: bool = False
    """Whether the end of the log is gone, and nobody knows how many entries that is."""


def missing(folder: LogFolder, first: int, last: int) -> Damage:
    """Describe entries that are not where they should be."""
    held = max((one for one in folder.firsts if one <= first), default=None)
    following = next((one for one in folder.firsts if one > first), None)
    places = []
    if held is not None and not folder.segment(held).exists():
        places.append(f"{folder.segment(held).name} is gone")
    elif held is not None and (following is None or last < following - 1):
        places.append(f"{folder.segment(held).name} is damaged")
    elif held is not None:
        places.append(f"{folder.segment(held).name} is damaged or cut off, or the segment behind it is gone")
    if following is not None:
        places.append(f"{folder.segment(following).name} is the next one")
    return _damage(folder, first, f"{entries_named(first, last)} missing or damaged: {', '.join(places) or 'no file'}")


def find_damage(
    folder: LogFolder, position: int, found: int, closed: Closed | None, wrong: str | None
) -> Damage | None:
    """Compare what is in the folder with the position and with what was there when the log was last closed."""
    if closed is not None and closed.salvaged:
        return None
    if folder.damage is not None and position < folder.damage.damaged_from:
        return Damage(folder.damage.damaged_from, folder.damage.damage)
    begins = min(folder.sizes, default=found + 1)
    last = max(found, position)
    if closed is not None and not position and closed.written:
        return _damage(
            folder,
            1,
            f"{closed.written} entries of it were written downstream, but the position that says so is gone: put the "
            "state back, or they may be written again",
        )
    if folder.sizes and begins > position + 1:
        cause = "" if position else ", or the position that says they were written is gone"
        gap = f"{entries_named(position + 1, begins - 1)} missing{cause}"
        return _damage(folder, position + 1, f"{gap}: {folder.segment(begins).name} is the first segment")
    if wrong is not None:
        return _damage(folder, last + 1, wrong, is_open=True)
    if closed is not None and closed.last > last:
        return _damage(folder, last + 1, f"{entries_named(last + 1, closed.last)} missing from its end: {_end(folder)}")
    if found < position and (closed is None or closed.last < position):
        return lost_end(folder, position, found)
    return None


def lost_end(folder: LogFolder, position: int, found: int) -> Damage:
    """Describe a log that ends before what was written downstream."""
    reason = f"entries up to {position} were written downstream, but it ended at {found}: what came later is missing"
    return _damage(folder, max(found, position) + 1, f"{reason}; {_end(folder)}", is_open=True)


def entries_named(first: int, last: int) -> str:
    """Return some entries by number, with a verb."""
    if last - first + 1 >= OPEN_GAP:
        return f"entries from {first} on, it is not known how many, are"
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"


def _end(folder: LogFolder) -> str:
    return f"{folder.segment(max(folder.sizes)).name} is the last segment" if folder.sizes else "it has no segments"


def _damage(folder: LogFolder, first: int, reason: str, *, is_open: bool = False) -> Damage:
    strays = f" ({'; '.join(folder.strays)})" if folder.strays else ""
    return Damage(first, f"write-ahead log {folder.path}: {reason}{strays}; {_WAY_ON}", is_open)
