import pytest

from prunus.tracking import Sinks, sink

pytest.importorskip("tensorboard", reason="needs tensorboard")


def events(folder):
    """Read back every value of a folder's event files: (tag, step, number or text)."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    found = []
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                plugin = value.metadata.plugin_data.plugin_name
                content = make_ndarray(value.tensor).item() if plugin != "hparams" else None
                if isinstance(content, bytes):
                    content = content.decode()
                found.append((value.tag, event.step, content))
    return found


def test_a_run_that_goes_on_has_each_point_once_in_one_folder(tracked, records, tmp_path):
    page = tmp_path / "report.html"
    with (
        pytest.raises(KeyboardInterrupt),
        Sinks([sink("tensorboard", tmp_path)]).open(tracked) as log,
    ):
        log.curve("dense", records(2))
        raise KeyboardInterrupt
    for _ in range(2):
        with Sinks([sink(f"tensorboard:{tmp_path / 'tensorboard'}", tmp_path)]).open(
            tracked
        ) as log:
            log.curve("dense", records(1))
            log.curve("dense", records(3))
            log.finish({"fine-tuned/accuracy": 0.75}, page)
    found = events(tmp_path)
    assert {file.parent.name for file in tmp_path.rglob("events.*")} == {
        "lenet-1a2b-seed-0-01234567"
    }
    losses = [(step, value) for tag, step, value in found if tag == "dense/train_loss"]
    assert losses == [(4, 1.0), (8, 0.5), (12, pytest.approx(1 / 3))]
    texts = {tag: value for tag, _, value in found if tag.endswith("text_summary")}
    assert "train.lr = 0.1" in texts["recipe/text_summary"]
    assert str(page) in texts["report/text_summary"]
    assert ("final/fine-tuned/accuracy", 0, 0.75) in found
    tags = [tag for tag, _, _ in found]
    assert tags.count("_hparams_/session_start_info") == 1
    assert tags.count("final/fine-tuned/accuracy") == 1


def test_an_event_file_cut_off_by_a_kill_is_gone_on_with(tracked, records, tmp_path):
    with Sinks([sink("tensorboard", tmp_path)]).open(tracked) as log:
        log.curve("dense", records(3))
    (file,) = tmp_path.rglob("events.*")
    file.write_bytes(file.read_bytes()[:-10])
    with Sinks([sink("tensorboard", tmp_path)]).open(tracked) as log:
        log.curve("dense", records(3))
    for tag in ("dense/train_loss", "dense/lr"):
        assert [step for name, step, _ in events(tmp_path) if name == tag] == [4, 8, 12]
