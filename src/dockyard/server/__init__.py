"""The composition root: from settings to a running registry."""
