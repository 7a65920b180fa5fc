"""Types of errors, as SDKs know them."""

from typing import Any

import pytest
from botocore.loaders import Loader

from models.errors import VultusError
from service.compat.rekognition.errors import error_response
from service.errors import BodyTooSlow, Overloaded, RateExceeded


@pytest.mark.parametrize("error", [BodyTooSlow("slow"), Overloaded("full", 1), RateExceeded("rate", 1)])
def test_sdks_try_again_what_may_succeed_later(error: VultusError) -> None:
    answer = error_response(error, {"request_id": "0"})
    definitions: dict[str, Any] = Loader().load_data("_retry")["definitions"]
    responses = [definition["applies_when"].get("response", {}) for definition in definitions.values()]
    tried = {(response.get("service_error_code"), response.get("http_status_code")) for response in responses}
    assert (answer.headers["x-amzn-errortype"], answer.status_code) in tried


def test_a_connection_whose_body_did_not_arrive_is_closed() -> None:
    assert error_response(BodyTooSlow("slow"), {"request_id": "0"}).headers["connection"] == "close"
