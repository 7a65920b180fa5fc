"""Find the known networks among the weights of a file: under any prefix, with the names of wrappers in their keys."""

from collections.abc import Iterable

from models.backbones.catalogue import MATCHERS, MAX_KEYS, fitting, is_head
from models.backbones.nearest import nearest
from models.backbones.plan import Plan, Shapes
from models.checkpoint.keys import WRAPPERS, Located, keys_under
from models.errors import ArchitectureUnknown, CheckpointAmbiguous, LandmarksNeeded
from models.text import listed

_FLAT = "flat_param"  # in the keys of FSDP's shards
_MAX_PREFIXES = 64  # networks in one file; an ensemble has a dozen
_NEXT_STEPS = (
    "to use another network, pass its definition with --builder package.module:callable, "
    "or import an ONNX file with: vultus import model.onnx"
)


def locate(shapes: Shapes) -> list[Located]:
    """Return the known networks among weights.

    A network is known if all keys under its prefix and their shapes are those of the network. Keys under another prefix
    are no part of it, nor are those of a training head, nor those of another network below its prefix.

    Args:
        shapes: Shape of every weight, by its key in the file.

    Raises:
        CheckpointAmbiguous: Two keys of one network differ in the names of wrappers only.
    """
    return [located for located, _ in _networks(shapes)]


def recognise(shapes: Shapes) -> Plan:
    """Return the plan of the only known network among weights.

    Args:
        shapes: Shape of every weight, by its key in the file or in the network.

    Raises:
        LandmarksNeeded: The network takes landmarks as a second input.
        ArchitectureUnknown: No known network has exactly these keys and shapes. The message names the nearest.
        CheckpointAmbiguous: There are several networks, or two keys differ in the names of wrappers only.
    """
    found = _networks(shapes)
    if len(found) > 1:
        prefixes = listed(located.prefix or '""' for located, _ in found)
        raise CheckpointAmbiguous(f"there are {len(found)} networks, under the prefixes {prefixes}")
    if found:
        return found[0][1]
    if any("keypoint_linear" in key for key in shapes):
        raise LandmarksNeeded(
            "this is a KP-RPE model: it takes five landmarks as a second input, "
            "but the contract allows only one aligned crop; export a model without KP-RPE"
        )
    if len(shapes) > MAX_KEYS:
        raise ArchitectureUnknown(f"the file holds {len(shapes)} weights, more than any network of a known family")
    if any(_FLAT in key for key in shapes):
        raise ArchitectureUnknown(
            "the weights are the flattened parts of FSDP; save a full state_dict (StateDictType.FULL_STATE_DICT)"
        )
    raise ArchitectureUnknown(
        f"no known network has these weights; {nearest(shapes, prefixes_of(shapes))}; {_NEXT_STEPS}"
    )


def _networks(shapes: Shapes) -> list[tuple[Located, Plan]]:
    prefixes = prefixes_of(shapes)
    found = []
    for prefix in prefixes:
        keys = _own_keys(shapes, prefix, prefixes)
        if len(keys) > MAX_KEYS:
            continue
        names = {name: key for name, key in keys_under(keys, prefix).items() if not is_head(name)}
        plan = fitting({name: shapes[key] for name, key in names.items()})
        if plan is not None:
            found.append((Located(prefix, names), plan))
    return found


def _own_keys(keys: Iterable[str], prefix: str, prefixes: list[str]) -> list[str]:
    """Return the keys under a prefix that are not under a longer one of another network."""
    deeper = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
    return [key for key in keys if key.startswith(prefix) and not (deeper and key.startswith(deeper))]


def prefixes_of(shapes: Shapes) -> list[str]:
    """Return the prefixes under which a network of a known layout may lie, in the order of the file."""
    found: dict[str, None] = {}
    for key in shapes:
        prefix = next((before for anchor in _ANCHORS if (before := _before(key, anchor)) is not None), None)
        if prefix is not None:
            found[prefix] = None
            if len(found) >= _MAX_PREFIXES:
                break
    return list(found)


_ANCHORS = [anchor.split(".") for anchor in MATCHERS]
_LONGEST = 32  # components of an anchor with the names of wrappers in between


def _before(key: str, anchor: list[str]) -> str | None:
    """Return what stands before an anchor at the end of a key, in which names of wrappers may occur, or None."""
    if not key.endswith(anchor[-1]):
        return None
    parts = key.rsplit(".", _LONGEST)
    wanted = list(anchor)
    while parts and wanted:
        part = parts.pop()
        if part == wanted[-1]:
            wanted.pop()
        elif part not in WRAPPERS:
            return None
    if wanted:
        return None
    return f"{'.'.join(parts)}." if parts else ""
