"""What is no sparse matrix, or no step, is refused before a kernel sees it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus_engine import Program, SparseMatrix, pack

NO_BIAS = np.zeros(0, "f4")


def matrix(**changed):
    """Make a 4 x 3 matrix of two 2x1 blocks, but for what is changed."""
    given = {
        "rows": 4,
        "columns": 3,
        "height": 2,
        "starts": [0, 1, 2],
        "columns_of": [0, 2],
        "values": [1, 2, 3, 4],
    } | changed
    arrays = {
        "starts": np.array(given.pop("starts"), np.int64),
        "columns_of": np.array(given.pop("columns_of"), np.int64),
        "values": np.array(given.pop("values"), np.float32),
    }
    return SparseMatrix(**given, **arrays)


def test_a_sound_matrix_is_taken():
    found = matrix()
    assert (found.rows, found.columns, found.height, found.entries) == (4, 3, 2, 2)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"height": 3}, "1, 2, 4, 8 or 16 rows high, got 3"),
        ({"height": 0}, "rows high, got 0"),
        ({"rows": 0}, "at least one row"),
        ({"rows": -4}, "at least one row"),
        ({"rows": 2**40}, "fewer than 2"),
        ({"columns": 0}, "at least one row and column"),
        ({"columns": 2}, r"columns must be in \[0, 2\), got 2"),
        ({"columns_of": [0, -1]}, "got -1"),
        ({"columns_of": [0, 2**62]}, "columns must be in"),
        ({"starts": [0, 2, 1]}, "must go from 0 to the number of blocks"),
        ({"starts": [0, 3, 2]}, "must not fall, got 0 before 3"),
        ({"starts": [0, -1, 2]}, "must not fall"),
        ({"starts": [1, 1, 2]}, "must go from 0"),
        ({"starts": [0, 2]}, "must be 3 numbers"),
        ({"starts": []}, "must be 3 numbers"),
        ({"starts": [0, 0, 3]}, "must go from 0 to the number of blocks, 2"),
        ({"starts": [0, 2, 2], "columns_of": [1, 1]}, "must grow within a row"),
        ({"starts": [0, 2, 2], "columns_of": [2, 0]}, "must grow within a row"),
        ({"values": [1, 2, 3]}, "values must be 2 x 2, got 3"),
        ({"values": []}, "values must be 2 x 2"),
    ],
)
def test_a_matrix_that_is_none_is_refused(changed, told):
    with pytest.raises(ValueError, match=told):
        matrix(**changed)


@given(
    rows=st.integers(-2, 40),
    columns=st.integers(-2, 40),
    height=st.integers(-1, 17),
    starts=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 6), max_size=8),
    columns_of=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 41), max_size=8),
    values=st.integers(0, 64),
)
def test_numbers_at_random_never_reach_a_kernel_unchecked(
    rows, columns, height, starts, columns_of, values
):
    arrays = (np.array(starts, np.int64), np.array(columns_of, np.int64), np.zeros(values, "f4"))
    try:
        found = SparseMatrix(rows, columns, height, *arrays)
    except ValueError:
        return
    program = Program()
    before, after = program.buffer(columns), program.buffer(rows)
    program.view(before)[:] = 1
    program.linear(before, -1, after, 1, found, NO_BIAS)
    program.run(0, 1)
    assert (program.view(after) == 0).all()


@pytest.mark.parametrize(
    ("at", "value", "told"),
    [
        (0, 0, r"must be in \[1, 2"),
        (1, 4, "weights must have 4 columns, got 3"),
        (4, 9, "larger than the padded input"),
        (6, 0, "strides"),
        (8, -1, r"padding must be in \[0"),
        (14, 2, "groups must divide"),
        (0, 2, "floats, but buffer"),
        (2, 2**60, r"must be in \[1"),
    ],
)
def test_a_geometry_that_does_not_fit_is_refused(at, value, told):
    numbers = [1, 3, 4, 4, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1]
    program = Program()
    before, after = program.buffer(48), program.buffer(64)
    program.conv(before, -1, after, numbers, matrix(), NO_BIAS)
    numbers[at] = value
    with pytest.raises(ValueError, match=told):
        program.conv(before, -1, after, numbers, matrix(), NO_BIAS)


def test_steps_on_buffers_that_do_not_fit_are_refused():
    program = Program()
    small, large = program.buffer(2), program.buffer(64)
    outside = program.buffer(4, outside=True)
    for x, residual, y in ((small, -1, large), (large, -1, small), (outside, small, large)):
        with pytest.raises(ValueError, match="floats, but buffer"):
            program.linear(x, residual, y, 1, matrix(), NO_BIAS)
    for x, residual, y in ((large, -1, large), (outside, large, large), (large, large, large)):
        with pytest.raises(ValueError, match="write into what it reads"):
            program.linear(x, residual, y, 1, matrix(), NO_BIAS)
    with pytest.raises(ValueError, match="no buffer 9"):
        program.linear(9, -1, large, 1, matrix(), NO_BIAS)
    with pytest.raises(ValueError, match="bias must have 4"):
        program.linear(outside, -1, large, 1, matrix(), np.zeros(3, "f4"))
    with pytest.raises(ValueError, match="activation must be one of"):
        program.linear(outside, -1, large, 1, matrix(), NO_BIAS, "tanh")
    program.linear(outside, -1, large, 1, matrix(), NO_BIAS)
    with pytest.raises(ValueError, match="not bound"):
        program.run(0, 1)
    with pytest.raises(ValueError, match="must have 4 numbers, got 3"):
        program.bind(outside, np.zeros(3, "f4"))
    with pytest.raises(ValueError, match="program's own"):
        program.bind(large, np.zeros(64, "f4"))
    with pytest.raises(TypeError):
        program.bind(outside, np.zeros(4, "f8"))
    with pytest.raises(ValueError, match="there are 1 steps"):
        program.run(0, 2)
    program.bind(outside, np.zeros(4, "f4"))
    program.spread(0, 1, 0, 60)
    program.run(0, 1, 2)
    program.spread(0, 2, 0, 60)
    with pytest.raises(ValueError, match="do not hold 2 images"):
        program.run(0, 1, 2)
    with pytest.raises(ValueError, match="negative distance"):
        program.spread(0, 0, 0, -1)
    with pytest.raises(ValueError, match="no step 3"):
        program.tune(3)


def test_gates_that_do_not_fit_are_refused():
    program = Program()
    before, after = program.buffer(64), program.buffer(64)
    gates = pack(np.ones((8, 2), "f4"))
    program.lstm(before, after, 3, 1, pack(np.ones((8, 5), "f4")), gates, NO_BIAS)
    for times, rows, bias in ((0, 8, 0), (3, 4, 0), (3, 8, 7), (2**40, 8, 0)):
        with pytest.raises(ValueError, match=r"at least 1|four rows per unit|bias must have 8"):
            weight = pack(np.ones((rows, 5), "f4"))
            program.lstm(before, after, times, 1, weight, gates, np.zeros(bias, "f4"))


def test_a_program_is_of_instructions_that_are_there(monkeypatch):
    assert Program(1, "portable").instructions == "portable"
    with pytest.raises(ValueError, match="instructions must be those"):
        Program(1, "sse9")
    with pytest.raises(ValueError, match="threads must be in"):
        Program(0)
    monkeypatch.setenv("PRUNUS_ENGINE_ISA", "portable")
    assert Program().instructions == "portable"
    monkeypatch.setenv("PRUNUS_ENGINE_ISA", "sse9")
    with pytest.raises(ValueError, match="PRUNUS_ENGINE_ISA must name"):
        Program()


def test_weights_that_are_no_matrix_are_refused():
    with pytest.raises(ValueError, match="must be a matrix"):
        pack(np.zeros((2, 2, 2), "f4"))
    with pytest.raises(ValueError, match="height must be one of"):
        pack(np.zeros((2, 2), "f4"), 5)
