"""Search indices, derived from the store and rebuilt from it when they may differ."""

from service.gallery.index.base import Hits, TemplateIndex

__all__ = ["Hits", "TemplateIndex"]
