"""Compiled loops of this island; import late: numba takes a moment to start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, no_type_check

import numba
from llvmlite import ir
from numba.extending import intrinsic


def compiled(inline: Literal["never", "always"] = "never") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile on first call, and keep the machine code between runs where there is a place for it."""

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(cache=True, nogil=True, inline=inline)(function)
        except RuntimeError:  # no folder that can be written to
            return numba.njit(nogil=True, inline=inline)(function)

    return wrapped


@intrinsic
@no_type_check
def leading_zeros(typing, number):
    """Zeros above the highest bit that is set, of a number that is not 0; one instruction, also in vectors."""

    @no_type_check
    def emit(context, builder, signature, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))

    return number(number), emit
