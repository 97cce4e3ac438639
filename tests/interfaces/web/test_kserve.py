"""Tests KServe's Open Inference Protocol, with the requests and the mistakes of its clients."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge import __version__
from edge.interfaces.web import photo_upload
from tests.interfaces.web.box import CLASSES, MODEL, Box, has, photo, running

NAME = str(MODEL["name"])
INFER = f"/v2/models/{NAME}/infer"


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with running() as started:
        assert has(started.recent.latest)
        yield started


def tensor(*contents: bytes, **other: Any) -> dict[str, Any]:
    """The input for these photos."""
    data = [base64.b64encode(content).decode() for content in contents]
    return {"name": "image", "shape": [len(data)], "datatype": "BYTES", "data": data} | other


def outputs(answer: Any) -> dict[str, Any]:
    """The answer's tensors by name, with their shape and data."""
    assert answer.status_code == 200, answer.text
    return {one["name"]: (one["datatype"], one["shape"], one["data"]) for one in answer.json()["outputs"]}


def test_a_client_learns_what_serves_it_and_what_the_model_takes(box: Box) -> None:
    server = {"name": "edge-classifier", "version": __version__, "extensions": []}
    assert box.client.get("/v2").json() == box.client.get("/v2/").json() == server
    for path in (f"/v2/models/{NAME}", f"/v2/models/{NAME}/versions/1"):
        assert box.client.get(path).json() == {
            "name": NAME,
            "versions": ["1"],
            "platform": "pytorch_torchscript",
            "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [
                {"name": "labels", "datatype": "BYTES", "shape": [-1, -1]},
                {"name": "scores", "datatype": "FP32", "shape": [-1, -1]},
                {"name": "indices", "datatype": "INT64", "shape": [-1, -1]},
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, CLASSES]},
            ],
        }
        assert box.client.get(f"{path}/ready").json() == {"name": NAME, "ready": True}


def test_photos_become_rows_of_tensors(box: Box) -> None:
    request = {"id": "42", "inputs": [tensor(photo(3), photo(6))]}
    for path in (INFER, f"/v2/models/{NAME}/versions/1/infer"):
        answer = box.client.post(path, json=request)
        document = answer.json()
        assert (document["id"], document["model_name"], document["model_version"]) == ("42", NAME, "1")
        found = outputs(answer)
        assert list(found) == ["labels", "scores", "indices", "probabilities"]
        assert found["labels"][:2] == ("BYTES", [2, 3])
        assert [found["labels"][2][row] for row in (0, 3)] == ["class 3", "class 6"]
        assert found["indices"] == ("INT64", [2, 3], [3, 0, 1, 6, 0, 1])
        assert found["scores"] == ("FP32", [2, 3], [0.86, 0.02, 0.02] * 2)
        assert found["probabilities"][1] == [2, CLASSES]
        assert found["probabilities"][2][CLASSES + 6] == 0.86


def test_a_client_gets_the_outputs_and_as_many_classes_as_it_asks_for(box: Box) -> None:
    wanted = [{"name": "indices"}, {"name": "labels", "parameters": {"binary_data": False}}]
    request = {"inputs": [tensor(photo(5))], "outputs": wanted, "parameters": {"top": 1, "trace": "x"}}
    answer = box.client.post(INFER, json=request)
    assert outputs(answer) == {"indices": ("INT64", [1, 1], [5]), "labels": ("BYTES", [1, 1], ["class 5"])}
    assert list(outputs(answer)) == ["indices", "labels"]
    assert "id" not in answer.json()


@pytest.mark.parametrize("shape", [[1, 1], [1, 1, 1]])
def test_the_data_may_be_nested_as_its_shape_says(box: Box, shape: list[int]) -> None:
    image = tensor(photo(4), shape=shape)
    nested: Any = image["data"]
    for _ in shape[1:]:
        nested = [nested]
    for data in (image["data"], nested):
        assert outputs(box.client.post(INFER, json={"inputs": [image | {"data": data}]}))["indices"][2][0] == 4


TEXT = "aGVsbG8="


