"""Who may use a route, said in the OpenAPI document as `x-access`, from the dependencies that the route is served with:
it cannot say anything else than what is done. A route with neither a caller nor a reason to be open says nothing."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

_KEY: dict[str, list[str]] = {"ApiKey": []}


def state_access(app: FastAPI, document: dict[str, Any]) -> None:
    """In place; and the second way to send a key, which the framework does not see."""
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute) and route.include_in_schema:
            said = next(_said(route.dependant), None)
            for method in route.methods or ():
                operation = document["paths"][route.path_format][method.lower()]
                if said is not None:
                    operation["x-access"] = said
                if (
                    ways := operation.get("security")
                ) and _KEY not in ways:  # the document is made once, and asked often
                    ways.append(_KEY)
    scheme = {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key of the engine."}
    document["components"].setdefault("securitySchemes", {})["ApiKey"] = scheme


def _said(dependant: Dependant) -> Iterator[dict[str, Any]]:
    for dependency in dependant.dependencies:
        if (said := getattr(dependency.call, "x_access", None)) is not None:
            yield said
        yield from _said(dependency)
