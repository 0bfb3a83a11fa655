"""Is a history of reads and writes of one value explained by some order in which they took effect?

For a register to which each value is written at most once this is decided exactly: all operations
on one value form a cluster; each cluster has a zone between the first end and the last begin among
its operations. A history is linearizable if, and only if, nothing is read that was not written,
nothing is read before it began to be written, no two forward zones overlap, and no backward zone
lies within a forward one.

Source: Gibbons and Korach, Testing Shared Memories, SIAM J. Comput. 26 (1997), theorem 3.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Operation:
    """One read or write of the value.

    Attributes:
        value: what was read or written.
        began: moment before it was asked for.
        ended: moment after it was answered; infinity for a write that was not.
    """

    value: str
    began: float
    ended: float
    is_write: bool


def violations(operations: Iterable[Operation]) -> list[str]:
    """Return why the history can't be explained; nothing if it can."""
    clusters: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        clusters[operation.value].append(operation)
    found: list[str] = []
    forward: list[tuple[float, float, str]] = []
    backward: list[tuple[float, float, str]] = []
    for value, cluster in clusters.items():
        writes = [operation for operation in cluster if operation.is_write]
        if len(writes) != 1:
            found.append(f"{value} was read and written {len(writes)} times")
            continue
        if any(operation.ended < writes[0].began for operation in cluster):
            found.append(f"{value} was read before it was written")
        first_end = min(operation.ended for operation in cluster)
        last_begin = max(operation.began for operation in cluster)
        if first_end < last_begin:
            forward.append((first_end, last_begin, value))
        else:
            backward.append((last_begin, first_end, value))
    forward.sort()
    found += [
        f"{later} was there between two sights of {earlier}"
        for (_, end, earlier), (begin, _, later) in pairwise(forward)
        if begin < end
    ]
    found += [
        f"{value} was never seen, though it was written after {around} and before {around} was read"
        for start, end, value in backward
        for outer_start, outer_end, around in forward
        if outer_start < start and end < outer_end
    ]
    return found
