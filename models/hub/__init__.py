"""The Hugging Face Hub as a source of model files: references, listings and downloads. Nothing that serves uses it."""

from models.hub.reference import HubReference, is_reference, parse_reference
from models.hub.repository import Hub, HubFile, Listing

__all__ = ["Hub", "HubFile", "HubReference", "Listing", "is_reference", "parse_reference"]
