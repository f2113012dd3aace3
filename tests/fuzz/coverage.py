"""Which lines of framing and decoding a set of inputs reaches."""

import gc
import sys
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType, ModuleType
from typing import Any

from archiver.flowdock import decode, envelope, fields, framing, markup, readable
from tests.fuzz.laws import check

MODULES = (framing, envelope, decode, fields, readable, markup)


def coverage(inputs: Iterable[bytes]) -> dict[str, tuple[int, int]]:
    """By module: how many lines of its functions *inputs* reach, and how many there are."""
    lines = {str(module.__file__): _lines(module) for module in MODULES}
    reached: dict[str, set[int]] = {name: set() for name in lines}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        seen = reached.get(frame.f_code.co_filename)
        if seen is None:
            return None
        seen.add(frame.f_lineno)
        return trace

    before, collects = sys.gettrace(), gc.isenabled()
    # Some inputs are nested as deep as Python allows. If a callback of the collector ran there, it
    # would be traced, and a trace function that raises RecursionError is removed without a word.
    gc.disable()
    sys.settrace(trace)
    try:
        for content in inputs:
            check(content)
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()
    names = (module.__name__.rpartition(".")[2] for module in MODULES)
    return {
        name: (len(seen & lines[file]), len(lines[file]))
        for name, (file, seen) in zip(names, reached.items(), strict=True)
    }


def _lines(module: ModuleType) -> set[int]:
    """The lines of *module* that run when its functions run."""
    assert module.__file__
    with open(module.__file__) as source:  # noqa: PTH123
        top = compile(source.read(), module.__file__, "exec")
    return {line for code in _functions(top) for line in _lines_of(code)}


def _functions(code: CodeType) -> Iterator[CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_name == "__annotate__":  # new in Python 3.14, runs only on demand
                continue
            if inner.co_flags & 0x2:  # the code of a function, not of a class body
                yield inner
            yield from _functions(inner)


def _lines_of(code: CodeType) -> Iterator[int]:
    for start, _, line in code.co_lines():
        if line and (start > 0 or line != code.co_firstlineno):
            yield line
