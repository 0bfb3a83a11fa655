"""The use cases of a registry, without HTTP."""
