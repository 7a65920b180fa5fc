"""What `vultus serve` logs at its start."""

import logging

import pytest

from models.serving.models import Models
from service.cli.serve import _announce


def test_the_start_log_states_a_default_with_more_false_matches_than_usual(
    fake_models: Models, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        _announce(fake_models)
    assert "decided at fmr_1e-3, not at fmr_1e-4" in caplog.text
