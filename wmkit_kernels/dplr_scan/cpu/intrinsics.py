"""What Numba has no words for: an address as a pointer, and a hint that memory will be wanted soon.

Numba keeps compiled code on disk and looks at the file of the kernel alone: after a change here, delete `__pycache__`.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

READ, NEAREST, DATA = 0, 3, 1
"""Of LLVM's `prefetch`: to be read, into the nearest cache; data, not instructions."""


@intrinsic
def pointer(typing, address):
    """An int64 as `void *`, for `numba.carray`."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@intrinsic
def prefetch(typing, array, index):
    """Ask for the cache line that holds element `index` of a contiguous array; one outside of it does no harm."""

    def generate(context, builder, signature, arguments):
        number, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        hint = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, hint, "llvm.prefetch.p0")
        builder.call(function, [address, number(READ), number(NEAREST), number(DATA)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate
