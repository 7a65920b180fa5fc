"""The library `huggingface_hub`, imported when a repository is named and at no other time."""

import os
from types import ModuleType

from models.extras import require_extra


def import_library() -> ModuleType:
    """Return the library, without its telemetry and without its warnings about every repeated request.

    Token, cache, endpoint and offline mode are those of the user's environment (`HF_TOKEN`, `HF_HUB_CACHE`, `HF_HOME`,
    `HF_ENDPOINT`, `HF_HUB_OFFLINE`), which the library reads itself.

    Raises:
        ExtraMissing: The library is not installed.
    """
    require_extra("hub")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # read at the import; else it asks the Hub about the calling program
    import huggingface_hub
    import huggingface_hub.errors  # is not loaded with the package

    if "HF_HUB_VERBOSITY" not in os.environ:
        # its lines would stand amid the progress bars
        huggingface_hub.logging.set_verbosity_error()  # type: ignore[no-untyped-call, unused-ignore]
    library: ModuleType = huggingface_hub
    return library
