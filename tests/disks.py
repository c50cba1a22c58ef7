"""Disks without room."""


def fill(folder):
    """Leave not one free byte."""
    with (folder / "filler").open("ab", buffering=0) as file:
        size = 65_536
        while size:
            try:
                file.write(b"\0" * size)
            except OSError:
                size //= 2
