"""The OpenAPI description: what FastAPI finds, and what it cannot know.

Refusals are problems (`problems`), of one form everywhere; files come in parts; some routes want a token.
"""

from typing import Any, Final

from fastapi import FastAPI

from sonoshare_server.catalogue.problems import MEDIA_TYPE

_PROBLEM: Final = {
    "type": "object",
    "description": "Why a request was refused (RFC 9457).",
    "required": ["type", "title", "status", "detail", "error"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "error": {"type": "string", "description": "a stable word"},
        "fields": {"type": "array", "items": {"type": "object"}},
        "msg": {"type": "string"},
        "status_code": {"type": "integer"},
    },
}
_EVERYWHERE: Final = {
    "400": "The request cannot be read.",
    "404": "There is nothing of that name, or not for you.",
    "408": "The request did not arrive in time.",
    "413": "The request is too large.",
    "422": "The request is not valid.",
    "429": "Too many requests; `Retry-After` says when.",
    "503": "The database or the store of files does not answer, or a file is damaged here.",
}
_OF_TOKENS: Final = {"401": "A valid token is needed.", "410": "The release was revoked."}
_OF_AGREEMENTS: Final = {"409": "The agreement has changed.", "410": "The release was revoked."}
_OF_FILES: Final = {
    "206": "A part of the file.",
    "304": "What you have is what there is.",
}
_METHODS: Final = ("get", "head", "post", "delete", "put", "patch")


def describe(app: FastAPI) -> None:
    """Let the application give the full description."""
    found = app.openapi

    def whole() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(found())
        return app.openapi_schema

    app.openapi = whole  # type: ignore[method-assign]


def _completed(schema: dict[str, Any]) -> dict[str, Any]:
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in schema["paths"].items():
        for method in _METHODS:
            if method in operations:
                _complete(path, method, operations[method])
    return schema


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    refusals = dict(_EVERYWHERE)
    responses = operation["responses"]
    if path.endswith(("/files/{path}", "/access/{access_id}")):
        refusals |= _OF_TOKENS
        operation["security"] = [{}, {"token": []}]
    elif path.endswith("/tokens/current"):
        refusals |= _OF_TOKENS
        operation["security"] = [{"token": []}]
    elif path.endswith("/agreements") and method == "post":
        refusals |= _OF_AGREEMENTS
    if path.endswith(("/files/{path}", "/manifest")):
        responses["200"] = {"description": "The file.", "content": {"*/*": {"schema": {}}}}
        for status, words in _OF_FILES.items():
            responses[status] = {"description": words}
        refusals["416"] = "Nothing of the file lies there."
        responses["416"] = {"description": refusals.pop("416")}
    for status, words in refusals.items():
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        responses[status] = {"description": words, "content": content}
