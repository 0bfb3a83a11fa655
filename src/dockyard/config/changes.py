"""What is different in two configurations: keys, never values."""

from collections.abc import Iterator

from dockyard.config.schema import join
from dockyard.config.section import Section


def changed(before: Section, after: Section, path: str = "") -> Iterator[str]:
    """Yield the path of every key whose value is another; lists and mappings count as a whole."""
    for name, info in type(before).model_fields.items():
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        key = join(path, info.alias or name)
        if isinstance(old, Section) and isinstance(new, Section):
            yield from changed(old, new, key)
        else:
            yield key
