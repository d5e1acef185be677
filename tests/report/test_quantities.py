import pytest

from prunus.report.quantities import count, interval, milliseconds, percent, size, times


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (count(0), "0"),
        (count(999), "999"),
        (count(269_722), "270 k"),
        (count(1_234_567), "1.23 M"),
        (count(40_813_184), "40.8 M"),
        (count(4.089e9), "4.09 G"),
        (size(0), "0 B"),
        (size(512), "512 B"),
        (size(1_122_304), "1.07 MiB"),
        (percent(0.4971), "49.7 %"),
        (percent(0.91234, 2), "91.23 %"),
        (milliseconds(0.03174), "0.0317 ms"),
        (milliseconds(1.184), "1.18 ms"),
        (milliseconds(123.4), "123 ms"),
        (times(1.7234), "1.72x"),
        (interval(0.679, 0.7012), "0.679 to 0.701"),
        (interval(None, 1.0), ""),
    ],
)
def test_three_figures_and_a_unit(shown, expected):
    assert shown == expected
