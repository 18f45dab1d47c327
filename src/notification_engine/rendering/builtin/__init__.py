"""The templates that come with the engine: one for each built-in type, in English and German, and their layout.

A file a template, `<key>.toml` beside this one: description, sample data, and the parts of each locale. What a file
calls `mjml_file` stands in a file of its own.
"""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from notification_engine.domain.template import Draft, Parts, TemplateKind


@cache
def builtin_templates() -> dict[str, Draft]:
    """By key."""
    found = (file for file in files(__name__).iterdir() if file.name.endswith(".toml"))
    return {file.name.removesuffix(".toml"): _draft(tomllib.loads(file.read_text("utf-8"))) for file in found}


def _draft(values: dict[str, Any]) -> Draft:
    return Draft(
        locales={locale: _parts(parts) for locale, parts in values["locales"].items()},
        default_locale="en",
        kind=TemplateKind(values.get("kind", TemplateKind.MESSAGE)),
        description=values["description"],
        sample_data=values.get("sample_data", {}),
    )


def _parts(values: dict[str, str]) -> Parts:
    name = values.pop("mjml_file", None)
    if name is not None:
        values["mjml"] = files(__name__).joinpath(name).read_text("utf-8")
    return Parts(**{part: source.strip() for part, source in values.items()})
