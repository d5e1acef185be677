"""Energy from counters such as Linux has them, which are files here."""

import pytest

from prunus.deploy.energy import joules, meter

FULL = 1_000_000


def zone(root, name, kind, energy, full=FULL - 1):
    folder = root / name
    folder.mkdir()
    (folder / "name").write_text(f"{kind}\n")
    (folder / "energy_uj").write_text(f"{energy}\n")
    (folder / "max_energy_range_uj").write_text(f"{full}\n")
    return folder / "energy_uj"


def test_packages_are_summed_and_their_parts_left_out(tmp_path):
    first = zone(tmp_path, "intel-rapl:0", "package-0", 100)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 0)
    part = zone(tmp_path, "intel-rapl:0:0", "core", 0)
    other = zone(tmp_path, "intel-rapl:2", "psys", 0)
    counters = meter(tmp_path)
    before = counters.read()
    for file, value in ((first, 400), (second, 50), (part, 9999), (other, 9999)):
        file.write_text(str(value))
    assert counters.joules_since(before) == pytest.approx(350e-6)


def test_a_counter_starts_again(tmp_path):
    file = zone(tmp_path, "intel-rapl:0", "package-0", FULL - 100)
    counters = meter(tmp_path)
    before = counters.read()
    file.write_text("50")
    assert counters.joules_since(before) == pytest.approx(150e-6)


def test_nothing_to_read_is_no_meter(tmp_path):
    assert meter(tmp_path / "none") is None
    assert meter(tmp_path) is None
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    zone(tmp_path, "intel-rapl:1", "package-1", 1).unlink()
    assert meter(tmp_path) is None


def test_energy_of_one_inference(tmp_path):
    file = zone(tmp_path, "intel-rapl:0", "package-0", 0, full=10**9)
    now = 0.0

    def run_for(microjoules, seconds):
        def run():
            nonlocal now
            now += seconds
            file.write_text(str(int(file.read_text()) + microjoules))

        return run

    runs = {"small": run_for(7, 0.01), "large": run_for(700, 0.2)}
    found = joules(runs, meter(tmp_path), clock=lambda: now)
    assert found == {"small": pytest.approx(7e-6), "large": pytest.approx(700e-6)}
