"""Tuning: the fastest way to run a model on this machine, measured once, stored, and used at every start."""

from models.serving.tuning.machine import describe_machine
from models.serving.tuning.records import (
    GraphTuning,
    RuntimeChoice,
    Timing,
    Tuning,
    TuningKey,
    read_tuning,
    write_tuning,
)
from models.serving.tuning.tuner import Preference, TunedGraph, tune_graph, tune_graph_quickly

__all__ = [
    "GraphTuning",
    "Preference",
    "RuntimeChoice",
    "Timing",
    "TunedGraph",
    "Tuning",
    "TuningKey",
    "describe_machine",
    "read_tuning",
    "tune_graph",
    "tune_graph_quickly",
    "write_tuning",
]
