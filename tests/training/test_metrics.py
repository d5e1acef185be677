"""The early-stop iteration, and the trainings of one run told apart."""

from prunus.training import early_stop, trainings


def record(step, loss):
    return {"step": step, "val_loss": loss, "val_accuracy": 0.9}


def test_the_early_stop_is_the_first_lowest_validation_loss():
    records = [record(100, 0.5), record(200, 0.2), record(300, 0.2), record(400, 0.3)]
    assert early_stop(records) == record(200, 0.2)
    assert early_stop([record(100, None)]) is None
    assert early_stop([]) is None


def test_trainings_are_told_apart_and_count_their_own_steps():
    # the first of 300 steps, two more that begin at step 100
    begins = [(0, 0), (300, 100), (500, 100)]
    steps = [200, 300, 400, 500, 600, 700]
    found = trainings([record(step, 0.1) for step in steps], begins)
    assert [[one["step"] for one in own] for own in found] == [[200, 300], [200, 300], [200, 300]]
