"""The names of a network's classes: ImageNet's, or those in a file with one name a line."""

from __future__ import annotations

from pathlib import Path

from edge.errors import WeightsError
from edge.text_file import NotTextError, read_text
from edge.vision.bundle import MAX_NAME, is_name

IMAGENET = Path(__file__).parents[1] / "imagenet-labels.txt"


def class_names(classes: int, labels: Path | None) -> tuple[str, ...]:
    """One name for each of `classes`, in the network's order.

    Raises:
        WeightsError: the file cannot be read, has another number of names, or a name that is not valid.
    """
    if classes < 2:
        raise WeightsError("These weights have only one class, of which a network is always sure; use two or more.")
    if labels is None:
        names = tuple(IMAGENET.read_text(encoding="utf-8").splitlines())
        if len(names) != classes:
            raise WeightsError(f"These weights have {classes} classes; name them with --labels FILE, one a line.")
        return names
    try:
        text = read_text(labels)
    except NotTextError as error:
        raise WeightsError(f"{labels} {error}, one name a line.") from error
    except OSError as error:
        raise WeightsError(
            f"{labels} cannot be read: {error.strerror or error}; name a text file with --labels."
        ) from error
    names = tuple(line.strip() for line in text.rstrip().split("\n"))
    for number, name in enumerate(names, 1):
        if not is_name(name):
            raise WeightsError(
                f"{labels}, line {number}: needs a name of 1 to {MAX_NAME} printable characters, for class"
                f" {number - 1}."
            )
    if len(names) != classes:
        raise WeightsError(
            f"{labels} has {len(names)} names and these weights have {classes} classes; it needs one line for each, in"
            " the network's order."
        )
    return names
