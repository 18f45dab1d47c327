"""Canaries: a mark of its own in every field of a request model that takes text, made from the model itself."""

import base64
import inspect
import types
import typing
import uuid
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

UNMARKED = {  # closed vocabularies: a mark does not fit, and none of them says who somebody is
    "locale": "de-CH",
    "time_zone": "Europe/Zurich",
    "content_type": "text/plain",
    "default_locale": "en",
    "sample_data": {},
}


class Canaries:
    """`marks`: by the dotted path of the field, what was put there."""

    def __init__(self, special: dict[str, Any] | None = None) -> None:
        """`special`: by the last part of the path, a value or a function of a mark."""
        self.marks: dict[str, str] = {}
        self._special: dict[str, Any] = special or {}

    def fill(self, model: type[BaseModel], path: str = "", without: tuple[str, ...] = ()) -> dict[str, Any]:
        return {
            name: self._value(field.annotation, f"{path}.{name}" if path else name)
            for name, field in model.model_fields.items()
            if name not in without and not self._skipped(name)
        }

    def mark(self, path: str) -> str:
        self.marks[path] = f"canary{uuid.uuid4().hex[:12]}"
        return self.marks[path]

    def _skipped(self, name: str) -> bool:
        return self._special.get(name, ...) is None

    def _value(self, kind: Any, path: str) -> Any:
        name = path.rpartition(".")[2]
        if name in self._special:
            given = self._special[name]
            return given(self.mark(path)) if callable(given) else given
        if name in UNMARKED:
            return UNMARKED[name]
        return self._by_kind(kind, path)

    def _by_kind(self, kind: Any, path: str) -> Any:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is typing.Annotated:
            return self._by_kind(arguments[0], path)
        if origin in {Union, types.UnionType}:
            return self._by_kind(next(a for a in arguments if a is not type(None)), path)
        if origin in {list, tuple}:
            return [self._by_kind(arguments[0], f"{path}.0")]
        if origin is Literal:
            return arguments[0]
        if origin is dict:
            return {self.mark(f"{path}.key"): {"deep": [self.mark(f"{path}.value")]}}
        if inspect.isclass(kind):
            return self._by_class(kind, path)
        raise AssertionError(f"{path}: say here what a mark in {kind} is")

    def _by_class(self, kind: type, path: str) -> Any:
        if issubclass(kind, BaseModel):
            return self.fill(kind, path)
        if issubclass(kind, Enum):
            return next(iter(kind)).value
        if issubclass(kind, str):
            return self.mark(path)
        raise AssertionError(f"{path}: say here what stands in {kind}")


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
