"""Tests that a model that disagrees with FP32 is not installed, with the user's photos and without any."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from edge.errors import BundleError
from edge.events import Probabilities
from edge.frames import Pixels
from edge.photos.folders import photos_in
from edge.vision.manifest import Agreement, Engine, GoldenClass, Manifest, Origin, Quantization
from edge.workshop.export import exporter
from edge.workshop.export.exporter import export_bundle
from edge.workshop.export.judge import agreement as judge
from edge.workshop.export.judge.agreement import Latency, measure_agreement, refuse_below
from edge.workshop.export.judge.report import Exported
from edge.workshop.export.judge.views import GOLDEN_PHOTO, SHIPPED, of_photos, shipped_views
from edge.workshop.export.network.architectures import architecture
from edge.workshop.export.network.float_network import FloatNetwork
from edge.workshop.export.quantize.ranges import Range, data_free_ranges
from edge.workshop.export.weights.state_dict import Weights
from tests.daemon_process import CHECKOUT
from tests.workshop.export.trained_like import trained_like


def narrow(network: FloatNetwork) -> dict[str, Range]:
    """Ranges that cut off so much that only the golden photo is still answered correctly."""
    part = {"resnet18": 0.4, "efficientnet_lite0": 0.85}[network.architecture.name]
    return {
        name: found if name == "pixels" else Range(found.low * part, found.high * part)
        for name, found in data_free_ranges(network).items()
    }


@pytest.mark.parametrize("given", [False, True])
def test_a_model_below_the_least_agreement_is_refused_with_the_number_and_not_installed(
    weights: Weights, testdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    """The golden photo alone does not reveal it, because the model is very sure of that one."""
    monkeypatch.setattr(exporter, "data_free_ranges", narrow)
    monkeypatch.setattr(judge, "MIN_CORRELATION", 0)  # it would refuse EfficientNet-Lite0 first
    photos = photos_in(testdata / "photos" / "labelled")[::4] if given else []
    golden = SHIPPED / "camera.jpg"
    taken = export_bundle(weights, tmp_path / "taken", photos=photos, golden=golden, min_agreement=0)
    found = taken.agreement
    assert taken.manifest.agreement == found
    assert found.on == ("photos" if given else "shipped")
    assert found.top1_or_tie is not None
    assert found.top1_or_tie < 99  # with sound ranges it is 100 % of the views
    of = f"{found.photos} {'photos' if given else 'views of shipped photos'}"
    with pytest.raises(BundleError) as refused:
        export_bundle(weights, tmp_path / "models", photos=photos, golden=golden, min_agreement=99)
    message = f"INT8 agrees with FP32 on {found.top1_or_tie:.1f} % of {of}, and 99 % are the least; "
    assert str(refused.value).startswith(message)
    assert "--calibrate DIR" in str(refused.value)
    assert "correlate" not in str(refused.value)
    assert not (tmp_path / "models").exists()


class Answers(torch.nn.Module):
    """Returns the given answers one after the other."""

    def __init__(self, answers: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self._answers = iter(answers)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.tensor([next(self._answers)])

    def of_buffer(self, buffer: Pixels) -> Probabilities:
        """As the INT8 model is called."""
        answer: Probabilities = self(torch.from_numpy(buffer))[0].numpy()
        return answer


def test_a_near_tie_of_fp32_is_no_disagreement_and_a_clear_answer_is() -> None:
    fp32 = Answers([[0.50, 0.41, 0.09], [0.50, 0.39, 0.11], [0.9, 0.05, 0.05], [0.05, 0.9, 0.05]])
    int8 = Answers([[0.45, 0.46, 0.09], [0.44, 0.45, 0.11], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    buffers = [np.zeros(1, np.uint8)] * 4
    (found,) = measure_agreement([int8.of_buffer], fp32, buffers, 4)  # type: ignore[arg-type]
    assert (found.photos, found.top1, found.top1_or_tie) == (4, 50.0, 75.0)
    refuse_below(75, found, "INT8")
    with pytest.raises(BundleError, match=r"on 75\.0 % of 4 photos, and 75\.1 % are the least"):
        refuse_below(75.1, found, "INT8")


def judged(int8: list[list[float]], fp32: list[list[float]]) -> Agreement:
    buffers = [np.zeros(1, np.uint8)] * len(fp32)
    return measure_agreement([Answers(int8).of_buffer], Answers(fp32), buffers, 0)[0]  # type: ignore[arg-type]


def test_a_class_that_is_first_on_every_photo_hides_nothing() -> None:
    """Both put the same class first on every view, so they always agree; the classes after it differ."""
    fp32 = [[0.9, 0.06, 0.03, 0.01], [0.9, 0.01, 0.06, 0.03], [0.8, 0.1, 0.02, 0.08]]
    found = judged([[0.9, 0.01, 0.01, 0.08], [0.9, 0.08, 0.01, 0.01], [0.9, 0.01, 0.08, 0.01]], fp32)
    assert (found.top1, found.classes) == (100, 1)
    for least in (95, 0):  # 0 turns off the check of the agreement, not this one
        with pytest.raises(BundleError) as refused:
            refuse_below(least, found, "INT8")
        message = r"^INT8's logits correlate with FP32's by 0\.\d{3} over those of 3 views .* 0\.95 is the least"
        assert re.match(message, str(refused.value))
        assert "agrees" not in str(refused.value)
    refuse_below(95, judged(fp32, fp32), "INT8")


def test_what_is_no_number_agrees_with_nothing() -> None:
    found = judged([[float("nan")] * 3] * 2, [[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    with pytest.raises(BundleError, match=r"agrees with FP32 on 0\.0 % of 2 .*; INT8's logits correlate .* by 0\.000"):
        refuse_below(95, found, "INT8")


def test_fp16_is_refused_by_its_name_and_without_the_ranges_that_it_has_not() -> None:
    found = judged([[0.1, 0.8, 0.1]], [[0.8, 0.1, 0.1]])
    with pytest.raises(BundleError) as refused:
        refuse_below(95, found, "FP16")
    assert re.match(
        r"FP16 agrees with FP32 on 0\.0 % .*; FP16's logits correlate with FP32's by -0", str(refused.value)
    )
    assert str(refused.value).endswith("--min-agreement says; use other weights.")
    alike = found.model_copy(update={"correlation": 1.0})
    for judged_one, way in (("FP16", "use"), ("INT8", "find the ranges on photos with --calibrate DIR, use")):
        with pytest.raises(BundleError, match=f"the least; {way} other weights, or accept it with --min-agreement"):
            refuse_below(95, alike, judged_one)  # type: ignore[arg-type]


def test_near_ties_between_two_classes_count_for_little() -> None:
    """With two logits the correlation on one photo is 1 or -1, so it is computed over all photos."""
    fp32 = [[0.99, 0.01], [0.02, 0.98], [0.51, 0.49], [0.49, 0.51]]
    found = judged([[0.98, 0.02], [0.02, 0.98], [0.49, 0.51], [0.51, 0.49]], fp32)
    assert (found.top1, found.top1_or_tie) == (50, 100)
    refuse_below(95, found, "INT8")


def test_few_photos_are_joined_by_the_views_and_a_network_of_one_answer_is_reported(
    variants: list[Path], tmp_path: Path
) -> None:
    """On one photo one hit would be 100 %, and random weights put one class first on every photo."""
    exported = export_bundle(trained_like("resnet18", variants[:12]), tmp_path / "models", photos=variants[:1])
    found = exported.manifest.agreement
    assert found is not None
    assert (found.on, found.photos, found.views, found.classes) == ("both", 49, 48, 1)
    table = " ".join(exported.to_table().split())
    assert "on 1 photo and 48 views of shipped photos, because fewer than 20 say little" in table
    assert "FP32 puts only one class first, so it proves little" in table


def test_random_weights_with_ranges_that_cut_off_are_refused_though_they_agree(
    variants: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(network: FloatNetwork) -> dict[str, Range]:
        found = data_free_ranges(network)
        return {name: r if name == "pixels" else Range(r.low * 0.8, r.high * 0.8) for name, r in found.items()}

    monkeypatch.setattr(exporter, "data_free_ranges", cut)
    monkeypatch.setattr(judge, "GOLDEN_MIN_CORRELATION", 0.0)  # the golden photo's check is not tested here
    with pytest.raises(BundleError, match=r"^INT8's logits correlate with FP32's by 0\.\d{3} over those of 48 views"):
        export_bundle(trained_like("efficientnet_b0", variants[:12]), tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("int8_ms", "said"), [(776.2, "25.9 × slower"), (10.0, "3.0 × faster"), (29.5, "as fast"), (31.0, "as fast")]
)
def test_the_report_says_slower_where_it_is(int8_ms: float, said: str) -> None:
    found = judged([[0.9, 0.1]], [[0.9, 0.1]])
    manifest = Manifest(
        architecture="resnet18",
        target="arm64",
        engine=Engine(name="torchscript", options={"kernels": "qnnpack"}, library="torch 2.9.1"),
        files={},
        weights=Origin(source="", sha256="", license=""),
        quantization=Quantization(ranges="data-free", activations="qint8"),
        input=architecture("resnet18").contract,
        golden=(GoldenClass(index=0, confidence=90), GoldenClass(index=1, confidence=10)),
    )
    exported = Exported(Path("b"), manifest, found, Latency(int8_ms, 30.0, 2), model_bytes=1, fp32_bytes=4)
    assert f"{said}, 2 threads" in exported.to_table()


def test_the_views_are_the_same_every_time_and_a_golden_photo_of_ones_own_is_among_them(testdata: Path) -> None:
    views = shipped_views()
    assert len(views) == 48
    first, again = ([view() for view in shipped_views()] for _ in range(2))
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    assert len({picture.tobytes() for picture in first}) == 48
    own = photos_in(testdata / "photos" / "calibration")[0]
    assert len(shipped_views(own)) == 54
    assert (of_photos([own])[0]() == shipped_views(own)[48]()).all()


def test_every_shipped_photo_is_free_small_and_named_in_notice() -> None:
    photos = sorted(SHIPPED.iterdir())
    notice = (CHECKOUT / "NOTICE").read_text(encoding="utf-8")
    assert len(photos) == 7
    assert all(f'"{photo.stem}"' in notice for photo in (*photos, Path("coffee")))
    assert sum(photo.stat().st_size for photo in (*photos, GOLDEN_PHOTO)) < 200_000
