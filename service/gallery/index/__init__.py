"""What is searched: derived from the store, and made anew from it when in doubt."""

from service.gallery.index.base import Hits, TemplateIndex

__all__ = ["Hits", "TemplateIndex"]
