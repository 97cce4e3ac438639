"""A model bundle on disk: `model.ts`, `labels.txt`, a golden photo, and the manifest `bundle.json` with their sha256.

`load_bundle` reads one and checks every byte; `Manifest` describes the fields of `bundle.json`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.errors import BundleError
from edge.vision.ownership import refuse_if_others_may_write

MANIFEST = "bundle.json"
MODEL = "model.ts"
LABELS = "labels.txt"
GOLDEN = "golden.jpg"
FILES = (MANIFEST, MODEL, LABELS, GOLDEN)
DIGEST = "bundle.sha256"  # of the manifest, for `sha256sum --check`; older bundles lack it
MAX_FILE_BYTES = 1 << 30
MAX_NAME = 200  # characters of a class's name, which goes into every event
ARCHITECTURE = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"

Target = Literal["arm64", "x86_64", "jetson"]  # jetson: its GPU (experimental); its processor is arm64
# x86 prefers `onednn`, which fuses the residual addition; `qnnpack` runs qint8 with XNNPACK and quint8 with QNNPACK.
# GPUs (experimental) use `tensorrt` for INT8 and `cuda` for FP16.
Engine = Literal["onednn", "fbgemm", "qnnpack", "tensorrt", "cuda"]
GPU_ENGINES = ("tensorrt", "cuda")
Interpolation = Literal["bilinear", "bicubic"]  # of the resize, both with antialiasing
Colour = Literal["RGB", "BGR"]  # the order of a network's input channels
Activations = Literal["quint8", "qint8", "int8"]  # int8 is TensorRT's: symmetric
Border = Annotated[int, Field(ge=0, le=64)]
Channel = Annotated[int, Field(ge=0, le=255)]
Mean = Annotated[float, Field(ge=0, le=1)]
Std = Annotated[float, Field(gt=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


Shown = Annotated[str, AfterValidator(_printable)]  # printed on terminals and the page


class Part(BaseModel):
    """Base of the manifest's parts; an unknown field is an error, because it belongs to another schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class Normalization(Part):
    """The normalization of pixels in 0..1 that the network was trained with, folded into its first convolution."""

    mean: tuple[Mean, Mean, Mean]  # of red, green and blue
    std: tuple[Std, Std, Std]
    colour: Colour = "RGB"  # of the original network; `model.ts` takes RGB


class InputContract(Part):
    """How a photo becomes the input of `model.ts`: (1, side, side, 3) uint8, RGB."""

    size: int = Field(ge=16, le=4096)  # of the photo inside the border
    resize: int = Field(ge=16, le=4096)  # the short side before the centre is cut out
    interpolation: Interpolation = "bilinear"
    crop: Literal["centre"] = "centre"
    border: tuple[Border, Border]  # pixels of border colour before and after the photo, on both axes
    border_rgb: tuple[Channel, Channel, Channel]  # the mean colour, which is 0 after normalization
    colour: Literal["RGB"] = "RGB"
    dtype: Literal["uint8"] = "uint8"
    layout: Literal["NHWC"] = "NHWC"
    normalization: Normalization | None = None  # null: made by an older version, with its architecture's own

    @property
    def side(self) -> int:
        """Height and width of the buffer."""
        return self.size + sum(self.border)


class Origin(Part):
    """Where the FP32 weights came from."""

    source: Shown
    sha256: Shown
    license: Shown
    top1: float | None = None  # percent on ImageNet as published for FP32; null: not published
    instead_of: Shown | None = None  # the requested architecture, whose weights could not be fetched


class Quantization(Part):
    """How the activations are quantized, and how their ranges were found."""

    ranges: Literal["data-free", "calibrated"]
    photos: int = 0
    levels: Literal[128, 256] = 256  # 128: made by an older version for fbgemm
    small_pairs: bool = False  # two neighbouring products add up within 16 bits, as CPUs without VNNI need
    activations: Activations  # with qint8 the engine qnnpack uses XNNPACK, if torch has it


class GoldenClass(Part):
    """One of the golden photo's top classes; the confidence in percent."""

    index: int = Field(ge=0)
    confidence: Percent


class Agreement(Part):
    """The bundle measured against FP32 on photos."""

    on: Literal["photos", "shipped", "both"] = "photos"  # the user's photos, or views of those in the package
    photos: int = Field(ge=0)  # including views
    views: int | None = Field(default=None, ge=0)  # views of shipped photos among them
    classes: int | None = Field(default=None, ge=1)  # different top-1 classes of FP32 on them
    top1: Percent  # photos with the same top-1 class
    top1_or_tie: Percent | None = None  # also counts a class that FP32 rates nearly as high as its top-1
    confidence_difference: Percent  # of FP32's top-1 class, in points, mean over the photos
    correlation: float | None = Field(default=None, ge=-1.001, le=1.001)  # of the logits, over all photos


