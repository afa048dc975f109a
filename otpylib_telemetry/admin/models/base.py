"""What all requests and answers have in common, and what a refusal says."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

#: The longest text that a request may have in its path or its query.
_LONGEST = 1024


class Model(BaseModel):
    """What all answers have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameters(BaseModel):
    """What all parameters have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NoParameters(Parameters):
    """None."""


class Fault(Model):
    """One thing that is wrong with a request."""

    where: str = Field(description="The part of the request: `query: for`, `body: otel.sampling_rate`.")
    what: str = Field(description="What is wrong with it.")
    expected: str | None = Field(default=None, description="What was expected in its place.")


class Problem(Model):
    """Why a request was refused (RFC 9457, `application/problem+json`)."""

    type: str = Field(default="about:blank", description="Always `about:blank`: the status says the kind.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The status.")
    detail: str = Field(description="What is wrong, for a person to read.")
    where: str | None = Field(default=None, description="The part of the request that it is about.")
    expected: str | None = Field(default=None, description="What was expected in its place.")
    faults: list[Fault] = Field(default_factory=list, description="Everything that is wrong.")
