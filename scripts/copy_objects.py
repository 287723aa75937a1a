"""Copies what differs between a folder and a prefix in object storage, in either direction: for backup and restore.

    python scripts/copy_objects.py s3://bucket/store backup/store

Endpoint and keys come from the environment, as for the platform (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...). Files are
compared by checksum; run again, it goes on where it was interrupted. Nothing is removed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paeplatform.resources.migration.files import copy_tree, fetch_tree
from paeplatform.resources.objects import is_remote, store_path


def main(argv: list[str] | None = None) -> int:
    """Runs the copy; exit code 2 when the two places are of one kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("source", help="folder or s3://bucket/prefix")
    parser.add_argument("to", help="the other kind")
    chosen = parser.parse_args(argv)
    if is_remote(chosen.source) == is_remote(chosen.to):
        parser.error("one of the two must be a folder, the other s3://bucket/prefix")
    if is_remote(chosen.to):
        files, sent = copy_tree(Path(chosen.source), store_path(chosen.to))
    else:
        files, sent = fetch_tree(store_path(chosen.source), Path(chosen.to))
    print(f"{files} files, {sent} copied")
    return 0


if __name__ == "__main__":
    sys.exit(main())