class Manifest(Part):
    """The content of `bundle.json`."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    architecture: str = Field(pattern=ARCHITECTURE)  # part of the bundle's name, which is in every event
    precision: Literal["int8", "fp16"] = "int8"
    target: Target
    engine: Engine
    torch: Shown  # the version that exported it
    files: dict[str, str]  # name → sha256
    weights: Origin
    quantization: Quantization | None  # null: fp16
    input: InputContract
    golden: tuple[GoldenClass, ...] = Field(min_length=2)  # three, or two for a network of two classes
    agreement: Agreement | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Manifest:
        if (self.precision == "int8") != (self.quantization is not None):
            raise ValueError("int8 has a quantization, and fp16 has none")
        if len({golden.index for golden in self.golden}) != len(self.golden):
            raise ValueError("the golden photo names a class twice")
        return self

    @property
    def fallback(self) -> str:
        """Why this is another network than the requested one, as a sentence without its full stop; "" if it is not."""
        asked = self.weights.instead_of
        if asked is None:
            return ""
        return f"{asked} was asked for and this is {self.architecture}, because {asked}'s weights could not be fetched"


@dataclass(frozen=True)
class Bundle:
    """A bundle with correct checksums. It holds the bytes that were hashed, so later changes on disk do not matter."""

    name: str  # such as "resnet18-int8-3fa9c1"
    directory: Path
    manifest: Manifest
    labels: tuple[str, ...]
    model_bytes: bytes
    golden_bytes: bytes


def bundle_name(manifest_text: bytes, architecture: str, precision: str) -> str:
    """The name that a bundle must have: architecture, precision, 6 hex digits of its manifest's sha256."""
    return f"{architecture}-{precision}-{hashlib.sha256(manifest_text).hexdigest()[:6]}"


def write_digest(home: Path) -> None:
    """Write `bundle.sha256` with the manifest's whole sha256, of which the bundle's name has only six digits."""
    digest = hashlib.sha256((home / MANIFEST).read_bytes()).hexdigest()
    (home / DIGEST).write_text(f"{digest}  {MANIFEST}\n", encoding="ascii")


def load_bundle(directory: Path, *, given: bool = False) -> Bundle:
    """Read a bundle and check every byte of it.

    Args:
        directory: the bundle's own, or a link to it.
        given: the user named it on the command line, which implies trust in its owner.

    Raises:
        BundleError: it is missing, incomplete, modified, writable by other users, or of another version.
    """
    try:
        home = Path(os.path.realpath(directory, strict=True))  # a loop of links is an OSError here in every Python
        refuse_if_others_may_write(home.parent.parent, given=True)  # where `models/` could be replaced by another
        refuse_if_others_may_write(home.parent, given=given)
        refuse_if_others_may_write(home, given=given)
        text = _read(home / MANIFEST, given=given)
        manifest = _parse(text, home)
        name = bundle_name(text, manifest.architecture, manifest.precision)
        if home.name != name:
            raise BundleError(f"{home} should be called {name} by its {MANIFEST}: it was changed; export it again.")
        if os.path.lexists(home / DIGEST):
            digest = _read(home / DIGEST, given=given).split()[:1]
            if digest != [hashlib.sha256(text).hexdigest().encode()]:
                raise BundleError(f"{home / MANIFEST} does not have the sha256 in {DIGEST}; export the bundle again.")
        contents = {file: _read(home / file, given=given) for file in manifest.files}
        for file, content in contents.items():
            if hashlib.sha256(content).hexdigest() != manifest.files[file]:
                raise BundleError(
                    f"{home / file} does not have the sha256 in {MANIFEST}: truncated or changed; export the bundle "
                    "again."
                )
        labels = _labels(contents[LABELS], manifest, home)
    except FileNotFoundError as error:
        # Name the bundle itself: realpath's error names its first missing parent.
        named = directory.exists() or directory.is_symlink()
        missing = error.filename if named else f"bundle {directory}"
        raise BundleError(f"There is no {missing}; make a bundle with `edge-classifier export`.") from error
    except NotADirectoryError as error:
        raise BundleError(
            f"{directory} is not a bundle's directory; name the directory that export printed."
        ) from error
    except OSError as error:
        raise BundleError(f"The bundle {directory} cannot be read: {error.strerror or error}.") from error
    return Bundle(name, home, manifest, labels, contents[MODEL], contents[GOLDEN])


def _parse(text: bytes, home: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "its text"
        raise BundleError(
            f"{home / MANIFEST} is not a manifest of this version ({where}: {first['msg']}); export the bundle again."
        ) from error
    # Besides the manifest exactly these three files are read.
    if set(manifest.files) != {MODEL, LABELS, GOLDEN} or manifest.input.size > manifest.input.resize:
        raise BundleError(
            f"{home / MANIFEST} names other files or another input than a bundle has; export the bundle again."
        )
    return manifest


def is_name(label: str) -> bool:
    """Whether `label` can be a class's name."""
    return bool(label) and label.isprintable() and len(label) <= MAX_NAME


def _labels(content: bytes, manifest: Manifest, home: Path) -> tuple[str, ...]:
    try:
        labels = tuple(content.decode("utf-8").removesuffix("\n").split("\n"))
    except UnicodeDecodeError as error:
        raise BundleError(f"{home / LABELS} is not UTF-8 text; export the bundle again.") from error
    if wrong := [number for number, label in enumerate(labels, 1) if not is_name(label)]:
        raise BundleError(
            f"{home / LABELS}, line {wrong[0]}, is no name of 1 to {MAX_NAME} printable characters; export the bundle"
            " again."
        )
    if beyond := [c.index for c in manifest.golden if c.index >= len(labels)]:
        raise BundleError(
            f"{home / LABELS} has {len(labels)} labels, and the golden photo shows class {beyond[0]};"
            " export the bundle again."
        )
    return labels


def _read(file: Path, *, given: bool) -> bytes:
    """The content of a regular file; refuses links, whose target others may write, and pipes, which have no end."""
    if file.is_symlink():
        raise BundleError(f"{file} is a link, and a bundle holds its own files; export it again.")
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{file} is not a file; export the bundle again.")
        refuse_if_others_may_write(file, given=given, opened=status)
        if status.st_size > MAX_FILE_BYTES:
            raise BundleError(f"{file} has {status.st_size} bytes, which no bundle of ours has; export it again.")
        return opened.read()
