"""What a state dict's network was trained on, where that is not what the table of its architecture says."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from edge.errors import WeightsError
from edge.vision.bundle import Colour, InputContract, Interpolation
from edge.workshop.export.network.operations import Architecture

Rgb = tuple[float, float, float]
LEAST_STD = 1e-3  # 1/255, for networks that take 0..255, is above it
SIZES = (32, 1024)  # every network here halves its input five times


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What `export` was told; None leaves what the architecture's table has."""

    mean: Rgb | None = None  # of red, green and blue in 0..1
    std: Rgb | None = None
    size: int | None = None
    resize: int | None = None
    interpolation: Interpolation | None = None
    colour: Colour | None = None

    def applied_to(self, table: Architecture) -> Architecture:
        """`table` with these.

        Raises:
            WeightsError: no network is trained on such an input.
        """
        told = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        table = dataclasses.replace(table, **{name: value for name, value in told.items() if value is not None})
        if any(not 0 <= value <= 1 for value in table.mean):
            raise WeightsError(f"A mean of {_said(table.mean)} is not of pixels in 0..1; divide --mean by 255.")
        if any(not LEAST_STD <= value <= 1 for value in table.std):
            raise WeightsError(
                f"A standard deviation of {_said(table.std)} is not of pixels in 0..1; give --std from {LEAST_STD} to"
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
    """What a bundle says of its network; one of an older version says nothing of the normalisation."""
    sides = InputOptions(size=contract.size, resize=contract.resize, interpolation=contract.interpolation)
    if (trained := contract.normalization) is None:
        return sides
    return dataclasses.replace(sides, mean=trained.mean, std=trained.std, colour=trained.colour)


def _said(values: Rgb) -> str:
    return " ".join(f"{value:g}" for value in values)
