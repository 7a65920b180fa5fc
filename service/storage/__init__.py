"""What every store of the service needs: private files, errors of the disk, tables with migrations."""
