"""The ops under PyTorch's compiler, in processes of their own, without hooks and without Triton's interpreter."""

import subprocess
import sys

import pytest
import torch

from wmkit_kernels.dplr_kernel import op as kernel
from wmkit_kernels.dplr_scan import recurrence
from wmkit_kernels.fft_conv import op as conv

pytestmark = pytest.mark.no_cover  # the compiler is slow when it is watched

CODE = """
import sys, warnings
import torch
from wmkit.backbones import S4, S4Config

torch.manual_seed(0)
backbone = S4(12, S4Config(input_dim=12, layers=1, feedforward=24, state_size=8))
x, is_first = torch.randn(2, 11, 12), torch.rand(2, 11) < 0.1
state = tuple(s.detach() for s in backbone.scan(x)[1])
PATHS = {
    "convolution": lambda x: backbone.scan(x, return_state=False)[0],
    "recurrence": lambda x: backbone.scan(x, state, is_first)[0],
    "step": lambda x: backbone.step(x[:, 0], state)[0],
}

def close(a, b):
    return (a is None and b is None) or (a - b).norm() <= 2e-5 * a.norm()

def gradients(f):
    y, generator = f(x), torch.Generator().manual_seed(0)
    weight = torch.randn(y.shape, generator=generator)
    return torch.autograd.grad((y * weight).sum(), list(backbone.parameters()), allow_unused=True)
"""

EAGER = """
for name, f in PATHS.items():
    compiled = torch.compile(f, backend="aot_eager", fullgraph=True)
    assert close(f(x), compiled(x)), name
    assert all(map(close, gradients(f), gradients(compiled))), name
    with torch.no_grad():
        assert close(f(x), torch.compile(f, backend="aot_eager", fullgraph=True)(x)), name
"""

INDUCTOR = """
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "`torch.jit.script_method` is deprecated", DeprecationWarning)  # in Inductor
warnings.filterwarnings("ignore", "Torchinductor does not support code generation for complex", UserWarning)
layer = backbone.layers[0].ssm
f = lambda x: layer.scan(x, None, None, False)[0]
compiled = torch.compile(f, backend="inductor", fullgraph=True)
assert close(f(x), compiled(x))
compiled(x).sum().backward()
"""


@pytest.mark.early
def test_an_s4_block_compiles_in_one_graph_and_gives_the_same(without_interpreter):
    without_interpreter("-c", CODE + EAGER + INDUCTOR)


def leaf(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("triton", [False, True])
@pytest.mark.filterwarnings("ignore:The given buffer is not writable")
def test_the_custom_ops_keep_the_rules_of_custom_ops(triton):
    system = (*(leaf(*lead, 4, 2) for lead in ((), (), (1,), (3,))), torch.rand(3, requires_grad=True))
    torch.library.opcheck(kernel._kernel_op.overload, (*system, 5, triton))
    table, u, state, is_first = leaf(5, 3, 4, 2), leaf(2, 5, 3), leaf(2, 3, 4, 2), torch.rand(2, 5) < 0.3
    for given in ((None, None), (state, is_first)):
        torch.library.opcheck(recurrence._recurrence_op.overload, (table, u, *given, triton, True))


def test_the_convolution_keeps_the_rules_of_custom_ops():
    torch.library.opcheck(conv._conv.overload, (leaf(3, 5), leaf(2, 5, 3)))


def test_the_first_call_of_an_op_does_not_import_the_compiler():
    code = "import sys, torch; from wmkit_kernels import dplr_kernel, diagonal_scan;" \
           "diagonal_scan(torch.rand(3, requires_grad=True), torch.randn(1, 4, 3)).sum().backward();" \
           "assert 'torch._dynamo' not in sys.modules"  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True)
