"""The attempts of a call until it is answered: when it is repeated, after which pause, and with which error it ends.

Nothing here sends or waits. `exchange` yields what is to be done next, and the clients do it, one with and one without
awaiting.
"""

import random
import time
from collections import Counter
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Literal, TypeVar

import orjson

from service.client.errors import ClientError, NoAnswer, OutOfTime, VultusProblem, problem_from
from service.client.steps import Answer, Attempt, Call, Failure, Pause, Steps

Result = TypeVar("Result")

Reason = Literal["refused", "lost"]
"""Why a request is sent again: the service did nothing, or it is not known what it did."""

_PROBLEM = "application/problem+json"
_REFUSED = {429, 503}  # the service did nothing
_AMBIGUOUS = {502, 504}  # something was perhaps done
_MAX_REPETITIONS = 5  # without an answer, in some five seconds; then a wrong address is no longer tried
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0


def exchange(call: Call[Result], timeout_s: float) -> Steps[Result]:
    """Send a request until it is answered.

    A request that the service refused for load is sent again after its `Retry-After`. One that was lost is sent again
    after pauses that double, if it is repeatable or certainly did not arrive.

    Args:
        call: The request.
        timeout_s: Time limit of all attempts and pauses together, in seconds.

    Yields:
        What is to be done next.

    Returns:
        What `call.read` returns.

    Raises:
        VultusProblem: The service answered with a problem.
        OutOfTime: The time limit passed.
        NoAnswer: The service did not answer.
    """
    end = time.monotonic() + timeout_s
    repetitions: Counter[Reason] = Counter()
    last: ClientError | None = None
    while (left_s := end - time.monotonic()) > 0:
        reply = yield Attempt(call, left_s)
        assert reply is not None
        try:
            if isinstance(reply, Answer):
                return _read(call, reply)
            raise NoAnswer(reply.reason)
        except ClientError as error:
            last = error
        reason = reason_to_repeat(call, reply, last)
        if reason is None or (reason == "lost" and repetitions["lost"] == _MAX_REPETITIONS):
            break
        pause_s = _pause(reply, repetitions[reason])
        repetitions[reason] += 1
        if time.monotonic() + pause_s >= end:
            break
        yield Pause(pause_s)
    if last is None or (isinstance(last, NoAnswer) and time.monotonic() >= end):
        raise OutOfTime(f"no answer within {timeout_s:g} s") from last
    raise last


def reason_to_repeat(call: Call[object], reply: Answer | Failure, error: ClientError) -> Reason | None:
    """Return why a request is sent again, or None if it is not.

    Args:
        call: The request.
        reply: What came of it.
        error: The same as an error.
    """
    if isinstance(reply, Failure):
        return "lost" if reply.unsent or call.repeatable else None
    # the status of a problem is also that of a line of a stream, whose response began with 200
    status = error.status if isinstance(error, VultusProblem) else reply.status
    if status in _REFUSED:
        certain = status == HTTPStatus.TOO_MANY_REQUESTS or "retry-after" in reply.headers
        return "refused" if certain or call.repeatable else None
    return "lost" if status in _AMBIGUOUS and call.repeatable else None


def _pause(reply: Answer | Failure, repetitions: int) -> float:
    """Return the seconds to wait: those that the service states, or a pause that doubles with each repetition."""
    stated_s = retry_after(reply.headers.get("retry-after")) if isinstance(reply, Answer) else None
    if stated_s is not None:  # a little later, so that clients that were refused together do not return together
        return stated_s + random.uniform(0, 0.1 + stated_s / 10)
    longest: float = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**repetitions)
    return longest * random.uniform(0.5, 1)


def retry_after(value: str | None) -> float | None:
    """Return the seconds of a header `Retry-After`, which is a number or a date; None if it is neither."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _read(call: Call[Result], answer: Answer) -> Result:
    if answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return call.read(answer)
    if answer.headers.get("content-type", "").startswith(_PROBLEM):
        try:
            raise problem_from(orjson.loads(answer.content))
        except (KeyError, TypeError, ValueError):
            pass  # it is not a document of the service
    if location := answer.headers.get("location"):
        raise NoAnswer(f"redirects are not followed; what answered names the address {location.partition('?')[0]}")
    raise NoAnswer(f"something in front of the service, or another program, answered with status {answer.status}")
