"""Folders of photos as they lie on real disks: which of their files are photos, and what was passed over and why."""

from models.photo_folders.finding import Folders, Photos, find_folders, find_photos
from models.photo_folders.passed_over import PassedOver, listed
from models.photo_folders.reading import read_photo

__all__ = ["Folders", "PassedOver", "Photos", "find_folders", "find_photos", "listed", "read_photo"]
