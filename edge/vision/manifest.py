"""The content of `bundle.json`: its fields, how they are checked, and how a manifest of schema 1 is read.

Schema 2 keeps fields that it does not know, because a later minor version may add some. Schema 1 is complete: a field
that it does not know is an error. A manifest of schema 1 is converted on reading, so that the rest of the program
knows one form only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.errors import BundleError

MANIFEST = "bundle.json"
DIGEST = "bundle.sha256"  # of the manifest, for `sha256sum --check`; older bundles lack it
ARCHITECTURE = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"  # of one of a bundle's files; none leads out of its directory
MAX_FILES = 16
SCHEMA_1_FILES = {"model.ts": "model", "labels.txt": "labels", "golden.jpg": "golden"}  # name → role

Target = Literal["arm64", "x86_64", "jetson", "any"]  # jetson: its GPU (experimental); any: the engine runs on each
Interpolation = Literal["bilinear", "bicubic"]  # of the resize, both with antialiasing
Colour = Literal["RGB", "BGR"]  # the order of a network's input channels
Activations = Literal["quint8", "qint8", "int8"]  # int8 is TensorRT's: symmetric
Border = Annotated[int, Field(ge=0, le=64)]
Channel = Annotated[int, Field(ge=0, le=255)]
Mean = Annotated[float, Field(ge=0, le=1)]
Std = Annotated[float, Field(gt=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
Milliseconds = Annotated[float, Field(gt=0)]


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


Shown = Annotated[str, AfterValidator(_printable)]  # printed on terminals and the page


class Part(BaseModel):
    """Base of the manifest's parts; unknown fields are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False, populate_by_name=True)


class Engine(Part):
    """What computes the network: a module of `edge/vision/engines/`, and what that module is given."""

    name: str = Field(pattern="^[a-z][a-z0-9_]{0,31}$")
    options: dict[str, bool | int | float | Shown] = {}
    library: Shown = ""  # the library and its version with which the bundle was made

    def __str__(self) -> str:
        """Such as `torchscript onednn`; one name for each kind of kernels."""
        return " ".join([self.name, *(str(value) for value in self.options.values())])


class File(Part):
    """One of the bundle's files."""

    name: str = Field(pattern=FILE_NAME)
    sha256: str


class Normalization(Part):
    """The normalization of pixels in 0..1 that the network was trained with, folded into its first convolution."""

    mean: tuple[Mean, Mean, Mean]  # of red, green and blue
    std: tuple[Std, Std, Std]
    colour: Colour = "RGB"  # of the original network; the model takes RGB


class InputContract(Part):
    """How a photo becomes the model's input: (1, side, side, 3) uint8, RGB."""

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


class Ancestor(Part):
    """Something that the bundle was made from, and how."""

    kind: Literal["weights", "bundle"]
    name: Shown
    sha256: Shown
    how: Shown


class Quantization(Part):
    """How the activations are quantized, and how their ranges were found."""

    ranges: Literal["data-free", "calibrated"]
    photos: int = 0
    levels: Literal[128, 256] = 256  # 128: made by an older version for fbgemm
    small_pairs: bool = False  # two neighbouring products add up within 16 bits, as CPUs without VNNI need
    activations: Activations


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


class Candidate(Part):
    """One of the engines that `export` compared on its machine."""

    engine: str
    options: dict[str, bool | int | float | Shown] = {}
    ms: Milliseconds | None = None  # the median of an inference; null: it was not timed
    agrees: bool = False  # with FP32, by the limits for a bundle
    reason: Shown = ""  # why it was not chosen; empty for the one that was

    def __str__(self) -> str:
        """As that of `Engine`."""
        return str(Engine(name=self.engine, options=self.options))


class Measured(Part):
    """The time of an inference on the machine that exported the bundle, and of the engines it was compared with."""

    ms: Milliseconds
    threads: int = Field(ge=1)
    board: Shown
    candidates: tuple[Candidate, ...] = ()


class _Common(Part):
    """The fields that both schemas have."""

    architecture: str = Field(pattern=ARCHITECTURE)  # part of the bundle's name, which is in every event
    precision: Literal["int8", "fp16"] = "int8"
    target: Target
    weights: Origin
    quantization: Quantization | None  # null: fp16
    input: InputContract
    golden: tuple[GoldenClass, ...] = Field(min_length=2)  # three, or two for a network of two classes
    agreement: Agreement | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> _Common:
        if (self.precision == "int8") != (self.quantization is not None):
            raise ValueError("int8 has a quantization, and fp16 has none")
        if len({golden.index for golden in self.golden}) != len(self.golden):
            raise ValueError("the golden photo names a class twice")
        return self


