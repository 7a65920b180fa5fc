"""Verify two photos from standard input in a loop with the bare pipeline, and print the verifications per second."""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from models.deadline import Deadline
from models.runtime.threads import limit_library_threads
from service.settings import load_settings
from service.startup import load_configured_models


def main() -> None:
    """Run the loop for the given time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--callers", type=int, default=1)
    parser.add_argument("--settled", action="store_true", help="limit OpenCV and BLAS to the calling thread")
    arguments = parser.parse_args()
    packed = sys.stdin.buffer.read()
    first = int.from_bytes(packed[:8], "big")
    pair = (packed[8 : 8 + first], packed[8 + first :])
    if arguments.settled:
        limit_library_threads()
    pipeline = load_configured_models(load_settings()).pipeline
    for _ in range(20):
        pipeline.embed(pair, "largest", Deadline())
    start = time.perf_counter()

    def loop(_: int) -> int:
        count = 0
        while time.perf_counter() - start < arguments.seconds:
            pipeline.embed(pair, "largest", Deadline())
            count += 1
        return count

    with ThreadPoolExecutor(arguments.callers) as callers:
        done = sum(callers.map(loop, range(arguments.callers)))
    print(done / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
