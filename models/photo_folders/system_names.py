"""Names that operating systems, NAS systems and programs give to their own files and folders among photos.

They hold thumbnails, deleted photos, old versions and other copies of photos, which must not become templates or
calibration pictures. A name in these tables is compared without regard to case, because file servers change it.

A name that begins with a dot is hidden on Unix and needs no entry: `._1.jpg` and `.DS_Store` (macOS), `.AppleDouble`
(netatalk), `.Trash-1000` and `.thumbnails` (freedesktop.org), `.@__thumb` (QNAP), `.picasaoriginals` (Picasa),
`.stversions` (Syncthing), `.zfs` and `.snapshot` (file systems), `.trashed-1700000000-1.jpg` (Android), `.git`.

Names that begin with `@` or `#` are listed one by one, because a person's folder may be named `@ann`.
"""

import re

_SYSTEM_OF = {
    # Synology DSM
    "@eadir": "thumbnails and indexes",
    "@tmp": "temporary files",
    "#recycle": "deleted files; also TrueNAS and Samba",
    "#snapshot": "old versions of all files",
    "@sharesnap": "old versions of all files",
    # QNAP QTS; its other folders begin with a dot
    "@recycle": "deleted files",
    "@recently-snapshot": "old versions of all files",
    "@transcode": "converted copies",
    # other NAS systems
    "network recycle bin": "deleted files, QNAP before QTS 4",
    "recycle bin": "deleted files, Netgear ReadyNAS",
    "trashbox": "deleted files, Buffalo",
    "~snapshot": "old versions of all files, NetApp",
    # Windows
    "$recycle.bin": "deleted files",
    "recycler": "deleted files, Windows XP",
    "recycled": "deleted files, Windows 98 on FAT",
    "system volume information": "restore points",
    "thumbs.db": "thumbnails",
    "ehthumbs.db": "thumbnails, Media Center",
    "ehthumbs_vista.db": "thumbnails, Media Center",
    "desktop.ini": "appearance of a folder",
    # macOS and its file servers
    "__macosx": "extended attributes in zip files",
    "network trash folder": "deleted files, AppleShare and netatalk",
    "temporary items": "temporary files, AppleShare and netatalk",
    "icon\r": "icon of a folder",
    # Linux and Android
    "lost+found": "fragments that fsck found",
    "lost.dir": "fragments that Android found",
    # programs that manage, synchronise or publish photos
    "_gsdata_": "state and old versions, GoodSync",
    "files_trashbin": "deleted files, Nextcloud and ownCloud",
    "files_versions": "old versions, Nextcloud and ownCloud",
    "captureone": "thumbnails and settings, Capture One",
    "[originals]": "originals of edited photos, ACDSee",
    "picasa.ini": "albums and edits, Picasa 2",
    "zbthumbnail.info": "thumbnails, Canon ZoomBrowser",
    "thmbnl": "thumbnails of videos, Sony cameras",
}

_PATTERNS = re.compile(
    r"""\..*                    # hidden on Unix
    |   :2e.*                   # the same, as netatalk 2 writes it
    |   ~\$.*                   # lock files, Microsoft Office
    |   found\.\d{3}            # fragments that Windows' chkdsk found
    |   .*\.(?:
            lrdata | lrcat-data # previews, Adobe Lightroom
        |   photoslibrary | photolibrary | aplibrary | migratedphotolibrary  # macOS Photos, iPhoto, Aperture
        |   cocatalogdb | cosessiondb  # Capture One
        |   thm                 # JPEG thumbnail of a video, Canon and GoPro
        |   ffs_tmp | ffs_db    # FreeFileSync
        )
    |   .*@syno(?:eastream|resource)  # extended attributes, Synology
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def is_system_name(name: str) -> bool:
    """Return whether a file or folder of this name belongs to a system or program and not to the user."""
    return name.lower() in _SYSTEM_OF or _PATTERNS.fullmatch(name) is not None
