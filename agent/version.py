"""This version, as `info` records and `grid --version` show it."""

VERSION = "0.1.0"
