"""What quantization loses of values."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class QuantizationError:
    """How far the values of one source are from what their ids decode to, in its unit. Records are summed up."""

    unit: str = ""
    values: int = 0
    """Known values."""
    clipped: int = 0
    """Those outside the range that the tokenizer was fitted on."""
    absolute: float = 0.0
    """Sum of the absolute differences."""
    squared: float = 0.0
    """Sum of their squares."""
    largest: float = 0.0

    def __add__(self, other: "QuantizationError") -> "QuantizationError":
        return QuantizationError(
            unit=self.unit or other.unit,
            values=self.values + other.values,
            clipped=self.clipped + other.clipped,
            absolute=self.absolute + other.absolute,
            squared=self.squared + other.squared,
            largest=max(self.largest, other.largest),
        )

    def __str__(self) -> str:
        n, unit = max(self.values, 1), f" {self.unit}" if self.unit else ""
        sizes = f"mean {self.absolute / n:.3g}, RMS {(self.squared / n) ** 0.5:.3g}, at most {self.largest:.3g}{unit}"
        return f"{sizes}; {self.clipped:,} of {self.values:,} values clipped"
