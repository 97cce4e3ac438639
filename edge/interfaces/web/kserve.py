"""`/v2`: KServe's Open Inference Protocol over HTTP, for clients of model servers, beside `/predict`.

The model's input is `image`, a tensor of BYTES with one photo in base64 for each element. Its outputs are the most
probable classes (`labels`, `scores`, `indices`) and the `probabilities` of all classes, with one row for each photo.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import models_json_schema

from edge import __version__
from edge.events import top_k
from edge.interfaces.json_document import parse_json, sentence_of
from edge.interfaces.web.daemon_access import DaemonAccess
from edge.interfaces.web.json_answer import JsonAnswer
from edge.interfaces.web.photo_upload import MAX_PHOTOS, from_base64, read_body, refuse_unless_among, top_of
from edge.interfaces.web.predictor import TOP, Predictor, Result, one_error
from edge.interfaces.web.problem_details import documented_errors
from edge.vision.engines import engine_named

VERSION = "1"  # a bundle's name changes with its content, so it has no other
INPUT = "image"
OUTPUTS = {"labels": "BYTES", "scores": "FP32", "indices": "INT64", "probabilities": "FP32"}
# Extensions of other servers that would change the form of the request or of the answer.
UNSUPPORTED = {
    *("binary_data", "binary_data_size", "binary_data_output", "classification"),
    *("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"),
}
TEXT_ONLY = "this box sends and takes tensors as JSON only, with photos in base64"


def _supported(parameters: dict[str, Any]) -> dict[str, Any]:
    for key in UNSUPPORTED & parameters.keys():
        if parameters[key] is not False:
            raise ValueError(f"{key} is not supported; {TEXT_ONLY}")
    return parameters


Parameters = Annotated[dict[str, Any], AfterValidator(_supported)]


class TensorOut(BaseModel):
    """A tensor's name and kind; -1: any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """What the model takes and returns."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorOut]
    outputs: list[TensorOut]


class ServerMetadata(BaseModel):
    """What serves the model."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """That the daemon answers."""

    live: bool


class Ready(BaseModel):
    """That photos are classified."""

    ready: bool


class ModelReady(BaseModel):
    """That this model classifies photos."""

    name: str
    ready: bool


class InferInput(BaseModel):
    """The photos, in base64."""

    name: Literal["image"]
    shape: list[Annotated[int, Field(ge=0, strict=True)]] = Field(description="[photos], or [photos, 1]", min_length=1)
    datatype: Literal["BYTES"]
    parameters: Parameters = {}
    data: list[Any] = Field(description="one text for each photo, nested as `shape` says or flat")


class InferOutput(BaseModel):
    """An output that is wanted."""

    name: Literal["labels", "scores", "indices", "probabilities"]
    parameters: Parameters = {}


class InferRequest(BaseModel):
    """Photos to classify."""

    id: str | None = Field(None, description="returned in the answer")
    parameters: Parameters = Field({}, description="`top`: so many classes of each photo; 3, if it is not given")
    inputs: list[InferInput] = Field(min_length=1, max_length=1)
    outputs: list[InferOutput] = Field([], description="all, if none is given")


class TensorData(TensorOut):
    """A tensor with its elements, row after row."""

    data: list[str] | list[int] | list[float]


class InferResponse(BaseModel):
    """The model's outputs."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[TensorData]


def request_schemas() -> dict[str, Any]:
    """The schema of an inference request and of its parts, for the components of the OpenAPI document."""
    _, document = models_json_schema([(InferRequest, "validation")], ref_template="#/components/schemas/{model}")
    schemas: dict[str, Any] = document["$defs"]
    return schemas


def make_router(predictor: Predictor, daemon: DaemonAccess) -> APIRouter:
    """The routes of the protocol.

    Args:
        predictor: classifies the photos.
        daemon: source of the model's name and its number of classes.
    """

    async def is_the_model(name: str) -> None:
        running = daemon.model()["name"]
        if name != running:
            raise HTTPException(404, f"There is no model {name:.100}; {running} is in use.")

    async def is_the_version(version: str) -> None:
        if version != VERSION:
            raise HTTPException(404, f"The model has no version {version:.100}; its only one is {VERSION}.")

    router, models = APIRouter(tags=["kserve"]), APIRouter(tags=["kserve"])
    _add_server(router)
    _add_model(models, predictor, daemon)
    one, versions = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
    router.include_router(models, prefix=one, dependencies=[Depends(is_the_model)])
    router.include_router(models, prefix=versions, dependencies=[Depends(is_the_model), Depends(is_the_version)])
    return router