@pytest.mark.parametrize(
    ("request_", "status", "sentence"),
    [
        ({"inputs": [tensor(b"a"), tensor(b"b")]}, 400, "inputs"),
        ({"inputs": []}, 400, "inputs"),
        ({}, 400, "inputs"),
        ([], 400, "The request"),
        ({"inputs": [tensor(b"a", name="input0")]}, 400, "'image'"),
        ({"inputs": [tensor(b"a", datatype="UINT8")]}, 400, "'BYTES'"),
        ({"inputs": [tensor(b"a", datatype="bytes")]}, 400, "'BYTES'"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]}, 400, "data"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "data": [TEXT]}]}, 400, "shape"),
        ({"inputs": [tensor(b"a", shape=[2])]}, 400, "must be [1]"),
        ({"inputs": [tensor(b"a", b"b", shape=[1, 2])]}, 400, "must be [2]"),
        ({"inputs": [tensor(b"a", shape=[-1])]}, 400, "shape"),
        ({"inputs": [tensor(b"a", shape=[])]}, 400, "shape"),
        ({"inputs": [tensor(b"a", shape=[1.5])]}, 400, "shape"),
        ({"inputs": [tensor(shape=[0])]}, 400, "no photo"),
        ({"inputs": [tensor(data=[1], shape=[1])]}, 400, "base64"),
        ({"inputs": [tensor(data=TEXT)]}, 400, "data"),
        ({"inputs": [tensor(data=["?"], shape=[1])]}, 400, "Photo 1 is not base64"),
        ({"inputs": [tensor(photo(1), b"no photo")]}, 422, "photo 2 is not a photo"),
        ({"inputs": [tensor(photo(1)[:-20])]}, 422, "truncated"),
        ({"inputs": [tensor(photo(1, 8000, 8000))]}, 413, "8000×8000"),
        ({"inputs": [tensor(*[b"a"] * 17)]}, 413, "at most 16"),
        ({"inputs": [tensor(b"x" * photo_upload.MAX_BODY_BYTES)]}, 413, "12 MiB"),
        ({"inputs": [tensor(photo(1))], "outputs": [{"name": "logits"}]}, 400, "outputs"),
        ({"inputs": [tensor(photo(1))], "parameters": {"top": 0}}, 422, "top must be 1 to 8"),
        ({"inputs": [tensor(photo(1))], "parameters": {"top": 9}}, 422, "top must be 1 to 8"),
        ({"inputs": [tensor(photo(1))], "parameters": {"top": "many"}}, 422, "whole number"),
        ({"inputs": [tensor(photo(1))], "parameters": {"binary_data_output": True}}, 400, "binary_data_output"),
        ({"inputs": [tensor(photo(1), parameters={"binary_data_size": 9})]}, 400, "binary_data_size is not supported"),
        ({"inputs": [tensor(photo(1))], "outputs": [{"name": "labels", "parameters": {"classification": 3}}]}, 400,
         "classification is not supported"),
        ({"inputs": [tensor(photo(1), parameters={"shared_memory_region": "a"})]}, 400, "shared_memory_region"),
        ({"inputs": [tensor(photo(1))], "id": 5}, 400, "id"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_in_the_form_of_the_protocol(
    box: Box, request_: Any, status: int, sentence: str
) -> None:
    answer = box.client.post(INFER, json=request_)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert sentence in answer.json()["error"]
    assert answer.headers["content-type"] == "application/json"


def test_bodies_that_are_no_request_are_refused_in_the_form_of_the_protocol(box: Box) -> None:
    for content, headers, status, sentence in (
        (b"", {}, 400, "JSON"),
        (b"not JSON", {}, 400, "JSON"),
        (b"[" * 10**6, {}, 400, "JSON"),
        (b'{"inputs": [' + b"{}," * 5000 + b"{}]}", {}, 400, "more than 1000 values"),
        (photo(1), {"content-type": "image/png"}, 400, "JSON"),
        (b'{"inputs": []}\x00\x00', {"inference-header-content-length": "14"}, 400, "binary tensors"),
        (b"\x1f\x8b", {"content-encoding": "gzip"}, 415, "Content-Encoding"),
    ):
        answer = box.client.post(INFER, content=content, headers=headers)
        assert (answer.status_code, list(answer.json())) == (status, ["error"]), answer.text
        assert sentence in answer.json()["error"]


def test_a_model_or_version_that_is_not_there_is_not_found(box: Box) -> None:
    for path in ("resnet18", f"{NAME}/versions/2", f"{NAME}/versions/", NAME.upper(), "%2e%2e"):
        for rest, method in (("", "GET"), ("/ready", "GET"), ("/infer", "POST")):
            answer = box.client.request(method, f"/v2/models/{path}{rest}", json={"inputs": [tensor(photo(1))]})
            assert answer.status_code == 404, (path, rest)
            assert list(answer.json()) == ["error"]
    assert f"{NAME} is in use" in box.client.get("/v2/models/resnet18").json()["error"]
    for path in ("/v2/nothing", "/v2/models"):
        assert list(box.client.get(path).json()) == ["error"]
    assert box.client.get(INFER).status_code == 405
    assert box.client.get(INFER).headers["allow"] == "POST"


def test_the_box_classifies_photos_without_a_camera_and_says_so_without_a_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef-of-a-test")
    with running(token_file=token) as box:
        box.status.gauge(camera="waiting", camera_error="There is no camera; plug one in.")
        for path, document in (("live", {"live": True}), ("ready", {"ready": True})):
            answer = box.client.get(f"/v2/health/{path}", headers={"host": "any.example"})
            assert (answer.status_code, answer.json()) == (200, document)
        for path in ("/v2", f"/v2/models/{NAME}", f"/v2/models/{NAME}/ready"):
            refused = box.client.get(path)
            assert (refused.status_code, list(refused.json())) == (401, ["error"])
        assert box.client.post(INFER, json={"inputs": [tensor(photo(2))]}).status_code == 401
        box.client.headers["authorization"] = f"Bearer {token.read_text()}"
        assert outputs(box.client.post(INFER, json={"inputs": [tensor(photo(2))]}))["indices"][2][0] == 2


@pytest.mark.parametrize("shape", [[True], ["1"], [1.0], [1, True]])
def test_a_shape_is_of_whole_numbers(box: Box, shape: list[object]) -> None:
    assert box.client.post(INFER, json={"inputs": [tensor(photo(3), shape=shape)]}).status_code == 400
