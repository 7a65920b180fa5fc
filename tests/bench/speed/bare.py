"""Verify two photos in a loop with the pipeline alone, and print how many times a second. Photos on standard input."""

import sys
import time

from models.job import Job
from service.cli.serve import load_configured_models
from service.settings import load_settings


def main() -> None:
    packed = sys.stdin.buffer.read()
    first = int.from_bytes(packed[:8], "big")
    pair = (packed[8 : 8 + first], packed[8 + first :])
    pipeline = load_configured_models(load_settings()).pipeline
    for _ in range(20):
        pipeline.embed(pair, "largest", Job())
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < float(sys.argv[1]):
        pipeline.embed(pair, "largest", Job())
        count += 1
    print(count / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
