"""What tokens cost: dated prices of models, which a file of the user's may replace.

Prices are in dollars for a million tokens, as Anthropic publishes them (https://www.anthropic.com/pricing#api). What is
written into the cache costs 1.25 times the input for five minutes and twice for an hour, and a tenth when it is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from importlib.resources import files
from pathlib import Path

import msgspec

from ...errors import ConfigError

_NAME = re.compile(
    r"(?:[a-z-]+\.)?(?:anthropic[./])?(?P<name>.+?)(?:[-@]20\d{6})?(?:-latest|-v\d+(?::\d+)?)?", re.DOTALL
)
"""How a model is named: ``claude-sonnet-4-20250514``, ``us.anthropic.claude-sonnet-4-20250514-v1:0``."""


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The price of a model from a day on, in dollars for a million tokens."""

    since: date
    input: float
    output: float
    cache_write_5m: float | None = None
    """By default 1.25 times the input."""
    cache_write_1h: float | None = None
    """By default twice the input."""
    cache_read: float | None = None
    """By default a tenth of the input."""


class Tokens(msgspec.Struct):
    """How many tokens of each kind."""

    input: int = 0
    output: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0

    def add(self, more: Tokens) -> None:
        """Add others to these."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(more, name))

    @property
    def total(self) -> int:
        """All tokens together."""
        return sum(getattr(self, name) for name in self.__struct_fields__)


class Prices:
    """The prices of models, by their names without the provider and the day of the release."""

    def __init__(self, by_model: Mapping[str, Sequence[Price]]) -> None:
        self._by_model = {name: sorted(prices, key=lambda price: price.since) for name, prices in by_model.items()}

    @classmethod
    def load(cls, own: Path | None = None) -> Prices:
        """Read the prices that ship, and those of a file that take their place; raises ConfigError."""
        by_model = _decode(files(__package__).joinpath("prices.json").read_bytes(), "prices.json")
        if own is not None:
            try:
                by_model |= _decode(own.read_bytes(), str(own))
            except OSError as error:
                raise ConfigError(f"{own} cannot be read: {error.strerror}", path="prices") from error
        return cls(by_model)

    def find(self, model: str | None, at: datetime) -> Price | None:
        """Return the price of a model on a day; None for one that is not known. A model had its first price before."""
        named = _NAME.fullmatch(model) if model is not None else None
        prices = self._by_model.get(named["name"]) if named else None
        if not prices:
            return None
        return next((price for price in reversed(prices) if price.since <= at.date()), prices[0])


def cost(price: Price, tokens: Tokens) -> float:
    """Return what tokens cost, in dollars."""
    short = price.input * 1.25 if price.cache_write_5m is None else price.cache_write_5m
    long = price.input * 2 if price.cache_write_1h is None else price.cache_write_1h
    read = price.input * 0.1 if price.cache_read is None else price.cache_read
    return (
        tokens.input * price.input
        + tokens.output * price.output
        + tokens.cache_write_5m * short
        + tokens.cache_write_1h * long
        + tokens.cache_read * read
    ) / 1e6


def _decode(content: bytes, name: str) -> dict[str, list[Price]]:
    try:
        found = msgspec.json.decode(content, type=dict[str, list[Price]])
    except msgspec.DecodeError as error:
        raise ConfigError(f"{name} has no prices: {error}", path="prices") from error
    if empty := [model for model, prices in found.items() if not prices]:
        raise ConfigError(f"{name}: {empty[0]} has no price", path="prices")
    return found
