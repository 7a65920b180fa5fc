"""A minute of constant load with metrics, traces, logs, audit log and encryption on. `make soak` runs ten."""

import pytest

from tests.bench.soak_at_rate import soak

SECONDS, SHARE = 60, 0.6  # of the capacity that was measured just before: other programs may take some of it meanwhile


@pytest.mark.full
@pytest.mark.timeout(300)
def test_a_minute_of_load_loses_no_request_and_leaves_no_memory_or_file_open() -> None:
    run = soak(SECONDS, SHARE)
    assert run.failed == 0
    sent = sum(sum(part.statuses.values()) for part in run.parts)
    assert sent >= 0.9 * run.rate * SECONDS
    assert run.log_lines >= sent
    assert run.spans >= 3 * sent  # a span for each request, and for most of its stages
    assert run.growth_mb < 20
    second_half = run.parts[len(run.parts) // 2 :]
    assert max(part.descriptors for part in second_half) <= max(part.descriptors for part in run.parts[:2]) + 16
    first, second = run.p99_ms
    assert second < 3 * first