def _add_server(router: APIRouter) -> None:
    @router.get("/v2/", include_in_schema=False)
    @router.get("/v2", summary="The server", responses=documented_errors(401, 403))
    async def server() -> ServerMetadata:
        return ServerMetadata(name="edge-classifier", version=__version__, extensions=[])

    @router.get("/v2/health/live", summary="Whether the daemon answers")
    async def live() -> Live:
        return Live(live=True)

    @router.get("/v2/health/ready", summary="Whether photos are classified, with or without a camera")
    async def ready() -> Ready:
        return Ready(ready=True)  # the page is served once the model is loaded


def _add_model(router: APIRouter, predictor: Predictor, daemon: DaemonAccess) -> None:
    refusals = documented_errors(401, 403, 404, 422)

    @router.get("", summary="What the model takes and returns", responses=refusals)
    async def metadata() -> ModelMetadata:
        model = daemon.model()
        rows = {"probabilities": model["classes"]}
        return ModelMetadata(
            name=model["name"],
            versions=[VERSION],
            platform=engine_named(model["engine"]["name"]).PLATFORM,
            inputs=[TensorOut(name=INPUT, datatype="BYTES", shape=[-1])],
            outputs=[TensorOut(name=n, datatype=kind, shape=[-1, rows.get(n, -1)]) for n, kind in OUTPUTS.items()],
        )

    @router.get("/ready", summary="Whether the model classifies photos", responses=refusals)
    async def ready() -> ModelReady:
        return ModelReady(name=daemon.model()["name"], ready=True)

    body = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}}},
    }

    @router.post(
        "/infer",
        summary="Classify photos",
        response_model=InferResponse,
        responses=documented_errors(400, 401, 403, 404, 408, 413, 415, 422, 429, 503),
        openapi_extra={"requestBody": body},
    )
    async def infer(request: Request) -> JsonAnswer:
        async with predictor.place():
            wanted = _checked(await predictor.received(_read(request)))
            top = top_of(wanted.parameters.get("top"))
            refuse_unless_among(daemon.model()["classes"], top)
            photos = [from_base64(text, f"photo {n}") for n, text in enumerate(_photos(wanted.inputs[0]), 1)]
            results = await predictor.results(photos)
        # A tensor has no place for an error, so one bad photo refuses the request.
        if errors := [result for result in results if isinstance(result, HTTPException)]:
            raise one_error(errors)
        good = [result for result in results if isinstance(result, Result)]
        names = [output.name for output in wanted.outputs] or OUTPUTS
        answer = {"model_name": good[0].found.model, "model_version": VERSION}
        named = {} if wanted.id is None else {"id": wanted.id}
        return JsonAnswer({**answer, **named, "outputs": _tensors(names, good, top or TOP)})


async def _read(request: Request) -> bytes:
    if "inference-header-content-length" in request.headers:
        raise HTTPException(400, f"The extension for binary tensors is not supported; {TEXT_ONLY}.")
    return await read_body(request)


def _checked(body: bytes) -> InferRequest:
    try:
        return InferRequest.model_validate(parse_json(body))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise HTTPException(400, sentence_of(faults)) from error
    except ValueError as error:
        raise HTTPException(400, f"The body is not JSON: {error}.") from error


def _photos(tensor: InferInput) -> list[str]:
    texts = tensor.data
    while any(isinstance(text, list) for text in texts):
        texts = [part for text in texts for part in (text if isinstance(text, list) else [text])]
    if not all(isinstance(text, str) for text in texts):
        raise HTTPException(400, f"The data of {INPUT} must be texts, each with a photo in base64.")
    if tensor.shape[0] != len(texts) or any(side != 1 for side in tensor.shape[1:]):
        raise HTTPException(400, f"The shape of {INPUT} must be [{len(texts)}], the number of photos in data.")
    if not texts:
        raise HTTPException(400, f"The data of {INPUT} holds no photo.")
    if len(texts) > MAX_PHOTOS:
        raise HTTPException(413, f"The request holds {len(texts)} photos; send at most {MAX_PHOTOS}.")
    return texts


def _tensors(names: Iterable[str], results: list[Result], top: int) -> list[Mapping[str, Any]]:
    data: dict[str, list[Any]] = {name: [] for name in OUTPUTS}
    for result in results:
        probabilities = [round(float(one), 6) for one in result.found.probabilities]
        best = top_k(result.found.probabilities, result.found.labels, top)
        data["labels"] += [label.label for label in best]
        data["scores"] += [probabilities[label.index] for label in best]
        data["indices"] += [label.index for label in best]
        data["probabilities"] += probabilities
    return [
        {
            "name": name,
            "datatype": OUTPUTS[name],
            "shape": [len(results), len(data[name]) // len(results)],
            "data": data[name],
        }
        for name in names
    ]
