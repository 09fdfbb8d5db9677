"""The base of everything that is written in a configuration."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError


class Options(BaseModel):
    """Base of everything that is written in a configuration: frozen, unknown keys refused with a suggestion."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, populate_by_name=True, hide_input_in_errors=True
    )

    refused_keys: ClassVar[Mapping[str, str]] = {}
    """Keys that other engines know and this one does not, with what to do about each."""

    @model_serializer(mode="wrap")
    def _keep_tags(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Options with one possible value tell models of a union apart, so they are dumped though nobody set them."""
        tags = {
            key: info.default
            for key, info in type(self).model_fields.items()
            if get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1 and not info.is_required()
        }
        return {**tags, **dump(self)}

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, dict):
            return build(value)
        known = {name: None for key, info in cls.model_fields.items() for name in (info.alias or key, key)}
        faults = [_unknown(key, list(known), cls.refused_keys.get(key)) for key in value if key not in known]
        if not faults:
            return build(value)
        try:
            build({key: option for key, option in value.items() if key in known})
        except ValidationError as invalid:  # what else is wrong is said in the same breath
            faults += [_again(error) for error in invalid.errors(include_url=False)]
        raise ValidationError.from_exception_data(cls.__name__, faults)


def _again(error: ErrorDetails) -> InitErrorDetails:
    message = error["msg"].replace("{", "{{").replace("}", "}}")
    return {"type": PydanticCustomError(error["type"], message), "loc": error["loc"], "input": None}


def _unknown(key: Any, known: list[str], reason: str | None) -> InitErrorDetails:
    if reason is not None:
        return {
            "type": PydanticCustomError("refused_key", reason.replace("{", "{{")),
            "loc": (str(key),),
            "input": None,
        }
    close = difflib.get_close_matches(str(key), known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else f"; expected one of {', '.join(known)}" if known else ""
    return {
        "type": PydanticCustomError("unknown_key", "unknown key" + hint.replace("{", "{{")),
        "loc": (str(key),),
        "input": None,
    }
