"""Tests how clients send photos to /predict, how many classes they ask for, and what a bad photo costs the others."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.interfaces.web import photo_upload
from tests.interfaces.web.box import CLASSES, MODEL, Box, has, photo, running

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with running() as started:
        assert has(started.recent.latest)
        yield started


def curl(box: Box, *arguments: str | Path, path: str = "/predict") -> tuple[int, Any]:
    """The status and the document that curl gets; it exits with 0 only if the whole exchange worked."""
    done = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", *map(str, arguments), box.server.address + path],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    document, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(document)


@needs_curl
@pytest.mark.parametrize(
    "arguments",
    [
        ["-T", "{photo}"],  # PUT without a type
        ["-T", "{photo}", "-H", "Content-Type: image/png"],
        ["-T", "{photo}", "-H", "Content-Type: IMAGE/X-anything; charset=binary"],
        ["-T", "{photo}", "-H", "Content-Type: application/octet-stream"],
        ["-T", "-", "-H", "Content-Type: image/png"],  # from the standard input: chunked
        ["-T", "{photo}", "-X", "POST"],
        ["--data-binary", "@{photo}"],  # POST with the type of a form
        ["--data-binary", "@{photo}", "-H", "Content-Type: image/png"],
        ["--data-binary", "@{photo}", "-H", "Content-Type:"],
        ["-T", "{photo}", "-H", "Expect: 100-continue"],
        ["--data-binary", "@{photo}", "-H", "Transfer-Encoding: chunked"],
    ],
)
def test_a_photo_as_the_whole_body_is_classified_however_curl_sends_it(
    box: Box, tmp_path: Path, arguments: list[str]
) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(photo(6))
    command = ["curl", "-sS", "-f", *(part.format(photo=file) for part in arguments), f"{box.server.address}/predict"]
    with file.open("rb") as stream:
        done = subprocess.run(command, stdin=stream, capture_output=True, timeout=30, check=True)
    assert json.loads(done.stdout)["top"][0] == {"label": "class 6", "confidence": 86.0, "index": 6}


@needs_curl
def test_a_body_that_is_no_photo_is_refused_with_the_ways_to_send_one(box: Box, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"\xff" * (photo_upload.MAX_BODY_BYTES + 1))
    torn = tmp_path / "torn.png"
    torn.write_bytes(photo(1)[:-20])
    stripped = tmp_path / "stripped.png"  # as `curl -d @` sends it
    stripped.write_bytes(photo(1).translate(None, b"\0\r\n"))
    for arguments, status, sentence in (
        (["-d", "file=cat.jpg"], 415, "curl -T cat.jpg"),
        (["-d", f"@{stripped}"], 415, "removes bytes"),
        (["-T", torn, "-H", "Content-Type: image/png"], 422, "truncated"),
        (["-T", large, "-H", "Content-Type: image/jpeg"], 413, "12 MiB"),
        (["-T", large, "-H", "Transfer-Encoding: chunked"], 413, "12 MiB"),
        (["-X", "PUT"], 400, "curl -F file=@cat.jpg"),
        (["-X", "POST"], 400, "holds no photo"),
        (["-T", torn, "-H", "Content-Type: video/mp4"], 415, "video/mp4"),
        (["-T", torn, "-H", "Content-Type: multipart/mixed; boundary=a"], 415, "multipart/mixed"),
        (["-T", torn, "-H", "Content-Type: image/png", "-H", "Content-Encoding: gzip"], 415, "Content-Encoding"),
    ):
        got, problem = curl(box, *arguments)
        assert (got, problem["status"]) == (status, status), arguments
        assert sentence in problem["detail"], arguments


def test_as_many_classes_are_returned_as_the_client_asks_for(box: Box) -> None:
    content = photo(2, width=41)
    text = base64.b64encode(content).decode()
    raw = {"content": content, "headers": {"content-type": "image/png"}}
    several = [("file", content), ("file", photo(3, width=41))]
    for query, sent, expected in (
        ("", raw, 3),
        ("?top=1", raw, 1),
        ("?top=8", raw, CLASSES),
        ("?top=2", {"files": {"file": content}}, 2),
        ("", {"files": {"file": content}, "data": {"top": "5"}}, 5),
        ("", {"json": {"image": text, "top": 4}}, 4),
        ("", {"json": {"image": text, "top": "4"}}, 4),
        ("?top=2", {"json": {"image": text, "top": 4}}, 2),
        ("?top=1", {"files": several}, 1),
    ):
        answer = box.client.post(f"/predict{query}", **sent)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        for one in answer.json() if isinstance(answer.json(), list) else [answer.json()]:
            assert len(one["top"]) == expected, (query, sent)
            assert [label["confidence"] for label in one["top"]] == [86.0, *[2.0] * (expected - 1)]
            assert len({label["index"] for label in one["top"]}) == expected


@pytest.mark.parametrize("top", ["0", "-1", "9", "1001", "99999999999999999999", "abc", "2.5", "", "1e1", "٣", "null"])
def test_a_number_of_classes_that_the_model_does_not_have_is_refused(box: Box, top: str) -> None:
    content = photo(2, width=43)
    before = box.status.snapshot().counters["photos_classified"]
    for answer in (
        box.client.post("/predict", params={"top": top}, files={"file": content}),
        box.client.post("/predict", data={"top": top}, files={"file": content}),
        box.client.post("/predict?top=1", data={"top": top}, files={"file": content}),
        box.client.post("/predict", json={"image": base64.b64encode(content).decode(), "top": top}),
    ):
        assert answer.status_code == 422, answer.text
        assert "top" in answer.json()["detail"]
    for value in (True, [3], {}, 2.5, 0, -1, 9):
        answer = box.client.post("/predict", json={"image": base64.b64encode(content).decode(), "top": value})
        assert answer.status_code == 422, value
    assert box.status.snapshot().counters["photos_classified"] == before


def test_a_bad_photo_does_not_refuse_the_others_of_its_request(box: Box) -> None:
    good, torn = photo(5, width=47), photo(1)[:-20]
    files = [("a.png", good), ("b.png", torn), ("c.png", b""), ("d.png", photo(1, 8000, 8000)), ("e.png", good)]
    answer = box.client.post("/predict", files=[("file", file) for file in files])
    assert answer.status_code == 207
    results = answer.json()
    assert [one.get("status", 200) for one in results] == [200, 422, 422, 413, 200]
    assert [one["top"][0]["index"] for one in (results[0], results[4])] == [5, 5]
    for name, problem in zip("bcd", results[1:4], strict=True):
        alone = box.client.post("/predict", files={"file": dict(files)[f"{name}.png"]}, headers={})
        assert set(problem) == set(alone.json())
        assert f"{name}.png" in problem["detail"]

    texts = [base64.b64encode(good).decode(), "?", "", base64.b64encode(torn).decode()]
    answer = box.client.post("/predict", json={"images": texts})
    assert answer.status_code == 207
    assert [one.get("status", 200) for one in answer.json()] == [200, 400, 422, 422]
    assert "Photo 2 is not base64" in answer.json()[1]["detail"]


def test_a_request_of_which_every_photo_is_bad_is_an_error(box: Box) -> None:
    torn = photo(1)[:-20]
    answer = box.client.post("/predict", files=[("file", ("a.png", torn)), ("file", ("b.png", b""))])
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert all(name in answer.json()["detail"] for name in ("a.png", "b.png"))


def test_photos_for_which_the_box_has_no_time_are_marked_so_and_the_others_are_answered(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = photo(3, width=53)
    assert box.client.post("/predict", files={"file": known}).status_code == 200
    monkeypatch.setattr("edge.interfaces.web.predictor.ANSWER_WITHIN_S", 0.2)
    box.model.hold.clear()
    try:
        files = [("file", known), ("file", photo(3, width=55)), ("file", photo(3, width=57))]
        answer = box.client.post("/predict", files=files)
    finally:
        box.model.hold.set()
    assert answer.status_code == 207
    assert [one.get("status", 200) for one in answer.json()] == [200, 503, 503]
    assert answer.headers["retry-after"] == "5"


def test_the_labels_are_listed_with_their_index_and_sent_again_only_if_the_model_changes(box: Box) -> None:
    answer = box.client.get("/api/labels")
    assert answer.json() == {
        "model": MODEL["name"],
        "labels": [{"index": n, "label": f"class {n}"} for n in range(CLASSES)],
    }
    assert answer.headers["cache-control"] == "no-cache"
    for sent in (answer.headers["etag"], f'"x", W/{answer.headers["etag"]}', "*"):
        again = box.client.get("/api/labels", headers={"if-none-match": sent})
        assert (again.status_code, again.content) == (304, b""), sent
    box.described["name"] = "other-int8-000000"
    try:
        changed = box.client.get("/api/labels", headers={"if-none-match": answer.headers["etag"]})
        assert (changed.status_code, changed.json()["model"]) == (200, "other-int8-000000")
    finally:
        box.described["name"] = MODEL["name"]


@needs_curl
@pytest.mark.parametrize("path", ["/predict", f"/v2/models/{MODEL['name']}/infer"])
def test_the_documented_line_sends_base64_of_an_ordinary_photo(box: Box, tmp_path: Path, path: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (500, 500, 3), np.uint8)
    (tmp_path / "cat.jpg").write_bytes(cv2.imencode(".png", noise)[1].tobytes())  # 750 kB; an argument has 128 KiB
    shell = "".join(re.findall(r"```sh\n(.*?)```", Path("docs/web.md").read_text(encoding="utf-8"), re.DOTALL))
    shell = shell.replace("resnet18-int8-91a9fb", str(MODEL["name"]))
    (command,) = re.findall(rf"(?m)^\(printf(?:[^\n]|\n )*--json @- \S+{re.escape(path)}$", shell)
    command = command.replace("http://127.0.0.1:5000", box.server.address)
    done = subprocess.run(["bash", "-c", command + " -sSf"], cwd=tmp_path, capture_output=True, timeout=30, check=True)
    assert json.loads(done.stdout).keys() >= ({"top"} if path == "/predict" else {"outputs"})
