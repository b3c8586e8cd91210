"""The compiled functions of each token are PyTorch's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from poslab.compiled import library, rows
from poslab.encodings.rotary.rotation import rotate_half_split, rotate_interleaved

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="there is no C++ compiler"),
]

SHAPES = [(2, 3, 64), (1, 2), (130, 257), (5, 7, 16)]
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 5e-3}


@pytest.fixture(scope="module", autouse=True)
def _loaded(operators: Path):
    try:
        library.load_kernel(operators)
    except library.NoKernelError as error:
        pytest.skip(str(error))
    yield
    library.disable()


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def error(x: Tensor, exact: Tensor) -> float:
    return ((x.detach().double() - exact.detach()).norm() / exact.detach().norm()).item()


def assert_same(function, exact, *inputs: Tensor) -> None:
    """Compare a function with itself in float64, with its gradients too."""
    inputs = tuple(x.detach().requires_grad_() for x in inputs)
    doubles = tuple(x.detach().double().requires_grad_() for x in inputs)
    y, expected = function(*inputs), exact(*doubles)
    gradient = some(*expected.shape, seed=9).to(y.dtype)
    assert error(y, expected) < TOLERANCE[y.dtype]
    found = torch.autograd.grad(y, inputs, gradient)
    for x, of_x in zip(found, torch.autograd.grad(expected, doubles, gradient.double()), strict=True):
        assert error(x, of_x) < TOLERANCE[y.dtype]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("eps", [None, 0.1])
def test_the_norm_is_that_of_pytorch(shape, eps, monkeypatch):
    ours, theirs = rows.RMSNorm(shape[-1], eps), nn.RMSNorm(shape[-1], eps or torch.finfo(torch.float32).eps)
    monkeypatch.delattr(functional, "rms_norm")  # the operator serves ours
    assert_same(
        lambda x, weight: torch.func.functional_call(ours, {"weight": weight}, x),
        lambda x, weight: x * (x.square().mean(-1, keepdim=True) + theirs.eps).rsqrt() * weight,
        some(*shape),
        some(shape[-1], seed=1),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 64), (1, 2), (130, 258), (5, 7, 34)], ids=str)
def test_the_gate_is_silu(shape, dtype, monkeypatch):
    def exact(x: Tensor) -> Tensor:
        gate, up = x.chunk(2, -1)
        return gate * torch.sigmoid(gate) * up

    monkeypatch.delattr(functional, "silu")
    assert_same(rows.gated, exact, (3 * some(*shape)).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("of_batch", [False, True], ids=["shared", "of each head of a row"])
@pytest.mark.parametrize("pairs", [1, 4, 16, 17])
@pytest.mark.parametrize("rotate", [rotate_half_split, rotate_interleaved])
def test_pairs_turn_as_complex_numbers_do(rotate, pairs, of_batch, dtype, monkeypatch):
    x_BTHD = some(2, 5, 3, 34).to(dtype)
    angles = 3 * some(*((2, 3) if of_batch else ()), 5, pairs, seed=1)

    def exact(x_BHTD: Tensor) -> Tensor:
        turning, rest = x_BHTD.split([2 * pairs, 34 - 2 * pairs], -1)
        halves = turning.unflatten(-1, (2, pairs) if rotate is rotate_half_split else (pairs, 2))
        dim = -2 if rotate is rotate_half_split else -1
        first, second = halves.unbind(dim)
        turned = torch.polar(torch.ones_like(angles.double()), angles.double()) * torch.complex(first, second)
        return torch.cat([torch.stack([turned.real, turned.imag], dim).flatten(-2), rest], -1)

    monkeypatch.setattr("poslab.encodings.rotary.rotation._rotated", None)
    assert_same(lambda x: rotate(x, angles.cos(), angles.sin()), exact, x_BTHD.transpose(1, 2))


def test_gradients_of_tables_are_those_without_the_operators(monkeypatch):
    x, cos, sin = (some(*shape, seed=n) for n, shape in enumerate([(2, 3, 5, 8), (5, 4), (5, 4)]))
    gradients = []
    for enabled in (True, False):
        monkeypatch.setattr(library, "_enabled", enabled)
        inputs = [x.clone().requires_grad_() for x in (x, cos, sin)]
        gradients.append(torch.autograd.grad(rotate_half_split(*inputs).square().sum(), inputs))
    torch.testing.assert_close(*gradients)


def test_transforms_and_compilers_meet_pytorchs_own_functions():
    norm, x = rows.RMSNorm(8), some(4, 8)
    per_row = torch.func.vmap(torch.func.grad(lambda x: rows.gated(norm(x)).sum()))(x)
    direct = x.clone().requires_grad_()
    rows.gated(norm(direct)).sum().backward()
    torch.testing.assert_close(per_row, direct.grad)
    compiled = torch.compile(lambda x: rows.gated(norm(x)), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), rows.gated(norm(x)))


@pytest.mark.parametrize("shape", [(0, 8), (3, 0, 8)], ids=str)
def test_nothing_has_a_norm_and_a_gate(shape):
    assert rows.gated(rows.RMSNorm(8)(torch.zeros(shape))).shape == (*shape[:-1], 4)


def test_numbers_that_are_not_finite_stay_in_their_rows():
    x = some(3, 8)
    x[1, 2] = torch.nan
    for y in (rows.RMSNorm(8)(x), rows.gated(x), rows.gated(x.bfloat16())):
        assert torch.isfinite(y).all(-1).tolist() == [True, False, True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_gate_of_large_numbers_is_finite(dtype):
    x = torch.tensor([[-1e4, 1e4, -90.0, 90.0] * 8], dtype=dtype, requires_grad=True)
    y = rows.gated(torch.cat([x, torch.ones_like(x)], -1))
    torch.testing.assert_close(y, functional.silu(x))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, (x > 0).to(dtype))


def test_modes_that_read_or_replace_operations_meet_pytorchs_own_functions():
    x, ones, norm = some(4, 8), torch.ones(4, 8), rows.RMSNorm(8).requires_grad_(False)

    def norm_and_gate(x: Tensor) -> Tensor:
        return rows.gated(norm(x))

    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(norm_and_gate(forward_ad.make_dual(x, ones))).tangent
    torch.testing.assert_close(tangent, torch.func.jvp(norm_and_gate, (x,), (ones,))[1])
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert norm_and_gate(torch.empty(4, 8)).shape == (4, 4)
    for traced in (make_fx(norm_and_gate)(x), torch.jit.trace(norm_and_gate, x)):
        torch.testing.assert_close(traced(2 * x), norm_and_gate(2 * x))


def test_outputs_may_be_changed_in_place_and_inputs_may_not():
    x = some(4, 8).requires_grad_()
    norm = rows.RMSNorm(8)
    for function in (norm, rows.gated):
        (expected,) = torch.autograd.grad((2 * function(x)).sum(), x)
        (gradient,) = torch.autograd.grad(function(x).mul_(2).sum(), x)
        assert torch.equal(gradient, expected)
        for read in (x.clone(), x.clone().t().contiguous().t()):
            y = function(read)
            read.add_(1)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                y.sum().backward()


def test_sizes_that_do_not_fit_are_an_error():
    x, angles = some(1, 1, 4, 8), some(4, 6)
    for function in (
        lambda: rows.RMSNorm(16)(x),
        lambda: rows.gated(x[..., :5]),
        lambda: rotate_half_split(x, angles.cos(), angles.sin()),
        lambda: rotate_interleaved(x, angles.cos(), angles.sin()),
    ):
        with pytest.raises(RuntimeError):
            function()


@pytest.mark.parametrize("rotate", [rotate_half_split, rotate_interleaved])
def test_rows_that_share_numbers_rotate_as_copies_do(rotate):
    numbers, angles = some(2, 3, 20), some(5, 4)
    windows = numbers.unfold(-1, 8, 1)[:, :, :5]
    outputs = (rotate(x, angles.cos(), angles.sin()) for x in (windows, windows.contiguous()))
    assert torch.equal(*outputs)


def test_results_do_not_depend_on_the_number_of_threads():
    x, gradient = some(3000, 129), some(3000, 129, seed=1)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        norm, leaf = rows.RMSNorm(129), x.clone().requires_grad_()
        y = norm(leaf)
        results.append([y.detach(), *torch.autograd.grad(y, (leaf, norm.weight), gradient)])
    torch.set_num_threads(before)
    assert all(map(torch.equal, results[0], results[1]))
    assert all(map(torch.equal, results[0], results[2]))
