"""The input that a network was trained on, where it differs from its architecture's usual one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from edge.errors import WeightsError
from edge.vision.manifest import Colour, InputContract, Interpolation
from edge.workshop.export.network.operations import Architecture

Rgb = tuple[float, float, float]
MIN_STD = 1e-3  # 1/255, for networks that take 0..255, is above it
SIZES = (32, 1024)  # every network here halves its input five times


@dataclass(frozen=True, slots=True)
class InputOptions:
    """The options of `export`; None keeps the value in the architecture's table."""

    mean: Rgb | None = None  # of red, green and blue in 0..1
    std: Rgb | None = None
    size: int | None = None
    resize: int | None = None
    interpolation: Interpolation | None = None
    colour: Colour | None = None

    def applied_to(self, table: Architecture) -> Architecture:
        """`table` with these options.

        Raises:
            WeightsError: a value is out of range, or two contradict each other.
        """
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        table = dataclasses.replace(table, **{name: value for name, value in given.items() if value is not None})
        if any(not 0 <= value <= 1 for value in table.mean):
            raise WeightsError(f"A mean of {_listed(table.mean)} is not of pixels in 0..1; divide --mean by 255.")
        if any(not MIN_STD <= value <= 1 for value in table.std):
            raise WeightsError(
                f"A standard deviation of {_listed(table.std)} is not of pixels in 0..1; give --std from {MIN_STD} to"
                " 1, or divide it by 255."
            )
        if not SIZES[0] <= table.size <= SIZES[1]:
            raise WeightsError(f"A size of {table.size} does not fit; give --size from {SIZES[0]} to {SIZES[1]}.")
        if not table.size <= table.resize <= 4 * SIZES[1]:
            raise WeightsError(
                f"No {table.size} pixels can be cut out of a photo resized to {table.resize}; give --resize from"
                f" {table.size} to {4 * SIZES[1]}."
            )
        if table.border[0] != table.border[1] and table.size % 32:
            raise WeightsError(f"A {table.name} pads sizes that 32 divides; give another --size than {table.size}.")
        return table


AS_KNOWN = InputOptions()


def of_contract(contract: InputContract) -> InputOptions:
    """The options that a bundle was exported with; bundles of older versions do not have the normalisation."""
    sides = InputOptions(size=contract.size, resize=contract.resize, interpolation=contract.interpolation)
    if (trained := contract.normalization) is None:
        return sides
    return dataclasses.replace(sides, mean=trained.mean, std=trained.std, colour=trained.colour)


def _listed(values: Rgb) -> str:
    return " ".join(f"{value:g}" for value in values)
