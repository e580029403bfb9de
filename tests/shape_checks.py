"""What checks shapes at run time in tests: each of our functions and dataclasses that has a shape in its signature.

jaxtyping's import hook puts its decorator on all of them. Its own binds all parameters by name at each call and checks
each of them twice, which takes longer than much of what is called; `checked` checks those with a shape once, within
axes of its own. All other types are checked by mypy.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, get_args

import jaxtyping
import torch
from beartype import BeartypeConf, beartype

typed = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int where a float is wanted, as mypy takes it (PEP 484)
own_axes = jaxtyping.jaxtyped("context")


def install(packages: Sequence[str]) -> None:
    """Check whatever these packages define from now on."""
    jaxtyping.jaxtyped = lambda *, typechecker: checked  # what the hook finds under this name as modules are imported
    jaxtyping.install_import_hook(packages, None)


def checked(what: Any) -> Any:
    """A function that checks its arguments and result, or a dataclass that checks its fields."""
    if not inspect.isclass(what):
        return _checked(what)
    if dataclasses.is_dataclass(what) and "__init__" in vars(what):
        what.__init__ = _checked(what.__init__)
    return what


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    hints = function.__annotations__
    shapes = {name: hint for name, hint in hints.items() if _has_shape(hint)}
    # An inner function is left out: its check would be compiled anew at each call of the outer one.
    if not shapes or "<locals>" in function.__qualname__:
        return function
    function.__annotations__ = shapes
    check = typed(function)
    function.__annotations__ = hints

    @wraps(function)
    def with_own_axes(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # a compiled graph has no place for checks
            return function(*args, **kwargs)
        with own_axes:
            return check(*args, **kwargs)

    @wraps(function)
    def each_with_own_axes(*args: Any, **kwargs: Any) -> Iterator[Any]:
        items = check(*args, **kwargs)
        while True:  # in between, whoever takes them has axes of their own
            with own_axes:
                try:
                    item = next(items)
                except StopIteration as end:
                    return end.value
            yield item

    return each_with_own_axes if inspect.isgeneratorfunction(function) else with_own_axes


def _has_shape(hint: Any) -> bool:
    """Whether a hint is, or holds at any depth, an array of a shape."""
    return (inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)) or any(map(_has_shape, get_args(hint)))
