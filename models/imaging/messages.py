"""The messages that decoders print of their own accord.

libtiff, OpenCV and Pillow write what they find in a corrupt photo to standard error or to the log, where the content of
a photo would decide what a service logs. Each of these photos has its error as a sentence already.
"""

import ctypes
import logging
import warnings

import cv2
from PIL import _imaging

_LIBTIFF_HANDLERS = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")


def silence_decoders() -> None:
    """Silence the decoders of this process."""
    pillow = ctypes.CDLL(_imaging.__file__)  # finds the libtiff that it is linked with
    for name in _LIBTIFF_HANDLERS:
        set_handler = getattr(pillow, name, None)  # None if libtiff is linked statically
        if set_handler is not None:
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")
