"""Sphinx configuration."""

project = "siperb"
author = "the siperb authors"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
myst_heading_anchors = 3
suppress_warnings: list[str] = []
