"""The compiled operators compute attention as its definition does, about as exactly as PyTorch's kernel."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from poslab.attention import Visibility, attend, kernel
from poslab.attention.distance import attend_by_distance, distance_attention, distance_attention_backward
from poslab.compiled import library
from poslab.encodings import Alibi, NoPosition, Positions, Rotary, T5Bias

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="there is no C++ compiler"),
]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@pytest.fixture(scope="module")
def folder(operators: Path) -> Path:
    try:
        library.load_kernel(operators)
    except library.NoKernelError as error:
        pytest.skip(str(error))
    return operators


@pytest.fixture(autouse=True)
def _loaded(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(library, "_enabled", True)
    yield


@pytest.fixture(scope="module", autouse=True)
def _unloaded_behind_it():
    yield
    library._enabled = False


def some(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_definition(q, k, v, bias, mask, sinks=None) -> Tensor:
    """Return softmax(q k^T / sqrt(D) + bias) v in float64, zero where nothing is seen."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    logits = (q @ k.mT * q.shape[-1] ** -0.5 + bias).masked_fill(~mask, -1e30)
    if sinks is not None:
        logits = torch.cat([logits, sinks.view(1, -1, 1, 1).expand(*logits.shape[:3], 1)], -1)
    weights = logits.softmax(-1)[..., : mask.shape[-1]] * mask
    return weights @ v


def error(x: Tensor, expected: Tensor) -> float:
    return float((x.detach().double() - expected.detach()).norm() / expected.norm().clamp_min(1))


