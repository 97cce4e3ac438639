"""Errors as problem documents of RFC 9457, "Problem Details for HTTP APIs".

A route raises FastAPI's HTTPException; its `detail` is a sentence that says what happened and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from edge.interfaces.json_document import sentence_of
from edge.interfaces.web.json_answer import JsonAnswer

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """An error: what it is, and what to do about it."""

    type: str = Field("about:blank", description="what kind of problem; about:blank: nothing beyond the status")
    title: str = Field(description="the status in words", examples=["Too Many Requests"])
    status: int = Field(description="the HTTP status", examples=[429])
    detail: str = Field(description="a sentence that says what happened and what to do")


def problem_of(status: int, detail: str) -> Problem:
    """The document of a status and a sentence."""
    return Problem(type="about:blank", title=HTTPStatus(status).phrase, status=status, detail=detail)


def problem_response(status: int, detail: str, headers: Mapping[str, str] | None = None, *, path: str) -> JsonAnswer:
    """The document as a response; below /v2, `path` is KServe's, whose errors have another form."""
    if path == "/v2" or path.startswith("/v2/"):
        return JsonAnswer({"error": detail}, status, headers)
    return JsonAnswer(problem_of(status, detail).model_dump(), status, headers, media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These problems for a route's OpenAPI `responses`."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


class InferenceError(BaseModel):
    """An error of KServe's protocol."""

    error: str = Field(description="a sentence that says what happened and what to do")


def documented_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These errors of KServe's protocol for a route's OpenAPI `responses`."""
    return {status: {"description": HTTPStatus(status).phrase, "model": InferenceError} for status in statuses}


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""

    @app.exception_handler(StarletteHTTPException)
    async def http(request: Request, error: StarletteHTTPException) -> JsonAnswer:
        # Starlette's own errors, such as that of an unknown path, have no sentence but only the status in words.
        of_a_route = isinstance(error, HTTPException)
        detail = error.detail if of_a_route else f"{request.method} {request.scope['path']}: {error.detail}"
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = headers.get("Allow", "GET")  # Starlette names none for a static file
            headers["Allow"] = allowed.replace("GET", "GET, HEAD") if "HEAD" not in allowed else allowed
        return problem_response(error.status_code, detail, headers, path=request.scope["path"])

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JsonAnswer:
        return problem_response(422, sentence_of(error.errors()), path=request.scope["path"])

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JsonAnswer:
        sentence = "The daemon failed to answer because of a fault in it; its log has the details."
        return problem_response(500, sentence, path=request.scope["path"])
