"""Run a step in a process of its own: torch, conversion and each engine never share one memory, nor one crash."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

from models.errors import StepDied

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def in_own_process(step: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs) -> Answer:
    """Call a module-level function in a fresh process and return its answer, or raise what it raised.

    Raises:
        StepDied: The system ended the process.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(step, *args, **kwargs).result()
        except BrokenProcessPool as error:
            raise StepDied(
                "a step of the export was ended by the system, most likely for lack of memory; nothing was written"
            ) from error


def call(step: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs) -> Answer:
    """Call a function here: for models so small that a process of their own would cost more than they do."""
    return step(*args, **kwargs)