def gradients(output: Tensor, gradient: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(output, inputs, gradient.to(output.dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "num_queries", "num_keys", "width"),
    [
        (4, 2, 37, 37, 16),
        (2, 2, 64, 64, 64),
        (2, 1, 70, 129, 6),
        (2, 2, 1, 40, 8),
        (1, 1, 5, 3, 2),
        (2, 2, 200, 200, 32),
    ],
)
def test_outputs_and_gradients_are_those_of_the_definition(dtype, heads, kv_heads, num_queries, num_keys, width):
    batch, numbers = 2, num_queries + num_keys - 1
    q, k, v = some(batch, heads, num_queries, width), *some(2, batch, kv_heads, num_keys, width, seed=1)
    gradient, table = some(batch, heads, num_queries, width, seed=2), some(heads, numbers, seed=3)
    documents = (torch.arange(num_keys) * 3 // num_keys).expand(batch, -1)
    distance = torch.arange(num_keys - num_queries, num_keys).unsqueeze(-1) - torch.arange(num_keys)
    rules = product((True, False), (None, 1, 9), (False, True), (False, True), (False, True), (False, True))
    for causal, window, has_bias, has_documents, has_padding, has_sinks in rules:
        if num_queries > num_keys and (causal or has_documents):
            continue
        real = some(batch, num_keys, seed=4) > -0.5 if has_padding else None
        segments = documents if has_documents else None
        mask = torch.ones(batch, 1, num_queries, num_keys, dtype=torch.bool)
        if causal and num_queries > 1:
            mask = mask & (distance >= 0)
        if window is not None:
            mask = mask & (distance.abs() < window)
        if real is not None:
            mask = mask & real[:, None, None]
        own = None if segments is None else segments[:, num_keys - num_queries :]
        if segments is not None:
            mask = mask & (own[:, None, :, None] == segments[:, None, None])
        sinks = some(heads, seed=5) if has_sinks else None
        leaves = [x.to(DTYPES[dtype]).requires_grad_() for x in (q, k, v)]
        leaves += [x.clone().requires_grad_() for x in (table if has_bias else None, sinks) if x is not None]
        of_bias, of_sinks = leaves[3] if has_bias else None, leaves[-1] if has_sinks else None
        visibility = Visibility(causal, window, own, segments, real)
        output = attend_by_distance(*leaves[:3], of_bias, visibility, width**-0.5, of_sinks)
        exact = [x.detach().double().requires_grad_() for x in leaves]
        bias = exact[3][:, distance + num_queries - 1] if has_bias else 0
        expected = by_definition(*exact[:3], bias, mask, exact[-1] if has_sinks else None)
        bound = 1e-5 if dtype == "float32" else 2e-2
        case = (causal, window, has_bias, has_documents, has_padding, has_sinks)
        assert error(output, expected) < bound, case
        pairs = zip(gradients(output, gradient, leaves), gradients(expected, gradient, exact), strict=True)
        # Without a choice of keys the gradients of q and k are zero, and rounding is all that is left.
        assert max(error(x, y) for x, y in pairs) < bound * (10 if window == 1 else 1), case


@pytest.mark.parametrize("window", [None, 9, 600])
@pytest.mark.parametrize(("num_queries", "num_keys"), [(150, 1100), (1100, 1100), (300, 300), (70, 4096)])
def test_blocks_of_rounded_sizes_are_those_of_the_definition(num_queries, num_keys, window):
    q, gradient = some(2, 1, 2, num_queries, 8)
    k, v = some(2, 1, 1, num_keys, 8, seed=1)
    table = some(2, num_queries + num_keys - 1, seed=2)
    distance = torch.arange(num_keys - num_queries, num_keys).unsqueeze(-1) - torch.arange(num_keys)
    mask = (distance >= 0) & (distance < (window or num_keys))
    leaves = [x.clone().requires_grad_() for x in (q, k, v, table)]
    exact = [x.double().requires_grad_() for x in (q, k, v, table)]
    output = attend_by_distance(*leaves, Visibility(window=window), 8**-0.5)
    expected = by_definition(*exact[:3], exact[3][:, distance + num_queries - 1], mask)
    assert error(output, expected) < 1e-5
    pairs = zip(gradients(output, gradient, leaves), gradients(expected, gradient, exact), strict=True)
    assert max(error(x, y) for x, y in pairs) < 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("deviation", [1, 2, 3])
@pytest.mark.parametrize("length", [128, 256, 1024])
def test_errors_are_at_most_half_as_large_again_as_those_of_pytorch(dtype, deviation, length):
    q, k, v = (some(2, 2, length, 64, seed=seed, dtype=DTYPES[dtype]) for seed in range(3))
    q, gradient = q * deviation, some(2, 2, length, 64, seed=3, dtype=DTYPES[dtype])
    if not kernel.serves(q, length):
        pytest.skip(f"on this processor the operators do not serve {dtype}")
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    expected = functional.scaled_dot_product_attention(*exact, is_causal=True)
    expected = [expected.detach(), *gradients(expected, gradient.double(), exact)]
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    theirs = functional.scaled_dot_product_attention(*leaves, is_causal=True)
    theirs = [theirs, *gradients(theirs, gradient, leaves)]
    ours = attend(*leaves, NoPosition(), None, Visibility())
    ours = [ours, *gradients(ours, gradient, leaves)]
    for our, their, exactly in zip(ours, theirs, expected, strict=True):
        assert error(our, exactly) <= 1.5 * error(their, exactly)
        of_rows = [(x.double() - exactly).norm(dim=-1).max() for x in (our, their)]
        assert of_rows[0] <= 2 * of_rows[1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_encodings_attend_as_without_it(dtype, monkeypatch):
    positions = Positions.range(100)
    q, k, v = some(2, 4, 100, 32), *some(2, 2, 2, 100, 32, seed=1)
    for encoding in (Rotary(head_dim=32), Alibi(num_heads=4), T5Bias(num_heads=4, head_dim=32, d_model=128)):
        tables = encoding.prepare(positions, positions)
        inputs = [x.to(DTYPES[dtype]) for x in (q, k, v)]
        results = []
        for is_loaded in (True, False):
            monkeypatch.setattr(library, "_enabled", is_loaded)
            results.append(attend(*inputs, encoding, tables, Visibility(window=30)))
        difference = (results[0] - results[1]).abs().max()
        assert 0 < difference < (1e-5 if dtype == "float32" else 3e-2)


def test_it_runs_under_compile_autocast_and_transforms_of_functions():
    q, k, v = (some(2, 2, 24, 8, seed=seed) for seed in range(3))

    encoding, visibility = NoPosition(), Visibility()

    def loss(q: Tensor) -> Tensor:
        return attend(q, k, v, encoding, None, visibility).square().sum()

    expected = torch.func.grad(loss)(q)
    leaf = q.clone().requires_grad_()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(leaf).backward()
    assert torch.allclose(leaf.grad, expected, atol=1e-6)
    each = torch.func.vmap(torch.func.grad(loss))(torch.stack([q, 2 * q]))
    assert torch.allclose(each[0], expected, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert attend(q, k, v, NoPosition(), None, Visibility()).dtype == torch.bfloat16


@pytest.mark.parametrize("view", ["transposed", "every second channel", "one row", "odd rows", "from another channel"])
def test_any_strides_of_the_operands_give_the_same(view):
    views = {
        "transposed": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
        "every second channel": lambda x: x.repeat_interleave(2, -1)[..., ::2],
        "one row": lambda x: x[:, :, :1].expand(-1, -1, 40, -1),
        "odd rows": lambda x: functional.pad(x, (0, 1))[..., :-1],
        "from another channel": lambda x: functional.pad(x, (1, 1))[..., 1:-1],
    }
    inputs = [views[view](some(2, 2, 40, 16, seed=seed, dtype=torch.bfloat16)) for seed in range(3)]
    settings = (None, None, 0, 40, 0.3)
    output, log_sum = distance_attention(*inputs, *settings)
    copies = [x.clone(memory_format=torch.contiguous_format) for x in inputs]
    assert torch.equal(output, distance_attention(*copies, *settings)[0])
    backward = [
        distance_attention_backward(x[0], *x, None, None, output, log_sum, False, 0, 40, 0.3, *[None] * 5)
        for x in (inputs, copies)
    ]
    assert all(map(torch.equal, *backward))


def test_places_beyond_the_bias_are_an_error():
    q = some(1, 1, 4, 8)
    places = torch.tensor([[0, 1, 2, 9]])
    for query_places, key_places in ((places, torch.zeros_like(places)), (torch.zeros_like(places), places)):
        with pytest.raises(IndexError, match="places must differ by 0 to 4"):
            distance_attention(q, q, q, some(1, 5), None, -4, 4, 1.0, None, None, None, query_places, key_places)
        with pytest.raises(IndexError, match="places must differ by 0 to 4"):
            settings = (q, q[..., 0], True, -4, 4, 1.0, None, None, None, query_places, key_places)
            distance_attention_backward(q, q, q, q, some(1, 5), None, *settings)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [None, 1])
def test_not_a_number_stays_one(window, dtype):
    q = some(1, 1, 20, 8, dtype=DTYPES[dtype])
    q[0, 0, 3, 0] = math.nan
    output = attend(q, q.nan_to_num(), q.nan_to_num(), NoPosition(), None, Visibility(window=window))
    assert output[0, 0, 3].isnan().all()
    assert output[0, 0, :3].isfinite().all()


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_needs_no_onednn(dtype):
    q = some(1, 1, 20, 8, dtype=DTYPES[dtype])
    expected = attend(q, q, q, NoPosition(), None, Visibility())
    with torch.backends.mkldnn.flags(enabled=False):
        output = attend(q, q, q, NoPosition(), None, Visibility())
    assert error(output, expected.double()) < (1e-5 if dtype == "float32" else 2e-2)


def test_the_largest_window_is_no_window():
    q = some(1, 1, 20, 8)
    outputs = [
        attend_by_distance(q, q, q, None, Visibility(causal=False, window=window), 0.3) for window in (None, 2**63 - 1)
    ]
    assert torch.equal(*outputs)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32])
def test_documents_have_numbers_of_any_dtype(dtype):
    q, documents = some(1, 1, 20, 8), (torch.arange(20) > 8)[None]
    outputs = [
        attend_by_distance(q, q, q, None, Visibility(query_segments=numbers, key_segments=numbers), 0.3)
        for numbers in (documents.to(dtype), documents.long())
    ]
    assert torch.equal(*outputs)


def test_a_machine_without_a_compiler_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(library.NoKernelError, match="no C"):
        library.compile_kernel(tmp_path)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("echo 'error: no such instruction' >&2; exit 1", "no such instruction"),
        (r"printf '\377 error: of another locale' >&2; exit 1", "of another locale"),
        ("kill -9 $$", "exit status -9"),
        ("exit 0", "No such file"),
    ],
)
def test_a_compiler_that_fails_is_named_and_leaves_nothing(words, reason, monkeypatch, tmp_path):
    broken = tmp_path / "broken-c++"
    broken.write_text(f"#!/bin/sh\n{words}\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(library.NoKernelError, match=rf"broken-c\+\+ cannot compile .*{reason}"):
        library.compile_kernel(tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_compiler_that_hangs_is_named_and_ends_with_its_processes(monkeypatch, tmp_path):
    hanging = tmp_path / "hanging-c++"
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    hanging.write_text(f"#!/bin/sh\nexec 3> {pipe}\ntail -f /dev/null &\nwait\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("CXX", str(hanging))
    monkeypatch.setattr(library, "COMPILE_TIMEOUT_S", 1)
    with pytest.raises(library.NoKernelError, match=r"hanging-c\+\+ cannot compile Poslab's operators in 1 seconds$"):
        library.compile_kernel(tmp_path / "cache")
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""  # at the end, which waits for the last process that may write
    os.close(reader)
    assert not list((tmp_path / "cache").iterdir())


def test_what_a_killed_process_left_is_removed(monkeypatch, tmp_path):
    failing = tmp_path / "failing-c++"
    failing.write_text("#!/bin/sh\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setenv("CXX", str(failing))
    folders = [tmp_path / "cache" / name for name in ("tmp_left", "tmp_of_another_process")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "operators.so").touch()
    os.utime(folders[0], (0, 0))
    with pytest.raises(library.NoKernelError):
        library.compile_kernel(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == folders[1:]


def test_a_compiler_is_called_with_the_words_of_its_command(monkeypatch, tmp_path):
    cache = tmp_path / "my cache++"
    cache.write_text('#!/bin/sh\necho "error: called with $1" >&2; exit 1\n')
    cache.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{cache}' the-compiler --option")
    with pytest.raises(library.NoKernelError, match="error: called with the-compiler"):
        library.compile_kernel(tmp_path / "cache")
    monkeypatch.setenv("CXX", "'g++")
    with pytest.raises(library.NoKernelError, match="CXX must be a command"):
        library.compile_kernel(tmp_path / "cache")


def test_a_kept_library_needs_no_compiler(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert library.is_compiled(folder)
    library.load_kernel(folder)
    assert library.serves(torch.zeros(1))


def test_a_library_is_kept_whole_under_its_facts(folder, monkeypatch):
    assert library.is_compiled(folder)
    assert [path.suffix for path in folder.iterdir()] == [".so"]
    monkeypatch.setattr(torch, "__version__", "another")
    assert not library.is_compiled(folder)


@pytest.mark.parametrize(
    "damage", [lambda x: x[:0], lambda x: x[: len(x) // 2], lambda x: x[:-1], lambda x: b"?" + x[1:]]
)
def test_a_damaged_library_counts_as_none(damage, folder, tmp_path):
    (whole,) = folder.iterdir()
    (tmp_path / whole.name).write_bytes(damage(whole.read_bytes()))
    assert not library.is_compiled(tmp_path)


THREADS = """
import sys
from pathlib import Path

import torch

from poslab.attention.distance import distance_attention, distance_attention_backward
from poslab.compiled import library

torch.set_num_threads(2)
library.load_kernel(Path(sys.argv[1]))
q, bias = torch.randn(8, 4, 64, 16), torch.randn(4, 127)
results = []
for _ in range(2):
    output, log_sum = distance_attention(q, q, q, bias, None, 0, 64, 0.3)
    outputs = (output, log_sum, True, 0, 64, 0.3)
    results.append(distance_attention_backward(output, q, q, q, bias, None, *outputs, *[None] * 5)[3])
    library.disable()
torch.testing.assert_close(*results, rtol=1e-4, atol=1e-3)
"""


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_another_openmp_has_the_threads_of_pytorch(compiler, folder, tmp_path):
    names = (compiler, *(f"{compiler}-{version}" for version in range(12, 24)))
    command = next(filter(shutil.which, names), None)
    if command is None:
        pytest.skip(f"there is no {compiler}")
    environment = {**os.environ, "CXX": command, "OMP_NUM_THREADS": "8"}
    is_made = library._compiler() == [shutil.which(command)]
    call = [sys.executable, "-c", THREADS, str(folder if is_made else tmp_path)]
    run = subprocess.run(call, env=environment, capture_output=True, text=True)
    if "NoKernelError" in run.stderr:
        pytest.skip(run.stderr.splitlines()[-1])
    assert run.returncode == 0, run.stderr


def test_the_gradient_of_a_bias_does_not_depend_on_the_number_of_threads():
    q, k, v, gradient = some(4, 3, 2, 100, 16)
    bias = some(2, 199, seed=1)
    before, gradients_of_bias = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        output, log_sum = distance_attention(q, k, v, bias, None, 0, 100, 0.3)
        inputs = (gradient, q, k, v, bias, None, output, log_sum, True, 0, 100, 0.3, *[None] * 5)
        gradients_of_bias.append(distance_attention_backward(*inputs)[3])
    torch.set_num_threads(before)
    assert torch.equal(gradients_of_bias[0], gradients_of_bias[1])
    assert torch.equal(gradients_of_bias[0], gradients_of_bias[2])


MEMORY = """
import sys
from pathlib import Path

import torch

from poslab.attention.distance import distance_attention, distance_attention_backward
from poslab.compiled import library


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def attend(length):
    q = torch.ones(1, 1, length, 16)
    output, log_sum = distance_attention(q, q, q, None, None, 0, length, 0.3)
    distance_attention_backward(q, q, q, q, None, None, output, log_sum, False, 0, length, 0.3, *[None] * 5)


torch.set_num_threads(1)
library.load_kernel(Path(sys.argv[1]))
attend(4096)
before = resident_mb()
for length in range(1000, 4096, 77):
    attend(length)
print(resident_mb() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="the memory of a process is not known")
def test_the_memory_of_many_lengths_is_bounded(folder):
    run = subprocess.run([sys.executable, "-c", MEMORY, str(folder)], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 32  # MB
