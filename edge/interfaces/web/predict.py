"""`/predict`: the labels of photos, sent as a form, as base64 in JSON, or one as the whole body."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field

from edge.events import Label, top_k
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.json_answer import JsonAnswer
from edge.interfaces.web.photo_upload import MAX_BODY_BYTES, MAX_PHOTOS, REQUEST_BODY, read_photos, refuse_unless_among
from edge.interfaces.web.predictor import BUSY, TOP, Predictor, Result
from edge.interfaces.web.problem_details import Problem, documented, problem_of
from edge.photos.decode import MAX_PIXELS


class Answer(BaseModel):
    """The answer for one photo."""

    top: tuple[Label, ...] = Field(description="the most probable classes, most probable first; three, if not `top`")
    model: str = Field(description="the bundle that answered", examples=["resnet18-int8-3fa9c1"])
    latency_ms: dict[str, float] = Field(description="decode, preprocess, inference, and total with the waiting")
    cached: bool = Field(description="whether this is the kept answer to the same photo, sent earlier")


DESCRIPTION = f"""Classify one photo or several (JPEG, PNG, WebP, BMP or TIFF; GIF and AVIF where OpenCV
reads them; of an animation the first picture).

`curl -F file=@cat.jpg …/predict`, the photo itself as the body (`curl -T cat.jpg …/predict`), or JSON: `{{"image":
"<base64>"}}`, `{{"images": [...]}}`. One photo gives one object, several an array in their order. At most {MAX_PHOTOS}
photos, {MAX_BODY_BYTES >> 20} MiB in all and {MAX_PIXELS // 1_000_000} megapixels each. `top`, also as a field of the
form or of the JSON, is how many classes are returned. If some of several photos cannot be classified, the status is 207
and each of these has a problem document in its place. The camera goes first: when too many ask at once, the rest gets
429 with `Retry-After`."""

Top = Annotated[int | None, Query(ge=1, description=f"so many classes; {TOP}, if it is not given")]


def _document(result: Result | HTTPException, top: int) -> dict[str, Any]:
    if isinstance(result, HTTPException):
        return problem_of(result.status_code, result.detail).model_dump()
    found = result.found
    labels = found.top if top == TOP else top_k(found.probabilities, found.labels, top)
    answer = Answer(top=labels, model=found.model, latency_ms=dict(result.latency_ms), cached=result.cached)
    return answer.model_dump()


def make_router(predictor: Predictor, daemon: DaemonAccess) -> APIRouter:
    """The routes of `/predict`: POST, and PUT because `curl -T` sends that.

    Args:
        predictor: classifies the photos.
        daemon: source of the number of classes.
    """
    router = APIRouter()

    async def predict(request: Request, top: Top = None) -> Response:
        classes = daemon.model()["classes"]
        refuse_unless_among(classes, top)
        async with predictor.place():
            sent = await predictor.received(read_photos(request))
            refuse_unless_among(classes, sent.top)
            results = await predictor.results(sent.photos)
        documents = [_document(result, top or sent.top or TOP) for result in results]
        if len(documents) == 1:
            return JsonAnswer(documents[0])
        errors = [result for result in results if isinstance(result, HTTPException)]
        busy = next((error.headers for error in errors if error.status_code in BUSY), None)
        return JsonAnswer(documents, 207 if errors else 200, busy)

    # Answers both methods, so that a 405 names both in Allow. Those below are for the OpenAPI document, where each
    # needs an id.
    router.add_api_route("/predict", predict, methods=["POST", "PUT"], include_in_schema=False, response_model=None)
    for method in ("POST", "PUT"):
        router.add_api_route(
            "/predict",
            predict,
            methods=[method],
            operation_id=f"predict_{method.lower()}",
            summary="Classify photos",
            description=DESCRIPTION,
            response_model=Answer | list[Answer],
            responses={
                207: {"model": list[Answer | Problem], "description": "Some of the photos have a problem instead"},
                **documented(400, 401, 403, 408, 413, 415, 422, 429, 503),
            },
            openapi_extra={"requestBody": REQUEST_BODY},
            tags=["photos"],
        )
    return router
