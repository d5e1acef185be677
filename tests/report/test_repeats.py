import pytest

from prunus.report.repeats import Entry, collapse, collapse_names


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.0.b", "a.1.b", "c"], ["a.{0,1}.b", "c"]),
        ([f"h.{k}.fc" for k in range(12)], ["h.{0-11}.fc"]),
        (["layer_9.fc", "layer_10.fc", "layer_12.fc"], ["layer_{9,10,12}.fc"]),
        (["a.0", "b.0"], ["a.0", "b.0"]),
        (["x.0.fc", "y", "x.1.fc"], ["x.{0,1}.fc", "y"]),
        (["s1.0.c", "s1.1.c", "s2.0.c", "s2.1.c"], ["s{1,2}.{0,1}.c"]),
        (["s1.0.c", "s1.1.c", "s2.0.c"], ["s1.{0,1}.c", "s2.0.c"]),
        (["q.0.conv[2]", "q.1.conv[2]", "q.0.conv"], ["q.{0,1}.conv[2]", "q.0.conv"]),
        (["conv2d_a", "conv3d_a"], ["conv2d_a", "conv3d_a"]),
        ([], []),
    ],
)
def test_names_that_differ_in_a_number_share_a_line(names, expected):
    assert collapse_names(names) == expected


def test_lines_keep_their_rows_and_only_equal_facts_are_joined():
    facts = [64, 64, 32, 64]
    lines = collapse(Entry(f"h.{k}.fc", (), fact) for k, fact in enumerate(facts))
    assert [(line.name, line.rows) for line in lines] == [
        ("h.{0,1,3}.fc", (0, 1, 3)),
        ("h.2.fc", (2,)),
    ]


def test_related_names_move_with_the_block():
    chain = [Entry(f"h.{k}", ((f"h.{k + 1}.x", "shared"),)) for k in range(3)]
    (line,) = collapse(chain)
    assert line.related == (("h.{1-3}.x", "shared"),)

    fixed = [Entry(f"h.{k}", (("h.0",),)) for k in range(3)]
    assert len(collapse(fixed)) == 3, "0 is another neighbour to each"
