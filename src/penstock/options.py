"""The base of everything that is written in a configuration."""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError


class Options(BaseModel):
    """Base of everything that is written in a configuration: frozen, unknown keys refused with a suggestion."""

    # Not `use_attribute_docstrings`, which parses the source of every class when it is made: a tenth of each start.
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)

    refused_keys: ClassVar[Mapping[str, str]] = {}
    """Keys that other engines know and this one does not, with what to do about each."""
    ignored_keys: ClassVar[Mapping[str, str]] = {}
    """Keys that other engines know and that change nothing here, with the reason; taken, and told by `notes`."""
    _ignored: tuple[str, ...] = PrivateAttr(())

    def is_same(self, other: object) -> bool:
        """Tell whether ``other`` has the same options, secrets too, wherever each is written down."""
        return is_same(self, other)

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
        ignored = [key for key in value if key in cls.ignored_keys]
        if ignored:
            value = {key: option for key, option in value.items() if key not in ignored}
        known = {name: None for key, info in cls.model_fields.items() for name in (info.alias or key, key)}
        faults = [_unknown(key, list(known), cls.refused_keys.get(key)) for key in value if key not in known]
        if not faults:
            built = build(value)
            if ignored:
                built._ignored += tuple(cls.ignored_keys[key] for key in ignored)
            return built
        try:
            build({key: option for key, option in value.items() if key in known})
        except ValidationError as invalid:  # what else is wrong is said in the same breath
            faults += [_convert_error(error) for error in invalid.errors(include_url=False)]
        raise ValidationError.from_exception_data(cls.__name__, faults)

    @classmethod
    def describe_fields(cls) -> dict[str, str]:
        """Return the description of each field that has one: the docstring below it, or that of its `Field`."""
        below = {name: text for base in reversed(cls.__mro__) for name, text in _field_docstrings(base).items()}
        texts = {name: info.description or below.get(name) for name, info in cls.model_fields.items()}
        return {name: text for name, text in texts.items() if text}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> Any:
        schema = handler(core)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in cls.describe_fields().items():
            if (key := cls.model_fields[name].alias or name) in properties:
                properties[key]["description"] = text
        return schema


@cache
def _field_docstrings(cls: type) -> Mapping[str, str]:
    """Return the docstring below each field of a class, by its name; none where the source is not at hand."""
    if not issubclass(cls, BaseModel) or cls is BaseModel:
        return {}
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError):
        return {}
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in pairwise(tree.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def _convert_error(error: ErrorDetails) -> InitErrorDetails:
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


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two values of options are the same, secrets too, wherever each is written down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseModel):
        return all(is_same(getattr(one, name), getattr(other, name)) for name in type(one).model_fields)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(is_same(value, other[key]) for key, value in one.items())
    return bool(one == other)
