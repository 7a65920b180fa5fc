"""How this machine runs a model fastest: measured once, kept, and used at every start."""

from models.tuning.machine import describe_machine
from models.tuning.records import GraphTuning, Subject, Timing, Tuning, Way, find_tuning, keep_tuning
from models.tuning.tuner import Preference, TunedGraph, tune_graph

__all__ = [
    "GraphTuning",
    "Preference",
    "Subject",
    "Timing",
    "TunedGraph",
    "Tuning",
    "Way",
    "describe_machine",
    "find_tuning",
    "keep_tuning",
    "tune_graph",
]
