"""Packs: named sets of models or photos with licence, sources and digests, fetched once and verified before use."""

from models.packs.manifest import Manifest, find_manifest, list_manifests
from models.packs.store import PackStore

__all__ = ["Manifest", "PackStore", "find_manifest", "list_manifests"]
