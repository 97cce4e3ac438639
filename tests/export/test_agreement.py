"""A model that does not say what FP32 says is not installed, whoever gave photos to tell."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from edge.errors import BundleError
from edge.export import exporter
from edge.export.exporter import export_bundle
from edge.export.fold import FloatNetwork
from edge.export.golden import PHOTO
from edge.export.judge import measure_agreement, refuse_below
from edge.export.photos import photos_in
from edge.export.ranges import Range, data_free_ranges
from edge.export.views import SHIPPED, of_photos, shipped_views
from edge.export.weights import Weights
from tests.daemon import CHECKOUT


def narrow(network: FloatNetwork) -> dict[str, Range]:
    """Ranges that cut off just so much that the golden photo is still answered right."""
    part = {"resnet18": 0.4, "efficientnet_lite0": 0.85}[network.architecture.name]
    return {
        name: found if name == "pixels" else Range(found.low * part, found.high * part)
        for name, found in data_free_ranges(network).items()
    }


@pytest.mark.parametrize("given", [False, True])
def test_a_model_below_the_least_agreement_is_refused_with_the_number_and_not_installed(
    weights: Weights, testdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    """Its answer to the golden photo alone, which it is very sure of, does not give it away."""
    monkeypatch.setattr(exporter, "data_free_ranges", narrow)
    photos = photos_in(testdata / "photos" / "labelled")[::4] if given else []
    golden = SHIPPED / "camera.jpg"
    taken = export_bundle(weights, tmp_path / "taken", photos=photos, golden=golden, min_agreement=0)
    found = taken.report.agreement
    assert taken.manifest.agreement == found
    assert found.on == ("photos" if given else "shipped")
    assert found.top1_or_tie is not None
    assert found.top1_or_tie < 99  # with sound ranges it is 100 of the views
    of = f"{found.photos} {'photos' if given else 'views of the shipped photos'}"
    with pytest.raises(BundleError) as refused:
        export_bundle(weights, tmp_path / "models", photos=photos, golden=golden, min_agreement=99)
    told = f"INT8 agrees with FP32 on {found.top1_or_tie:.1f} % of {of}, and 99 % are the least; "
    assert str(refused.value).startswith(told)
    assert "--calibrate DIR" in str(refused.value)
    assert not (tmp_path / "models").exists()


class Answers(torch.nn.Module):
    """Says one after the other what it was given."""

    def __init__(self, answers: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self._answers = iter(answers)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.tensor([next(self._answers)])


def test_a_near_tie_of_fp32_is_no_disagreement_and_a_clear_answer_is() -> None:
    fp32 = Answers([[0.50, 0.41, 0.09], [0.50, 0.39, 0.11], [0.9, 0.05, 0.05], [0.05, 0.9, 0.05]])
    int8 = Answers([[0.45, 0.46, 0.09], [0.44, 0.45, 0.11], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    buffers = [torch.zeros(1)] * 4
    found = measure_agreement(int8, fp32, buffers, "photos")  # type: ignore[arg-type]
    assert (found.photos, found.top1, found.top1_or_tie) == (4, 50.0, 75.0)
    refuse_below(75, found)
    with pytest.raises(BundleError, match=r"on 75\.0 % of 4 photos, and 75\.1 % are the least"):
        refuse_below(75.1, found)


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
    assert sum(photo.stat().st_size for photo in (*photos, PHOTO)) < 200_000
