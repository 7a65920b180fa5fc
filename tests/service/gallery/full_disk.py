"""Fill the file system at a path until the store refuses, free space, and store again; print a word for each step."""

import sys
from pathlib import Path

from service.errors import StorageFull
from service.gallery.administration import create_gallery, read_gallery
from service.gallery.galleries import Galleries
from service.gallery.templates import store_templates
from tests.service.gallery.conftest import CONTRACT, DIMENSIONS, people, template

root = Path(sys.argv[1])
ballast = root / "ballast"
ballast.write_bytes(bytes(2**19))
galleries = Galleries(root / "galleries", CONTRACT, DIMENSIONS)
create_gallery(galleries, "staff")
acknowledged = 0
try:
    for number in range(1000):
        store_templates(galleries, "staff", [(f"s{number}", template(vector)) for vector in people(1, 64, number)[0]])
        acknowledged += 64
except StorageFull as error:
    print(error.code)
counts = read_gallery(galleries, "staff")
if counts[1:] == (acknowledged // 64, acknowledged) and not galleries.database.integrity_faults() and acknowledged:
    print("intact")
ballast.unlink()
store_templates(galleries, "staff", [("late", template(people(1, 1, 5000)[0, 0]))])
galleries.close()
galleries = Galleries(root / "galleries", CONTRACT, DIMENSIONS)
if read_gallery(galleries, "staff")[2] == acknowledged + 1:
    print("recovered")
galleries.close()