class Manifest(_Common):
    """The content of `bundle.json`, schema 2."""

    schema_version: Literal[2] = Field(default=2, alias="schema")
    engine: Engine
    files: dict[str, File]  # by role: trunk and head, or model; labels; golden
    features: int | None = Field(default=None, ge=1)  # what the trunk gives; null: `model` gives probabilities
    lineage: tuple[Ancestor, ...] = ()
    measured: Measured | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether the model runs on a GPU."""
        return self.target == "jetson"

    @property
    def fallback(self) -> str:
        """Why this is another network than the requested one, as a sentence without its full stop; "" if it is not."""
        asked = self.weights.instead_of
        if asked is None:
            return ""
        return f"{asked} was asked for and this is {self.architecture}, because {asked}'s weights could not be fetched"


class _Schema(BaseModel):
    schema_version: int = Field(alias="schema")


class _Schema1(_Common):
    """The content of `bundle.json`, schema 1."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    target: Literal["arm64", "x86_64", "jetson"]
    engine: Literal["onednn", "fbgemm", "qnnpack", "tensorrt", "cuda"]
    torch: Shown  # the version that exported it
    files: dict[str, str]  # name → sha256

    def converted(self) -> Manifest:
        gpu, kernels = self.engine in ("tensorrt", "cuda"), str(self.engine)
        if kernels == "qnnpack" and self.quantization is not None and self.quantization.activations == "qint8":
            kernels = "xnnpack"
        engine = Engine(
            name="cuda" if gpu else "torchscript", options={"kernels": kernels}, library=f"torch {self.torch}"
        )
        files = {SCHEMA_1_FILES[name]: File(name=name, sha256=digest) for name, digest in self.files.items()}
        common = {name: getattr(self, name) for name in _Common.model_fields}
        return Manifest(engine=engine, files=files, **common)


def read_manifest(text: bytes, file: Path) -> Manifest:
    """The manifest that `file` contains as `text`.

    Raises:
        BundleError: it is none, or one of a later schema.
    """
    try:
        schema = _Schema.model_validate_json(text).schema_version
        manifest: Manifest | _Schema1
        manifest = (_Schema1 if schema == 1 else Manifest).model_validate_json(text)
        # An unknown field may have any value; one that JSON cannot express could not be shown on the page.
        json.dumps(manifest.model_dump(), allow_nan=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "its text"
        raise _not_ours(file, _printable(f"{where}: {first['msg']}")) from error
    except (ValueError, RecursionError) as error:
        raise _not_ours(file, f"its text: {error}") from error
    if isinstance(manifest, _Schema1):
        if unknown := next(_unknown_fields(manifest), ""):
            raise _not_ours(file, f"{unknown}: unknown field")
        if manifest.files.keys() != SCHEMA_1_FILES.keys():
            raise _other_files(file)
        manifest = manifest.converted()
    if not _has_the_files(manifest) or manifest.input.size > manifest.input.resize:
        raise _other_files(file)
    return manifest


def _has_the_files(manifest: Manifest) -> bool:
    roles, names = manifest.files.keys(), {entry.name for entry in manifest.files.values()}
    parts = {"model"} if "model" in roles else {"trunk", "head"}
    return (
        roles >= {"labels", "golden"} | parts
        and (manifest.features is None) == ("model" in roles)
        and len(names) == len(roles) <= MAX_FILES
        and not names & {MANIFEST, DIGEST}
    )


def _unknown_fields(part: BaseModel, above: str = "") -> Iterator[str]:
    """The paths of all fields that schema 1 does not have."""
    yield from (f"{above}{name}" for name in part.model_extra or ())
    for name in type(part).model_fields:
        value = getattr(part, name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, BaseModel):
                yield from _unknown_fields(inner, f"{above}{name}.")


def _not_ours(file: Path, why: str) -> BundleError:
    return BundleError(f"{file} is not a manifest that this version reads ({why}); export the bundle again.")


def _other_files(file: Path) -> BundleError:
    return BundleError(f"{file} names other files or another input than a bundle has; export the bundle again.")


def dump_manifest(manifest: Manifest) -> bytes:
    """The text of `bundle.json`."""
    return (manifest.model_dump_json(by_alias=True, indent=2) + "\n").encode()
