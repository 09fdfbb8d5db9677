"""Rules that mend the payloads of dead letters: replace a text, and rename, convert, set and remove fields of JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from ..errors import PermanentError

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Kind = Literal["number", "integer", "text", "boolean"]
MAX_CHANGES = 50
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """What is changed in each payload, in this order."""

    replace: Annotated[
        list[tuple[Name, Annotated[str, msgspec.Meta(max_length=2000)]]], msgspec.Meta(max_length=50)
    ] = []
    """Texts, and what stands in their place; of any payload that is text."""
    rename: Annotated[dict[str, Name], msgspec.Meta(max_length=50)] = {}
    """Names of fields, and their new names."""
    convert: Annotated[dict[str, Kind], msgspec.Meta(max_length=50)] = {}
    """Names of fields, and the kind that their values become."""
    set: Annotated[dict[str, Any], msgspec.Meta(max_length=50)] = {}
    """Names of fields, and their values."""
    remove: Annotated[list[Name], msgspec.Meta(max_length=50)] = []
    """Names of fields."""

    def mend(self, payload: str) -> str:
        """Return a payload as it should have been; raises PermanentError where the rule does not fit it."""
        for text, other in self.replace:
            payload = payload.replace(text, other)
        if not (self.rename or self.convert or self.set or self.remove):
            return payload
        try:
            fields = msgspec.json.decode(payload)
        except msgspec.DecodeError as error:
            raise PermanentError(f"the payload is not JSON, so a rule about fields does not fit it: {error}") from None
        if not isinstance(fields, dict):
            raise PermanentError("the payload is not an object, so a rule about fields does not fit it")
        fields = {self.rename.get(name, name): value for name, value in fields.items()}
        for name, kind in self.convert.items():
            if fields.get(name) is not None:
                fields[name] = _convert(name, fields[name], kind)
        fields |= self.set
        for name in self.remove:
            fields.pop(name, None)
        return msgspec.json.encode(fields).decode()


def _convert(name: str, value: Any, kind: Kind) -> Any:
    text = str(value).strip()
    try:
        if kind == "text":
            return value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if kind == "integer":
            return int(text)
        if kind == "number":
            number = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
            if number - number != 0:
                raise ValueError(text)
            return number
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
    except ValueError:
        pass
    raise PermanentError(f"the field {name[:100]!r} is not a {kind}: {text[:100]!r}")
