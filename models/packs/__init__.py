"""Packs: models or photos by name, with licence, sources and digests; fetched once, then verified."""

from models.packs.manifest import Manifest, find_manifest, list_manifests
from models.packs.store import PackStore

__all__ = ["Manifest", "PackStore", "find_manifest", "list_manifests"]
