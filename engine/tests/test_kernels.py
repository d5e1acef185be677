"""Every kernel, in every instruction set that the processor has, against float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunus_engine import HEIGHTS, Program, instructions, pack
from reference import ACTIVATIONS, convolved, run, sparse

EVERY = instructions()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("batch", [1, 3, 16, 37, 130])
def test_linear_layers(rng, isa, height, batch):
    for rows, columns in ((48, 64), (21, 37), (1, 1), (5, 300)):
        weight = sparse(rng, rows, columns, 0.2, height)
        x = rng.standard_normal((batch, columns)).astype("f4")
        bias = rng.standard_normal(rows).astype("f4")
        wanted = x.astype("f8") @ weight.T.astype("f8") + bias
        for tuning in ({}, {"packed": True}, {"width": 1, "near": 2000, "chunk": 2}):
            for threads in (1, 2):
                found = run(
                    "linear",
                    x,
                    weight,
                    out=(batch, rows),
                    numbers=[batch],
                    height=height,
                    bias=bias,
                    threads=threads,
                    instructions=isa,
                    tuning=tuning,
                )
                np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)


GEOMETRIES = {
    "1x1": [2, 12, 7, 7, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1],
    "3x3": [1, 8, 15, 13, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    "stride": [3, 4, 14, 14, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1],
    "stride without padding": [1, 6, 9, 40, 1, 1, 2, 2, 0, 0, 0, 0, 1, 1, 1],
    "stride of three": [1, 3, 20, 23, 7, 7, 3, 3, 3, 3, 3, 3, 1, 1, 1],
    "strides that differ": [1, 4, 11, 12, 3, 3, 1, 2, 1, 1, 1, 1, 1, 1, 1],
    "uneven padding": [2, 5, 8, 9, 3, 2, 1, 1, 0, 1, 2, 0, 1, 1, 1],
    "no padding": [1, 5, 12, 12, 5, 5, 1, 1, 0, 0, 0, 0, 1, 1, 1],
    "dilation": [1, 4, 13, 12, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2, 1],
    "dilation and stride": [1, 4, 13, 12, 3, 3, 2, 2, 3, 3, 3, 3, 3, 3, 1],
    "groups": [1, 8, 9, 9, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 2],
    "line": [2, 6, 1, 50, 1, 5, 1, 1, 0, 2, 0, 2, 1, 1, 1],
    "one pixel": [1, 16, 1, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    "wide": [1, 3, 4, 150, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1],
}


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_convolutions(rng, isa, height, name):
    numbers = GEOMETRIES[name]
    rows = 32 if numbers[-1] > 1 else 21
    weight = sparse(rng, rows, numbers[1] // numbers[-1] * numbers[4] * numbers[5], 0.2, height)
    x = rng.standard_normal(numbers[:4]).astype("f4")
    bias = rng.standard_normal(rows).astype("f4")
    wanted = convolved(x, weight, numbers) + bias[:, None, None]
    residual = rng.standard_normal(wanted.shape).astype("f4")
    wanted = np.clip(wanted + residual, 0, 6)
    for tuning in ({}, {"packed": True}, {"width": 2, "near": 1500, "chunk": 3}):
        for threads, shift in ((1, 1), (2, 0)):
            found = run(
                "conv",
                x,
                weight,
                out=wanted.shape,
                numbers=numbers,
                height=height,
                bias=bias,
                residual=residual,
                activation="clip",
                threads=threads,
                instructions=isa,
                tuning=tuning,
                shift=shift,
            )
            np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", ["3x3", "stride", "uneven padding", "dilation", "wide"])
def test_depthwise_convolutions(rng, isa, times, name):
    numbers = [*GEOMETRIES[name][:-1], GEOMETRIES[name][1]]
    weight = rng.standard_normal((numbers[1] * times, numbers[4] * numbers[5])).astype("f4")
    x = rng.standard_normal(numbers[:4]).astype("f4")
    bias = rng.standard_normal(len(weight)).astype("f4")
    wanted = convolved(x, weight, numbers) + bias[:, None, None]
    residual = rng.standard_normal(wanted.shape).astype("f4")
    found = run(
        "depthwise",
        x,
        weight,
        out=wanted.shape,
        numbers=numbers,
        bias=bias,
        residual=residual,
        activation="clip",
        instructions=isa,
        shift=3,
    )
    np.testing.assert_allclose(found, np.clip(wanted + residual, 0, 6), rtol=0, atol=2e-5)


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("batch", [1, 20])
def test_activations_far_and_near(isa, activation, batch):
    x = np.concatenate([np.linspace(-90, 90, 181), np.linspace(-4, 4, 99)]).astype("f4")
    x = np.repeat(x[None], batch, 0)
    with np.errstate(over="ignore"):
        wanted = ACTIVATIONS[activation](x.astype("f8"))
    found = run(
        "linear",
        x,
        np.eye(x.shape[1], dtype="f4"),
        out=x.shape,
        numbers=[batch],
        activation=activation,
        instructions=isa,
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("height", HEIGHTS)
def test_empty_rows_and_no_weights_at_all(rng, isa, height):
    weight = sparse(rng, 33, 40, 0.1, height)
    weight[:16] = 0
    for one in (weight, np.zeros_like(weight)):
        for batch in (1, 17):
            x = rng.standard_normal((batch, 40)).astype("f4")
            bias = np.arange(33, dtype="f4")
            for tuning in ({}, {"near": 300, "chunk": 1}):
                found = run(
                    "linear",
                    x,
                    one,
                    out=(batch, 33),
                    numbers=[batch],
                    height=height,
                    bias=bias,
                    instructions=isa,
                    tuning=tuning,
                )
                wanted = x.astype("f8") @ one.T.astype("f8") + bias
                np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("batch", [1, 18])
def test_the_smallest_numbers_are_not_flushed(isa, batch):
    tiny = np.float32(1e-42)
    x = np.full((batch, 8), tiny, "f4")
    weight = np.zeros((3, 8), "f4")
    weight[0, 2] = weight[2, :3] = 1
    found = run("linear", x, weight, out=(batch, 3), numbers=[batch], instructions=isa)
    assert (found == np.array([tiny, 0, 3 * tiny], "f4")).all() and found[0, 0] > 0


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_reaches_what_reads_it_and_nothing_else(isa, activation, value):
    for batch in (1, 18):
        x = np.ones((batch, 6), "f4")
        x[0, 1] = value
        weight = np.zeros((2, 6), "f4")
        weight[0, 1] = weight[1, 2] = 1
        found = run(
            "linear",
            x,
            weight,
            out=(batch, 2),
            numbers=[batch],
            activation=activation,
            instructions=isa,
        )
        wanted = 6.0 if activation == "clip" and value == np.inf else value
        np.testing.assert_equal(found[0, 0], np.float32(wanted))
        assert np.isfinite(found[1:]).all() and np.isfinite(found[:, 1]).all()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_single_weights_times_vectors_of_any_shape(data):
    draw = data.draw
    batch, rows, columns = (draw(st.integers(1, most)) for most in (2, 70, 150))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weight = sparse(rng, rows, columns, draw(st.floats(0, 1)), 1)
    x = rng.standard_normal((batch, columns)).astype("f4")
    wanted = x.astype("f8") @ weight.T.astype("f8")
    if draw(st.booleans()):  # what is no number reaches what reads it only
        column = draw(st.integers(0, columns - 1))
        x[-1, column] = np.inf
        reads = weight[:, column] != 0
        wanted[-1, reads] = np.sign(weight[reads, column]) * np.inf
    found = run(
        "linear",
        x,
        weight,
        out=wanted.shape,
        numbers=[batch],
        threads=draw(st.sampled_from([1, 2])),
        instructions=draw(st.sampled_from(EVERY)),
        tuning={"packed": True},
        shift=draw(st.integers(0, 15)),
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-5)


def test_many_single_weights_are_shared_among_threads(rng):
    weight = sparse(rng, 1001, 1000, 0.1, 1)
    x = rng.standard_normal((1, 1000)).astype("f4")
    for value in (0.5, np.nan):
        x[0, 77] = value
        one, two = (run("linear", x, weight, out=(1, 1001), numbers=[1], threads=n) for n in (1, 2))
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(np.isnan(one[0]), np.isnan(x[0, 77]) & (weight[:, 77] != 0))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_convolutions_of_any_shape(data):
    draw = data.draw
    few = st.integers(1, 3)
    kernel, strides, dilations = ([draw(few), draw(few)] for _ in range(3))
    pads = [draw(st.integers(0, 2)) for _ in range(4)]
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    size = [
        draw(st.integers(max(1, r - a - b), 24))
        for r, a, b in zip(reach, pads[:2], pads[2:], strict=True)
    ]
    groups = draw(st.sampled_from([1, 1, 2]))
    channels, rows = groups * draw(st.integers(1, 6)), groups * draw(st.integers(1, 20))
    numbers = [draw(few), channels, *size, *kernel, *strides, *pads, *dilations, groups]
    fits = [h for h in HEIGHTS if groups == 1 or rows // groups % h == 0]
    height = draw(st.sampled_from(fits))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    columns = channels // groups * kernel[0] * kernel[1]
    weight = sparse(rng, rows, columns, draw(st.floats(0, 1)), height)
    x = rng.standard_normal(numbers[:4]).astype("f4")
    wanted = convolved(x, weight, numbers)
    numbers_of = st.integers(0, 8)
    found = run(
        "conv",
        x,
        weight,
        out=wanted.shape,
        numbers=numbers,
        height=height,
        threads=draw(st.sampled_from([1, 2])),
        instructions=draw(st.sampled_from(EVERY)),
        tuning={
            "width": draw(numbers_of),
            "near": draw(st.sampled_from([0, 64, 500, 4000])),
            "chunk": draw(numbers_of),
            "packed": draw(st.booleans()),
        },
        shift=draw(st.integers(0, 15)),
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-5)


@pytest.mark.parametrize("isa", EVERY)
@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("batch", [1, 18])
def test_long_short_term_memory(rng, isa, height, batch):
    times, inputs, units = 5, 12, 20
    both = sparse(rng, 4 * units, inputs + units, 0.3, height)
    bias = rng.standard_normal(4 * units).astype("f4")
    x = rng.standard_normal((times, batch, inputs)).astype("f4")
    cell, state = np.zeros((batch, units)), np.zeros((batch, units))
    wanted = []
    for time in range(times):
        sums = np.concatenate([x[time], state], axis=1) @ both.T.astype("f8") + bias
        i, o, f, c = np.split(sums, 4, axis=1)
        i, o, f = (1 / (1 + np.exp(-gate)) for gate in (i, o, f))
        cell = f * cell + i * np.tanh(c)
        state = o * np.tanh(cell)
        wanted.append(state)
    for threads in (1, 2):
        program = Program(threads, isa)
        before, after = program.buffer(x.size), program.buffer(times * batch * units)
        program.view(before)[:] = x.reshape(-1)
        parts = (pack(both[:, :inputs], height), pack(both[:, inputs:], height))
        program.lstm(before, after, times, batch, *parts, bias)
        program.run(0, 1)
        found = program.view(after).reshape(times, batch, units)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("name", ["3x3", "stride", "uneven padding"])
def test_pooling(rng, average, name):
    numbers = [*GEOMETRIES[name][:-1], 1]
    numbers[9] = min(numbers[9], numbers[5] - 1)
    x = rng.standard_normal(numbers[:4]).astype("f4")
    top, left, bottom, right = numbers[8:12]
    fill = 0 if average else -np.inf
    padded = np.pad(
        x.astype("f8"), ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, numbers[4:6], axis=(2, 3))
    windows = windows[:, :, :: numbers[6], :: numbers[7]]
    wanted = windows.mean((-1, -2)) if average else windows.max((-1, -2))
    program = Program()
    before, after = program.buffer(x.size), program.buffer(wanted.size)
    program.view(before)[:] = x.reshape(-1)
    program.pooling(before, after, numbers, average, True)
    program.run(0, 1)
    found = program.view(after).reshape(wanted.shape)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_tuning_leaves_the_result_as_it_is(rng):
    numbers = GEOMETRIES["3x3"]
    weight = sparse(rng, 32, 72, 0.2, 4)
    x = rng.standard_normal(numbers[:4]).astype("f4")
    wanted = convolved(x, weight, numbers)
    program = Program()
    before, after = program.buffer(x.size), program.buffer(wanted.size)
    program.view(before)[:] = x.reshape(-1)
    step = program.conv(before, -1, after, numbers, pack(weight, 4), np.zeros(0, "f4"))
    tuning, ms = program.measure(step, 1)
    assert set(tuning) == {"width", "near", "chunk", "packed"} and ms > 0
    program.view(after)[:] = np.nan
    program.run(0, 1)
    np.testing.assert_allclose(program.view(after).reshape(wanted.shape), wanted, atol=2e-5)
