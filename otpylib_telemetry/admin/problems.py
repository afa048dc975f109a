"""What a request is refused with: a problem (RFC 9457) that says what, where and what was expected."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.admin.models.base import Fault, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import ValidationError

#: Faults that one answer lists at most.
_MOST_FAULTS = 20


class ProblemError(Exception):
    """A request is refused; ``problem`` is the answer.

    ``where`` is the part of the request it is about, for instance ``query: for``.
    """

    def __init__(  # noqa: PLR0913  # by name
        self,
        status: HTTPStatus,
        detail: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        faults: Sequence[Fault] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.headers = headers or {}
        self.problem = Problem(
            title=status.phrase,
            status=status.value,
            detail=detail,
            where=where,
            expected=expected,
            faults=list(faults),
        )


def from_validation(part: str, error: ValidationError) -> ProblemError:
    """Return the refusal of a part of a request (``query``, ``path``, ``body``) that is not as its model."""
    faults = [
        _fault(part, each)
        for each in error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_FAULTS]
    ]
    return of_faults(faults)


def of_faults(faults: Sequence[Fault]) -> ProblemError:
    """Return the refusal of a request with faults; it is about the first."""
    first = faults[0]
    return ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"{first.where}: {first.what}",
        where=first.where,
        expected=first.expected,
        faults=faults,
    )


def body_too_long(most: int) -> ProblemError:
    """Return the refusal of a body that is longer than so many bytes."""
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "the body is too long",
        where="body",
        expected=f"at most {most} bytes",
    )


def _fault(part: str, error: Any) -> Fault:
    place = ".".join(str(each) for each in error["loc"])
    where = f"{part}: {place}" if place else part
    if error["type"] == "extra_forbidden":
        return Fault(where=where, what="nobody reads this", expected=f"a name that the {part} has")
    if error["type"] == "json_invalid":
        return Fault(where=where, what=str(error["msg"]), expected="a JSON object")
    message = str(error["msg"]).removeprefix("Value error, ")
    return Fault(where=where, what=message, expected=message.removeprefix("Input should be "))
