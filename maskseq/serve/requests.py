"""What clients may send: one model a request, checked before anything is done."""

from typing import Annotated, Literal, TypeVar

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from maskseq.infill.order import OrderName

T = TypeVar("T")

Key = Annotated[str, StringConstraints(max_length=1000)]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
PluginName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")]
Some = Annotated[list[T], Field(max_length=1000)]


class Request(BaseModel):
    """A file: as text or, where it is not UTF-8, in base64. It names no other file."""

    model_config = ConfigDict(extra="forbid")

    name: FileName = Field(description="The file's name: its ending says what it is", examples=["holes.fa"])
    text: str | None = Field(default=None, description="The content, if that is text", examples=[">a\nACGTNNACGT\n"])
    base64: Base64Bytes | None = Field(default=None, description="The file's content otherwise")
    format: PluginName | None = Field(default=None, description="The format (default: that of the training files)")

    @model_validator(mode="after")
    def _one_content(self) -> "Request":
        if (self.text is None) == (self.base64 is None):
            raise ValueError("give the file's content once: as text, or as base64")
        return self

    @property
    def content(self) -> bytes:
        return self.base64 if self.base64 is not None else (self.text or "").encode("utf-8", "surrogatepass")


class Units(BaseModel):
    """Raw units of a record, such as bases."""

    model_config = ConfigDict(extra="forbid")

    key: Key = Field(default="", description="The record's name; empty: the file's only record")
    start: int = Field(ge=1, description="The first one, from 1")
    stop: int = Field(ge=1, description="The last one")


class FixedValue(BaseModel):
    """A value for a cell, which the others are filled around."""

    model_config = ConfigDict(extra="forbid")

    key: Key = ""
    position: int = Field(ge=0, description="As an answer's `position`")
    field: str
    value: str | float = Field(description="A value of the field, or a number where it has numbers")


class InfillRequest(Request):
    mask: Some[Units] = Field(default=[], description="Stretches to fill, whatever is there")
    only_mask: bool = Field(default=False, description="Leave what is unknown elsewhere")
    unknown: Some[str] = Field(default=[], description="Fields to fill throughout")
    fixed: Some[FixedValue] = Field(default=[], description="Values to put in before anything is filled")
    order: OrderName = "entropy_bounded"
    temperature: float = Field(default=0.0, ge=0, le=100)
    samples: int = Field(default=1, ge=1, le=32)
    seed: int = Field(default=0, ge=0, lt=1 << 32)
    alternatives: int = Field(default=3, ge=0, le=100, description="Other values that are reported for each cell")
    fill_long_holes: bool = False


class NextRequest(Request):
    steps: int = Field(default=1, ge=1, le=1000, description="Positions to look ahead")
    rest: bool = Field(default=False, description="Until the end instead: a row for each record")
    samples: int | None = Field(
        default=None, ge=1, le=1000, description="Continuations that are drawn (default: 100; 1 if one says all)"
    )
    cases: Some[Key] = Field(default=[], description="Names of records (default: all)")
    by: Literal["encoder", "counted"] | None = None
    seed: int = Field(default=0, ge=0, lt=1 << 32)


class ScoreRequest(Request):
    per_position: bool = Field(default=False, description="A row for each position, not for each record")
    fields: Some[str] = Field(default=[], description="Score cells of these fields only")
    stride: int = Field(default=8, ge=1, le=1000)


class EmbedRequest(Request):
    pooling: Literal["mean", "max"] = "mean"


class PredictRequest(Request):
    pass
